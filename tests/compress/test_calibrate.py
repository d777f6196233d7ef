"""Temperature scaling against hand numbers and a grid."""

from __future__ import annotations

import math

import numpy as np
import pytest

from edgeft.compress import calibrate


def test_nll_and_brier_by_hand() -> None:
    logits, labels = np.array([[math.log(3), 0.0], [0.0, 0.0]]), np.array([0, 1])
    assert calibrate.nll(logits, labels) == pytest.approx((-math.log(0.75) + math.log(2)) / 2)
    assert calibrate.brier(calibrate.probabilities(logits), labels) == pytest.approx((2 * 0.0625 + 2 * 0.25) / 2)


def test_calibration_error_by_hand() -> None:
    chances = np.array([[0.9, 0.1], [0.9, 0.1], [0.6, 0.4], [0.2, 0.8]])
    # bins of confidence: two at 0.9 (one right: gap 0.4), 0.6 (right: 0.4), 0.8 (wrong: 0.8)
    labels = np.array([0, 1, 0, 0])
    assert calibrate.expected_calibration_error(chances, labels, 10) == pytest.approx((2 * 0.4 + 0.4 + 0.8) / 4)


def test_a_confidence_of_one_counts_to_the_last_bin() -> None:
    assert calibrate.expected_calibration_error(np.array([[1.0, 0.0]]), np.array([0]), 5) == 0.0


def test_the_fitted_temperature_is_the_best_of_a_grid() -> None:
    generator = np.random.default_rng(0)
    true = generator.normal(size=(4000, 3))
    labels = np.array([generator.choice(3, p=row) for row in calibrate.probabilities(true)])
    overconfident = 2.5 * true
    fitted = calibrate.fit_temperature(overconfident, labels)
    grid = np.linspace(0.5, 6, 221)
    best = grid[np.argmin([calibrate.nll(overconfident, labels, temperature) for temperature in grid])]
    assert fitted == pytest.approx(best, abs=0.03)
    assert fitted == pytest.approx(2.5, rel=0.1)
    before = calibrate.figures(overconfident, labels, 1.0, 15)
    after = calibrate.figures(overconfident, labels, fitted, 15)
    assert after["ece"] < before["ece"] / 3
    assert after["nll"] < before["nll"]


def test_answers_stay_the_same_at_any_temperature() -> None:
    logits = np.random.default_rng(1).normal(size=(50, 4))
    assert (calibrate.probabilities(logits, 0.3).argmax(1) == logits.argmax(1)).all()


def test_all_answers_right_have_no_optimum_and_keep_temperature_1() -> None:
    temperature, method = calibrate.chosen_temperature(np.array([[3.0, 0.0], [0.0, 3.0]]), np.array([0, 1]))
    assert temperature == 1.0
    assert method == "none: all 2 validation rows are answered right, which no temperature fits best"


def test_all_answers_wrong_have_no_optimum_either() -> None:
    temperature, method = calibrate.chosen_temperature(np.array([[3.0, 0.0], [0.0, 3.0]]), np.array([1, 0]))
    assert temperature == 1.0
    assert method == "none: no optimum between 0.05 and 20.0 on 2 validation rows"

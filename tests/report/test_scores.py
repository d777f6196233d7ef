"""The report's figures against numbers worked out by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest

from edgeft.report import scores

PROBABILITIES = np.array([[0.9, 0.1], [0.2, 0.8], [0.6, 0.4], [0.3, 0.7]], dtype=np.float32)
LABELS = np.array([0, 1, 1, 0])  # right, right, wrong, wrong


def test_bins_and_calibration_error_by_hand() -> None:
    found = scores.bins(PROBABILITIES, LABELS, number=2)
    assert found.counts.tolist() == [0, 4]
    assert found.correct.tolist() == [0, 2]
    assert found.confidence == pytest.approx([0.0, 0.75], abs=1e-6)
    assert found.calibration_error == pytest.approx(0.25, abs=1e-6)


def test_a_bin_holds_its_upper_edge_and_certainty_is_in_the_last() -> None:
    found = scores.bins(np.array([[1.0, 0.0], [0.5, 0.5]]), np.array([0, 0]), number=2)
    assert found.counts.tolist() == [1, 1]


def test_the_error_by_chance_is_that_of_drawn_truths() -> None:
    """A slow twin: every truth of three answers with its chance, one bin."""
    confidence = [0.9, 0.7, 0.6]
    expected = 0.0
    for truth in range(8):
        right = [bool(truth >> place & 1) for place in range(3)]
        chance = math.prod([own if hit else 1 - own for own, hit in zip(confidence, right, strict=True)])
        expected += chance * abs(sum(right) - sum(confidence)) / 3
    probabilities = np.array([[own, 1 - own] for own in confidence])
    assert scores.chance_error(probabilities, 1, draws=20_000) == pytest.approx(expected, abs=0.003)
    assert scores.chance_error(np.array([[1.0, 0.0]])) == 0.0


def test_likelihood_and_brier_by_hand() -> None:
    nll = -np.log([0.9, 0.8, 0.4, 0.3]).mean()
    assert scores.negative_log_likelihood(PROBABILITIES, LABELS) == pytest.approx(nll, rel=1e-5)
    assert scores.brier(PROBABILITIES, LABELS) == pytest.approx((0.02 + 0.08 + 0.72 + 0.98) / 4, rel=1e-5)


def test_confusion_counts_true_by_predicted() -> None:
    assert scores.confusion(PROBABILITIES, LABELS).tolist() == [[1, 1], [1, 1]]
    never = scores.confusion(np.array([[0.6, 0.3, 0.1]] * 2), np.array([0, 2]))
    assert never.tolist() == [[1, 0, 0], [0, 0, 0], [1, 0, 0]]


def test_mistakes_are_the_most_confident_first() -> None:
    assert scores.mistakes(PROBABILITIES, LABELS, 5) == [3, 2]
    assert scores.mistakes(PROBABILITIES, LABELS, 1) == [3]


def test_wilson_by_hand() -> None:
    assert scores.wilson_interval(8, 10) == pytest.approx((0.4902, 0.9433), abs=1e-4)
    assert scores.wilson_interval(0, 0) == (0.0, 1.0)
    assert scores.wilson_interval(10, 10)[1] == pytest.approx(1.0)


def test_matched_shares_by_hand() -> None:
    """None apart: n d = 1.96 sqrt(n d (1 - d)), so d = 1.96^2 / (n + 1.96^2). As many apart on both sides, many rows:
    Wald's 1.96 sqrt(2 * 500) / n.
    """
    least = 1.959964**2 / (3 + 1.959964**2)
    assert scores.matched_interval(0, 0, 3) == pytest.approx((-least, least), abs=1e-6)
    assert scores.matched_interval(500, 500, 10_000) == pytest.approx((-0.0062, 0.0062), abs=5e-5)
    assert scores.matched_interval(12, 24, 400) == tuple(-end for end in reversed(scores.matched_interval(24, 12, 400)))
    assert scores.matched_interval(3, 0, 3)[1] == pytest.approx(1.0)


@pytest.mark.parametrize(("rows", "loss"), [(100, 0.01), (200, 0.005), (1000, 0.002)])
def test_matched_shares_hold_a_small_loss(rows: int, loss: float) -> None:
    """Few rows apart: of drawn pairs of subjects 95% of the intervals hold the true loss, give or take two."""
    drawn = np.random.default_rng(0).multinomial(rows, [loss, 0, 1 - loss], size=2000)
    held = [
        low <= loss <= high
        for low, high in (scores.matched_interval(more, less, rows) for more, less, _ in drawn.tolist())
    ]
    assert np.mean(held) >= 0.93

"""Temperature, vector and isotonic scaling against hand numbers, grids and scikit-learn; and the choice among them."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.special import softmax
from sklearn.isotonic import IsotonicRegression
from sklearn.linear_model import LogisticRegression

from edgeft.artifact import Calibration
from edgeft.compress.calibrate import scaling


def drawn(logits: np.ndarray, seed: int = 0) -> np.ndarray:
    """Labels of which the softmax of the logits tells the chances."""
    generator = np.random.default_rng(seed)
    return np.array([generator.choice(logits.shape[1], p=row) for row in softmax(logits, axis=1)])


def nll(calibration: Calibration, logits: np.ndarray, labels: np.ndarray) -> float:
    return float(scaling.row_nll(scaling.apply_calibration(calibration, logits, labels.ndim == 2), labels).mean())


TRUE = np.random.default_rng(0).normal(size=(2000, 3))
LABELS = drawn(TRUE)


def test_likelihood_by_hand() -> None:
    logits = np.array([[math.log(3), 0.0], [0.0, 0.0]])
    assert scaling.row_nll(logits, np.array([0, 1])) == pytest.approx([-math.log(0.75), math.log(2)])
    assert scaling.row_nll(logits, np.array([[1, 0], [0, 1]])) == pytest.approx(
        [(-math.log(0.75) + math.log(2)) / 2, math.log(2)]
    )


def test_calibrated_logits_by_hand() -> None:
    logits = np.array([[2.0, 0.0]])
    assert scaling.apply_calibration(Calibration(method="temperature", temperature=4.0), logits, False).tolist() == [
        [0.5, 0.0]
    ]
    vector = Calibration(method="vector", scale=[0.5, 3.0], bias=[1.0, -1.0])
    assert scaling.apply_calibration(vector, logits, False).tolist() == [[2.0, -1.0]]
    table = [(0.0, 0.2), (0.5, 0.2), (1.0, 0.8)]
    isotonic = Calibration(method="isotonic", isotonic=[table, table])
    # scores 0.75 and 0.25 become 0.5 and 0.2, together 0.7
    values = scaling.apply_calibration(isotonic, np.array([[math.log(3), 0.0]]), several=False)
    assert scaling.to_probabilities(values, False)[0] == pytest.approx([0.5 / 0.7, 0.2 / 0.7])
    values = scaling.apply_calibration(isotonic, np.array([[math.log(3), -math.log(3)]]), several=True)
    assert scaling.to_probabilities(values, True)[0] == pytest.approx([0.5, 0.2])


def test_the_fitted_temperature_is_the_best_of_a_grid() -> None:
    fitted = scaling.fit_temperature(2.5 * TRUE, LABELS)
    grid = np.linspace(0.5, 6, 221)
    made = [Calibration(method="temperature", temperature=float(value)) for value in grid]
    best = grid[np.argmin([nll(one, 2.5 * TRUE, LABELS) for one in made])]
    assert fitted.temperature == pytest.approx(best, abs=0.03)
    assert fitted.temperature == pytest.approx(2.5, rel=0.1)


def test_no_step_away_from_the_fitted_vector_is_better() -> None:
    logits, labels = TRUE[:400] * [0.5, 1.0, 2.0] + [1.0, 0.0, -1.0], LABELS[:400]
    fitted = scaling.fit_vector(logits, labels)
    values = np.array([*fitted.scale, *fitted.bias])

    def loss(parameters: np.ndarray) -> float:
        total = sum(
            -math.log(softmax([z * s + b for z, s, b in zip(row, parameters[:3], parameters[3:], strict=True)])[label])
            for row, label in zip(logits, labels, strict=True)
        )
        return float(total + 0.5 * sum((parameters - [1, 1, 1, 0, 0, 0]) ** 2))

    at = loss(values)
    for place in range(6):
        for step in (-0.03, 0.03):
            assert loss(values + step * np.eye(6)[place]) > at
    assert np.ptp(np.array(fitted.scale) * [0.5, 1.0, 2.0]) < 0.35  # the distortion is taken back


def test_the_vector_of_several_labels_is_a_logistic_regression_of_each() -> None:
    generator = np.random.default_rng(1)
    logits = generator.normal(size=(5000, 2)) * 2
    labels = (generator.random((5000, 2)) < scaling.to_probabilities(logits * [0.5, 2.0] + [1.0, -1.0], True)).astype(
        int
    )
    fitted = scaling.fit_vector(logits, labels)
    for column in range(2):
        platt = LogisticRegression(C=np.inf).fit(logits[:, [column]], labels[:, column])
        assert fitted.scale[column] == pytest.approx(platt.coef_[0, 0], abs=0.02)
        assert fitted.bias[column] == pytest.approx(platt.intercept_[0], abs=0.02)


@pytest.mark.parametrize("several", [False, True])
def test_isotonic_tables_are_those_of_scikit_learn(several: bool) -> None:
    logits = 2 * TRUE[:300]
    labels = np.eye(3, dtype=int)[LABELS[:300]] if several else LABELS[:300]
    fitted = scaling.fit_isotonic(logits, labels)
    unseen = 2 * TRUE[300:900]
    given = scaling.to_probabilities(scaling.apply_calibration(fitted, unseen, several), several)
    columns = []
    for column in range(3):
        wanted = labels[:, column] if several else labels == column
        own = IsotonicRegression(y_min=1 / 302, y_max=301 / 302, out_of_bounds="clip")
        own.fit(scaling.to_probabilities(logits, several)[:, column].round(6), wanted)
        columns.append(own.predict(scaling.to_probabilities(unseen, several)[:, column]))
    expected = np.stack(columns, axis=1)
    np.testing.assert_allclose(
        given, expected if several else expected / expected.sum(axis=1, keepdims=True), atol=1e-9
    )


def test_answers_stay_the_same_at_any_temperature() -> None:
    warm = scaling.apply_calibration(Calibration(method="temperature", temperature=0.3), TRUE, False)
    assert (warm.argmax(axis=1) == TRUE.argmax(axis=1)).all()


# ----------------------------------------------------------------------------------------------------------- the choice


def test_the_choice_is_made_on_rows_that_a_fit_has_not_seen() -> None:
    """A slow twin of the cross-validation: fold by fold, row by row."""
    logits, labels = 2.5 * TRUE[:60], LABELS[:60]
    found = scaling.choose(logits, labels, seed=3)
    order, total = np.random.default_rng(3).permutation(60), 0.0
    for fold in range(5):
        out = order[12 * fold : 12 * (fold + 1)]
        others = [row for row in range(60) if row not in out]
        made = scaling.fit_temperature(logits[others], labels[others])
        total -= sum(math.log(softmax(logits[row] / made.temperature)[labels[row]]) for row in out)
    assert found.cross_validation["temperature"] == pytest.approx(total / 60)
    assert found.cross_validation["none"] == pytest.approx(scaling.row_nll(logits, labels).mean())
    assert f"temperature {total / 60:.4f}" in found.reason


def test_a_temperature_that_tells_nothing_is_not_taken() -> None:
    """Calibrated already, 35 rows: a temperature fitted on them makes unseen rows worse, and nearly always loses."""
    worse, taken = 0, 0
    for seed in range(20):
        logits = np.random.default_rng(seed).normal(size=(2035, 2)) * 3
        labels = drawn(logits, seed)
        found = scaling.choose(logits[:35], labels[:35], seed=0)
        taken += found.method != "none"
        worse += nll(scaling.fit_temperature(logits[:35], labels[:35]), logits[35:], labels[35:]) > nll(
            Calibration(), logits[35:], labels[35:]
        )
    assert worse >= 18
    assert taken <= 3
    assert scaling.choose(TRUE[:35], LABELS[:35], seed=0).reason.startswith(
        "no other is clearly better in 5-fold cross-validation on 35 validation rows (NLL: none "
    )


def test_the_simplest_that_is_clearly_better_is_taken() -> None:
    assert scaling.choose(TRUE, LABELS, seed=0).method == "none"
    assert scaling.choose(2.5 * TRUE, LABELS, seed=0).method == "temperature"
    distorted = TRUE + np.array([2.0, 0.0, -2.0])
    assert scaling.choose(distorted, LABELS, seed=0).method == "vector"
    assert scaling.choose(distorted, LABELS, seed=0, keep_answers=True).keeps_answers
    assert "vector" not in scaling.choose(distorted, LABELS, seed=0, keep_answers=True).cross_validation


def test_a_better_likelihood_that_costs_right_answers_is_not_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    # Out of fold, 40 sure rows get surer and one right answer is lost.
    logits, labels = np.tile([1.0, 0.0], (41, 1)), np.zeros(41, dtype=int)
    worse = np.tile([3.0, 0.0], (41, 1))
    worse[0] = [0.0, 0.1]
    made = {"none": logits, "temperature": logits, "vector": worse}
    monkeypatch.setattr(scaling, "_fit_out_of_fold", lambda name, *_: made[name])
    assert scaling.choose(logits, labels, seed=0).method == "none"


# ---------------------------------------------------------------------------------------------------------------- edges


@pytest.mark.parametrize("method", ["auto", "temperature", "vector", "isotonic"])
def test_all_answers_right_change_nothing(method: str) -> None:
    found = scaling.fit(method, np.array([[3.0, 0.0], [0.0, 3.0]]), np.array([0, 1]), seed=0)
    assert (found.method, found.temperature) == ("none", 1.0)
    assert found.reason == "all 2 validation rows are answered right, which nothing fits best"


def test_all_answers_wrong_have_no_temperature() -> None:
    found = scaling.fit("temperature", np.array([[3.0, 0.0], [0.0, 3.0]]), np.array([1, 0]), seed=0)
    assert found == Calibration(reason="no optimum between 0.05 and 20.0 on 2 validation rows")


@pytest.mark.parametrize("method", ["auto", "temperature", "vector", "isotonic"])
@pytest.mark.parametrize("several", [False, True])
def test_one_row_and_labels_that_are_never_given_or_right(method: str, several: bool) -> None:
    for logits, answers in ((np.array([[1.0, 2.0, -9.0]]), [0]), (TRUE[:50] - [0, 0, 50], [0, 1] * 25)):
        labels = np.eye(3, dtype=int)[answers] if several else np.array(answers)
        found = scaling.fit(method, logits, labels, seed=0)
        chances = scaling.to_probabilities(scaling.apply_calibration(found, logits, several), several)
        assert np.isfinite(chances).all()
        assert np.isfinite(scaling.row_nll(scaling.apply_calibration(found, logits, several), labels)).all()
        assert chances[:, 2].max() < 0.5

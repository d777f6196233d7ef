from __future__ import annotations

import math

import numpy as np
import pytest

from edgeft.errors import TrainingError
from edgeft.train import metrics

THREE = np.log(np.array([[0.5, 0.3, 0.2], [0.1, 0.8, 0.1], [0.6, 0.2, 0.2], [0.25, 0.15, 0.6]]))
THREE_LABELS = np.array([0, 1, 1, 2])


@pytest.mark.filterwarnings("error")
def test_two_labels_by_hand() -> None:
    logits = np.array([[0.0, -2.0], [0.0, -1.0], [0.0, 3.0], [0.0, 2.0]])
    labels = np.array([0, 0, 0, 1])
    figures = metrics.single_label(logits, labels)
    assert figures.items() >= metrics.classification(logits, labels).items()
    assert figures["micro_f1"] == figures["accuracy"] == 0.75
    # Of label 0 two are found, both right, of three; of label 1 two, one of them right, of one.
    assert figures["macro_precision"] == pytest.approx((1 + 1 / 2) / 2)
    assert figures["macro_recall"] == pytest.approx((2 / 3 + 1) / 2)
    # One hit, two right refusals, one false alarm, no miss.
    assert figures["mcc"] == pytest.approx((1 * 2 - 1 * 0) / math.sqrt(2 * 1 * 3 * 2))
    # The row of label 1 stands above two of the three others.
    assert figures["auroc"] == pytest.approx(2 / 3)


@pytest.mark.filterwarnings("error")
def test_auroc_of_three_labels_is_the_mean_of_each_against_the_rest() -> None:
    expected = (2 / 3 + 3 / 4 + 1) / 3
    assert metrics.single_label(THREE, THREE_LABELS)["auroc"] == pytest.approx(expected)
    # A label that the truth doesn't have is not asked for.
    fourth = np.concatenate([THREE, np.full((4, 1), -9.0)], axis=1)
    assert metrics.single_label(fourth, THREE_LABELS)["auroc"] == pytest.approx(expected)


def test_auroc_sees_the_ranking_of_sure_answers() -> None:
    logits = np.array([[0.0, 100.0], [0.0, 200.0]], dtype=np.float32)
    assert metrics.single_label(logits, np.array([0, 1]))["auroc"] == 1.0


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("rows", [1, 3])
def test_where_the_truth_has_one_label(rows: int) -> None:
    figures = metrics.single_label(np.array([[5.0, 0.0]] * rows), np.zeros(rows, dtype=np.int64))
    assert "auroc" not in figures
    assert "mcc" not in figures
    assert figures["accuracy"] == figures["macro_recall"] == 1.0


@pytest.mark.filterwarnings("error")
def test_a_model_that_always_says_the_same() -> None:
    figures = metrics.single_label(np.array([[5.0, 0.0]] * 2), np.array([0, 1]))
    assert figures["mcc"] == 0.0
    assert figures["auroc"] == 0.5
    assert figures["macro_precision"] == 0.25


def test_no_rows() -> None:
    for measure in (metrics.classification, metrics.single_label):
        with pytest.raises(TrainingError, match="no rows"):
            measure(np.empty((0, 2)), np.empty(0, dtype=np.int64))


LOGITS = np.array([[2.0, -1.0, -1.0, -9.0], [1.0, 3.0, -1.0, -9.0], [-1.0, -1.0, -5.0, -9.0]])
TARGETS = np.array([[1, 0, 1, 0], [0, 1, 0, 0], [0, 0, 0, 0]])


@pytest.mark.filterwarnings("error")
def test_multi_label_by_hand() -> None:
    figures = metrics.multi_label(LOGITS, TARGETS)
    assert figures["subset_accuracy"] == pytest.approx(1 / 3)  # the row without labels
    assert figures["micro_f1"] == pytest.approx(2 * 2 / (2 * 2 + 1 + 1))  # two hits, a false alarm, a miss
    assert figures["macro_f1"] == pytest.approx((2 / 3 + 1 + 0) / 3)  # the fourth label occurs nowhere
    of_each = metrics.per_label_f1(LOGITS, TARGETS, ["a", "b", "c", "d"])
    assert of_each == pytest.approx({"a": 2 / 3, "b": 1.0, "c": 0.0})


def test_a_label_is_given_at_the_threshold() -> None:
    half = np.zeros((1, 1))
    assert metrics.multi_label(half, np.ones((1, 1)))["subset_accuracy"] == 1.0
    assert metrics.multi_label(half, np.ones((1, 1)), threshold=0.6)["subset_accuracy"] == 0.0


@pytest.mark.filterwarnings("error")
def test_multi_label_without_any_label() -> None:
    figures = metrics.multi_label(np.full((2, 3), -1.0), np.zeros((2, 3)))
    assert figures == {"subset_accuracy": 1.0}


def test_multi_label_refuses_what_is_not_finite() -> None:
    with pytest.raises(TrainingError, match="the logits of 1 of 3 rows are not finite"):
        metrics.multi_label(np.where(LOGITS == 3.0, np.nan, LOGITS), TARGETS)
    with pytest.raises(TrainingError, match="no rows"):
        metrics.multi_label(np.empty((0, 2)), np.empty((0, 2)))

from __future__ import annotations

import math

import numpy as np
import pytest

from edgeft.errors import TrainingError
from edgeft.train import metrics


def test_classification_by_hand() -> None:
    logits = np.log(np.array([[0.5, 0.3, 0.2], [0.1, 0.8, 0.1], [0.6, 0.2, 0.2], [0.2, 0.2, 0.6]]))
    labels = np.array([0, 1, 1, 2])
    figures = metrics.classification(logits, labels)
    assert figures["accuracy"] == 0.75
    # F1: label 0 has one hit and one false alarm, 2/3; label 1 one hit and one miss, 2/3; label 2 is right, 1.
    assert figures["macro_f1"] == pytest.approx((2 / 3 + 2 / 3 + 1) / 3)
    assert figures["nll"] == pytest.approx(-(math.log(0.5) + math.log(0.8) + math.log(0.2) + math.log(0.6)) / 4)


def test_a_label_that_occurs_nowhere_does_not_lower_f1() -> None:
    figures = metrics.classification(np.array([[5.0, 0.0, 0.0], [0.0, 5.0, 0.0]]), np.array([0, 1]))
    assert figures["accuracy"] == figures["macro_f1"] == 1.0


def test_logits_may_be_shifted_and_large() -> None:
    logits, labels = np.array([[1.0, 3.0], [2.0, 0.0]]), np.array([1, 1])
    moved = metrics.classification((logits + 1000).astype(np.float32), labels)
    assert moved == pytest.approx(metrics.classification(logits, labels), abs=1e-4)
    assert metrics.classification(logits * 1e4, labels)["nll"] > 10


def test_logits_that_are_not_finite() -> None:
    with pytest.raises(TrainingError, match="the logits of 2 of 3 rows are not finite"):
        metrics.classification(np.array([[0.0, 1.0], [np.nan, 1.0], [0.0, np.inf]]), np.array([0, 1, 1]))


def test_agreement_by_hand() -> None:
    a = np.array([[2.0, 1.0], [0.0, 1.0], [3.0, 1.0], [0.0, 9.0]])
    b = np.array([[9.0, 1.0], [1.0, 0.0], [1.0, 0.0], [0.0, 1.0]])
    assert metrics.agreement(a, b) == 0.75
    assert metrics.agreement(a, a) == 1.0


def test_log_softmax_sums_to_one() -> None:
    probabilities = np.exp(metrics.log_softmax(np.array([[0.0, math.log(3)]], dtype=np.float32)))
    np.testing.assert_allclose(probabilities, [[0.25, 0.75]], rtol=1e-6)

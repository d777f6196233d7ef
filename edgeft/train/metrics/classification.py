"""Metrics of text classification, with one label a row or several."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from edgeft.errors import require
from edgeft.train.metrics.checks import PURPOSE, Figures, Floats, Labels, check_finite, check_rows

THRESHOLD = 0.5  # probability from which a label of several is given
TINY = 1e-12  # a probability of 0 is taken for this


def log_softmax(logits: Floats) -> npt.NDArray[np.float64]:
    """Log-probabilities, (n, L) to (n, L)."""
    shifted = logits.astype(np.float64) - logits.max(axis=1, keepdims=True)
    log_probabilities: npt.NDArray[np.float64] = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
    return log_probabilities


def logits_of(probabilities: Floats, several: bool = False) -> npt.NDArray[np.float64]:
    """Logits (n, L) whose softmax, or of `several` labels whose sigmoid, these probabilities (n, L) are."""
    values = np.clip(probabilities.astype(np.float64), TINY, None)
    return np.log(values) - np.log(np.clip(1 - values, TINY, None)) if several else np.log(values)


def agreement(a: Floats, b: Floats) -> float:
    """Share of rows where two models give the same label.

    Args:
        a: (n, L) logits of one.
        b: (n, L) logits of the other, on the same rows.
    """
    assert a.shape == b.shape, (a.shape, b.shape)
    return float((a.argmax(axis=1) == b.argmax(axis=1)).mean())


# -------------------------------------------------------------------------------------------------- one label for a row


def classification(logits: Floats, labels: Labels) -> Figures:
    """The three figures of the gate table; `single_label` has them all.

    Args:
        logits: (n, L).
        labels: (n,) ids of the true labels.

    Returns:
        `accuracy`, `macro_f1` over the labels that occur (as truth or prediction), and `nll`, the mean negative
        log-likelihood in nats. Formulas: scikit-learn's accuracy_score, f1_score and log_loss.

    Raises:
        TrainingError: no rows, or logits that are not finite.
    """
    sklearn = require("sklearn.metrics", PURPOSE)
    check_rows(logits, labels)
    check_finite(logits)
    predicted = logits.argmax(axis=1)  # (n,)
    probabilities = np.exp(log_softmax(logits))  # (n, L)
    return {
        "accuracy": float(sklearn.accuracy_score(labels, predicted)),
        "macro_f1": float(sklearn.f1_score(labels, predicted, average="macro", zero_division=0)),
        "nll": float(sklearn.log_loss(labels, probabilities, labels=np.arange(logits.shape[1]))),
    }


def single_label(logits: Floats, labels: Labels) -> Figures:
    """Every figure of a classification with one label a row.

    Args:
        logits: (n, L).
        labels: (n,) ids of the true labels.

    Returns:
        Those of `classification`, and `micro_f1`, `macro_precision`, `macro_recall` (macro: over the labels that occur
        as truth or prediction; a label never predicted has precision 0), `mcc` (Matthews' correlation coefficient in
        Gorodkin's form for L labels, Comput. Biol. Chem. 28, 2004; 0 where only one label is predicted) and `auroc`.
        `mcc` and `auroc` are left out where the truth has one label only: they are undefined.
        Formulas: scikit-learn's.

    Raises:
        TrainingError: no rows, or logits that are not finite.
    """
    found = classification(logits, labels)
    sklearn = require("sklearn.metrics", PURPOSE)
    predicted = logits.argmax(axis=1)  # (n,)
    found["micro_f1"] = float(sklearn.f1_score(labels, predicted, average="micro"))
    scores = sklearn.precision_recall_fscore_support(labels, predicted, average="macro", zero_division=0)
    found["macro_precision"], found["macro_recall"] = float(scores[0]), float(scores[1])
    if len(np.unique(labels)) > 1:
        found["mcc"] = float(sklearn.matthews_corrcoef(labels, predicted))
        found["auroc"] = _auroc(logits, labels)
    return found


def _auroc(logits: Floats, labels: Labels) -> float:
    """Area under the ROC curve: of the second label of two, else one-vs-rest, macro over the labels in the truth."""
    sklearn = require("sklearn.metrics", PURPOSE)
    if logits.shape[1] == 2:
        # The margin, not the probability: that of a sure model is 1 in many rows, and ties lose the ranking.
        return float(sklearn.roc_auc_score(labels, logits[:, 1].astype(np.float64) - logits[:, 0]))
    present = np.unique(labels)  # (P,)
    true = labels[:, None] == present  # (n, P)
    return float(sklearn.roc_auc_score(true, log_softmax(logits)[:, present], average="macro"))


# --------------------------------------------------------------------------------------------------- labels for a row


def multi_label(logits: Floats, targets: npt.NDArray[Any], threshold: float = THRESHOLD) -> Figures:
    """Figures of a classification where a row has any number of labels.

    Args:
        logits: (n, L); a label is given where sigmoid(logit) >= threshold.
        targets: (n, L) of 0 and 1.
        threshold: a probability.

    Returns:
        `subset_accuracy` (all labels of a row right), `micro_f1`, `macro_f1` over the labels that occur (as truth or
        prediction). The F1 are left out where no label occurs. Formulas: scikit-learn's.

    Raises:
        TrainingError: no rows, or logits that are not finite.
    """
    true, predicted = _given(logits, targets, threshold)
    sklearn = require("sklearn.metrics", PURPOSE)
    found = {"subset_accuracy": float((true == predicted).all(axis=1).mean())}
    occur = np.flatnonzero((true | predicted).any(axis=0))
    if len(occur):
        for average in ("micro", "macro"):
            score = sklearn.f1_score(true, predicted, labels=occur, average=average, zero_division=0)
            found[f"{average}_f1"] = float(score)
    return found


def per_label_f1(
    logits: Floats, targets: npt.NDArray[Any], names: Sequence[str], threshold: float = THRESHOLD
) -> Figures:
    """F1 of each label of a multi-label classification.

    Args:
        logits: (n, L).
        targets: (n, L) of 0 and 1.
        names: (L,) of the labels.
        threshold: a probability.

    Returns:
        name -> F1 (scikit-learn's f1_score); a label that is neither truth nor prediction of any row is left out.

    Raises:
        TrainingError: no rows, or logits that are not finite.
    """
    true, predicted = _given(logits, targets, threshold)
    sklearn = require("sklearn.metrics", PURPOSE)
    assert len(names) == true.shape[1], (len(names), true.shape)
    occur = np.flatnonzero((true | predicted).any(axis=0)).tolist()
    return {names[at]: float(sklearn.f1_score(true[:, at], predicted[:, at], zero_division=0)) for at in occur}


def _given(
    logits: Floats, targets: npt.NDArray[Any], threshold: float
) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.bool_]]:
    """Truth and prediction, (n, L) each."""
    assert logits.shape == targets.shape, (logits.shape, targets.shape)
    check_rows(logits, targets)
    check_finite(logits)
    special = require("scipy.special", PURPOSE)
    return targets.astype(bool), special.expit(logits.astype(np.float64)) >= threshold

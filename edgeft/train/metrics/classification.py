"""Metrics of text classification, with one label a row or several."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from edgeft.errors import require
from edgeft.train.metrics.checks import PURPOSE, Figures, Floats, Labels, check_finite, check_rows

THRESHOLD = 0.5  # with several labels, one is predicted from this probability on
TINY = 1e-12  # smaller probabilities are raised to this


def log_softmax(logits: Floats) -> npt.NDArray[np.float64]:
    """Log-probabilities, (n, L) to (n, L)."""
    shifted = logits.astype(np.float64) - logits.max(axis=1, keepdims=True)
    log_probabilities: npt.NDArray[np.float64] = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
    return log_probabilities


def logits_of(probabilities: Floats, several: bool = False) -> npt.NDArray[np.float64]:
    """Logits (n, L) whose softmax, or with `several` labels whose sigmoid, gives these probabilities (n, L)."""
    values = np.clip(probabilities.astype(np.float64), TINY, None)
    return np.log(values) - np.log(np.clip(1 - values, TINY, None)) if several else np.log(values)


def agreement(a: Floats, b: Floats) -> float:
    """Share of rows for which two models predict the same label.

    Args:
        a: (n, L) logits of one model.
        b: (n, L) logits of the other, on the same rows.
    """
    assert a.shape == b.shape, (a.shape, b.shape)
    return float((a.argmax(axis=1) == b.argmax(axis=1)).mean())


# ------------------------------------------------------------------------------------------------------ one label a row


def classification(logits: Floats, labels: Labels) -> Figures:
    """The three figures of the gate table; `single_label` adds the others.

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
        The figures of `classification`, and `micro_f1`, `macro_precision`, `macro_recall` (macro: over the labels that
        occur as truth or prediction; a label that is never predicted has precision 0), `mcc` (Matthews' correlation
        coefficient in Gorodkin's form for L labels, Comput. Biol. Chem. 28, 2004; 0 if only one label is predicted) and
        `auroc`. `mcc` and `auroc` are left out if the truth has only one label, as they are undefined there.
        Formulas: scikit-learn's.

    Raises:
        TrainingError: no rows, or logits that are not finite.
    """
    figures = classification(logits, labels)
    sklearn = require("sklearn.metrics", PURPOSE)
    predicted = logits.argmax(axis=1)  # (n,)
    figures["micro_f1"] = float(sklearn.f1_score(labels, predicted, average="micro"))
    scores = sklearn.precision_recall_fscore_support(labels, predicted, average="macro", zero_division=0)
    figures["macro_precision"], figures["macro_recall"] = float(scores[0]), float(scores[1])
    if len(np.unique(labels)) > 1:
        figures["mcc"] = float(sklearn.matthews_corrcoef(labels, predicted))
        figures["auroc"] = _auroc(logits, labels)
    return figures


def _auroc(logits: Floats, labels: Labels) -> float:
    """Area under the ROC curve: of two labels that of the second, else one-vs-rest, macro over the true labels."""
    sklearn = require("sklearn.metrics", PURPOSE)
    if logits.shape[1] == 2:
        # The margin, not the probability: a confident model rounds to 1 on many rows, and ties lose the ranking.
        return float(sklearn.roc_auc_score(labels, logits[:, 1].astype(np.float64) - logits[:, 0]))
    present = np.unique(labels)  # (P,)
    true = labels[:, None] == present  # (n, P)
    return float(sklearn.roc_auc_score(true, log_softmax(logits)[:, present], average="macro"))


# ------------------------------------------------------------------------------------------------- several labels a row


def multi_label(logits: Floats, targets: npt.NDArray[Any], threshold: float = THRESHOLD) -> Figures:
    """Figures of a classification with any number of labels a row.

    Args:
        logits: (n, L); a label is predicted where sigmoid(logit) >= threshold.
        targets: (n, L) of 0 and 1.
        threshold: a probability.

    Returns:
        `subset_accuracy` (all labels of a row right), `micro_f1` and `macro_f1` over the labels that occur as truth or
        prediction. The F1 are left out if no label occurs. Formulas: scikit-learn's.

    Raises:
        TrainingError: no rows, or logits that are not finite.
    """
    true, predicted = _truth_and_prediction(logits, targets, threshold)
    sklearn = require("sklearn.metrics", PURPOSE)
    figures = {"subset_accuracy": float((true == predicted).all(axis=1).mean())}
    occur = np.flatnonzero((true | predicted).any(axis=0))
    if len(occur):
        for average in ("micro", "macro"):
            score = sklearn.f1_score(true, predicted, labels=occur, average=average, zero_division=0)
            figures[f"{average}_f1"] = float(score)
    return figures


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
        name -> F1 (scikit-learn's f1_score); labels that occur neither as truth nor as prediction are left out.

    Raises:
        TrainingError: no rows, or logits that are not finite.
    """
    true, predicted = _truth_and_prediction(logits, targets, threshold)
    sklearn = require("sklearn.metrics", PURPOSE)
    assert len(names) == true.shape[1], (len(names), true.shape)
    occur = np.flatnonzero((true | predicted).any(axis=0)).tolist()
    return {names[at]: float(sklearn.f1_score(true[:, at], predicted[:, at], zero_division=0)) for at in occur}


def _truth_and_prediction(
    logits: Floats, targets: npt.NDArray[Any], threshold: float
) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.bool_]]:
    """Truth and prediction, (n, L) each."""
    assert logits.shape == targets.shape, (logits.shape, targets.shape)
    check_rows(logits, targets)
    check_finite(logits)
    special = require("scipy.special", PURPOSE)
    return targets.astype(bool), special.expit(logits.astype(np.float64)) >= threshold

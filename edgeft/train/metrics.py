"""Metrics of a prediction, by task."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from edgeft.errors import TrainingError, require

PURPOSE = "to measure predictions"
Floats = npt.NDArray[np.floating]
Labels = npt.NDArray[np.int64]


def log_softmax(logits: Floats) -> npt.NDArray[np.float64]:
    """Log-probabilities, (n, L) to (n, L)."""
    shifted = logits.astype(np.float64) - logits.max(axis=1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))


def classification(logits: Floats, labels: Labels) -> dict[str, float]:
    """Accuracy, macro F1 over the labels that occur (as truth or prediction), and mean negative log-likelihood in nats.

    Args:
        logits: (n, L).
        labels: (n,) ids of the true labels.

    Raises:
        TrainingError: logits that are not finite.
    """
    sklearn = require("sklearn.metrics", PURPOSE)
    check_finite(logits)
    predicted = logits.argmax(axis=1)  # (n,)
    probabilities = np.exp(log_softmax(logits))  # (n, L)
    return {
        "accuracy": float(sklearn.accuracy_score(labels, predicted)),
        "macro_f1": float(sklearn.f1_score(labels, predicted, average="macro")),
        "nll": float(sklearn.log_loss(labels, probabilities, labels=np.arange(logits.shape[1]))),
    }


def check_finite(logits: Floats) -> None:
    """Refuse NaN and infinity, with the number of rows that hold them."""
    bad = int((~np.isfinite(logits)).any(axis=1).sum())
    if bad:
        raise TrainingError(f"the logits of {bad} of {len(logits)} rows are not finite")


def agreement(a: Floats, b: Floats) -> float:
    """Share of rows where two models give the same label.

    Args:
        a: (n, L) logits of one.
        b: (n, L) logits of the other, on the same rows.
    """
    assert a.shape == b.shape, (a.shape, b.shape)
    return float((a.argmax(axis=1) == b.argmax(axis=1)).mean())

"""Metrics as functions of row indices, cheap enough for a thousand bootstrap resamples."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from edgeft.train.metrics.bootstrap import Rows, Statistic

CONSTANT = 1e-13  # values with a smaller relative deviation count as constant, as in `regression`


def macro_f1(truth: npt.NDArray[np.int64], guess: npt.NDArray[np.int64]) -> Statistic:
    """Mean F1 of the labels that occur as truth or prediction: scikit-learn's f1_score with `average="macro"`.

    Args:
        truth: (n,) ids of the true labels.
        guess: (n,) ids of the predicted labels.
    """
    size = int(max(truth.max(initial=0), guess.max(initial=0))) + 1
    right = np.where(truth == guess, truth, size)  # (n,) the label if it is right, else `size`

    def figure(rows: Rows) -> float | None:
        hits = np.bincount(right[rows], minlength=size + 1)[:size]  # (labels,)
        total = np.bincount(truth[rows], minlength=size) + np.bincount(guess[rows], minlength=size)  # (labels,)
        occurs = total > 0
        return float((2 * hits[occurs] / total[occurs]).mean()) if occurs.any() else None

    return figure


def pearson(a: npt.NDArray[np.float64], b: npt.NDArray[np.float64]) -> Statistic:
    """Pearson's correlation; None if one side is constant.

    Args:
        a: (n,) predictions.
        b: (n,) targets.
    """

    def figure(rows: Rows) -> float | None:
        sides = [side[rows] - side[rows].mean() for side in (a, b)]
        norms = [float(np.linalg.norm(side)) for side in sides]
        means = [abs(float(side[rows].mean())) for side in (a, b)]
        if any(norm <= CONSTANT * mean for norm, mean in zip(norms, means, strict=True)):
            return None
        return float(np.clip(sides[0] @ sides[1] / (norms[0] * norms[1]), -1, 1))

    return figure


def ratio(above: npt.NDArray[Any], below: npt.NDArray[Any], factor: float = 1.0) -> Statistic:
    """`factor` times the ratio of two sums of counts, as for any micro average; None if the denominator is 0.

    For F1 over spans: `ratio(right, predicted + true, 2.0)` with the counts of each row.

    Args:
        above: (n,) numerators, a count for each row.
        below: (n,) denominators, a count for each row.
        factor: of the ratio.
    """

    def figure(rows: Rows) -> float | None:
        total = below[rows].sum()
        return float(factor * above[rows].sum() / total) if total else None

    return figure

"""What the report computes from probabilities and true labels; numpy only."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.floating]
Ints = NDArray[np.integer]

Z95 = 1.959963984540054  # the normal distribution's 97.5% quantile
BISECTIONS = 50


@dataclass(frozen=True, kw_only=True)
class Bins:
    """Answers grouped by confidence, bins of equal width over [0, 1].

    Attributes:
        edges: (bins + 1,).
        counts: answers in each bin, (bins,).
        correct: right answers in each bin, (bins,).
        confidence: mean confidence in each bin, 0 where it is empty, (bins,).
    """

    edges: NDArray[np.float64]
    counts: NDArray[np.int64]
    correct: NDArray[np.int64]
    confidence: NDArray[np.float64]

    @property
    def accuracy(self) -> NDArray[np.float64]:
        """Share of right answers in each bin, 0 where it is empty, (bins,)."""
        return self.correct / np.maximum(self.counts, 1)

    @property
    def calibration_error(self) -> float:
        """Expected calibration error (Guo et al. 2017, eq. 3)."""
        gaps = np.abs(self.accuracy - self.confidence)
        return float((gaps * self.counts).sum() / max(int(self.counts.sum()), 1))


def bins(probabilities: Floats, labels: Ints, number: int = 15) -> Bins:
    """Group the answers by the confidence in the predicted label.

    Args:
        probabilities: (n, labels).
        labels: the true columns, (n,).
        number: of bins.
    """
    confidence = probabilities.max(axis=1).astype(np.float64)  # (n,)
    correct = probabilities.argmax(axis=1) == labels  # (n,)
    where = _bin_of(confidence, number)
    counts = np.bincount(where, minlength=number)
    return Bins(
        edges=np.linspace(0, 1, number + 1),
        counts=counts,
        correct=np.bincount(where[correct], minlength=number),
        confidence=np.bincount(where, weights=confidence, minlength=number) / np.maximum(counts, 1),
    )


def chance_error(probabilities: Floats, number: int = 15, draws: int = 100) -> float:
    """The calibration error that perfect probabilities would show on so few answers: the mean over random truths.

    Args:
        probabilities: (n, labels); an answer is drawn to be right with the probability of its label.
        number: of bins.
        draws: of all truths.
    """
    confidence = probabilities.max(axis=1).astype(np.float64)
    where = _bin_of(confidence, number)
    right = np.random.default_rng(0).random((draws, len(confidence))) < confidence  # (D, n)
    gaps = [np.bincount(where, weights=truth - confidence, minlength=number) for truth in right]
    return float(np.abs(gaps).sum(axis=1).mean() / max(len(confidence), 1))


def _bin_of(confidence: NDArray[np.float64], number: int) -> NDArray[np.int64]:
    """(n,) the bin of each; a bin holds its upper edge."""
    return np.clip(np.ceil(confidence * number).astype(np.int64) - 1, 0, number - 1)


def negative_log_likelihood(probabilities: Floats, labels: Ints) -> float:
    """Mean of -ln p(true label), probabilities clipped at 1e-12."""
    true_label = probabilities[np.arange(len(labels)), labels].astype(np.float64)
    return float(-np.log(np.clip(true_label, 1e-12, None)).mean())


def brier(probabilities: Floats, labels: Ints) -> float:
    """Mean over rows of the summed squared difference from the one-hot truth (Brier 1950), 0 to 2."""
    truth = np.eye(probabilities.shape[1])[labels]
    return float(((probabilities.astype(np.float64) - truth) ** 2).sum(axis=1).mean())


def confusion(probabilities: Floats, labels: Ints) -> NDArray[np.int64]:
    """Counts of (true, predicted), (labels, labels)."""
    size = probabilities.shape[1]
    return np.bincount(labels * size + probabilities.argmax(axis=1), minlength=size * size).reshape(size, size)


def mistakes(probabilities: Floats, labels: Ints, number: int) -> list[int]:
    """Indices of the wrong answers, the most confident first, at most `number`."""
    order = np.argsort(-probabilities.max(axis=1), kind="stable")
    wrong = order[probabilities.argmax(axis=1)[order] != labels[order]]
    return [int(index) for index in wrong[:number]]


def wilson_interval(successes: int, trials: int) -> tuple[float, float]:
    """The 95% score interval of a share (Wilson 1927)."""
    if trials == 0:
        return 0.0, 1.0
    share = successes / trials
    scale = 1 + Z95**2 / trials
    middle = (share + Z95**2 / (2 * trials)) / scale
    half = Z95 / scale * math.sqrt(share * (1 - share) / trials + Z95**2 / (4 * trials**2))
    return max(0.0, middle - half), min(1.0, middle + half)


def matched_interval(more: int, less: int, trials: int) -> tuple[float, float]:
    """The 95% score interval of (more - less) / trials, a difference of two shares on the same rows (Tango 1998,
    "Equivalence test and confidence interval for the difference in proportions for the paired-sample design").

    Args:
        more: rows of the first share alone.
        less: rows of the second alone.
        trials: all rows.
    """
    return -_furthest(less, more, trials), _furthest(more, less, trials)


def _furthest(more: int, less: int, trials: int) -> float:
    """The largest difference that isn't told from what was seen, by bisection."""
    low, high = (more - less) / trials, 1.0
    for _ in range(BISECTIONS):
        middle = (low + high) / 2
        if trials * middle - (more - less) <= Z95 * _deviation(more, less, trials, middle):
            low = middle
        else:
            high = middle
    return low


def _deviation(more: int, less: int, trials: int, difference: float) -> float:
    """Of more - less, where the true difference of the shares is `difference` (Tango's equations 15 and 24)."""
    a, b = 2 * trials, (2 * trials - more + less) * difference - more - less
    c = -less * difference * (1 - difference)
    alone = (math.sqrt(b * b - 4 * a * c) - b) / (2 * a)  # the likeliest share of rows of the second alone
    return math.sqrt(max(0.0, trials * (2 * alone + difference * (1 - difference))))

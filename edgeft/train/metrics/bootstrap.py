"""Percentile bootstrap intervals: Efron & Tibshirani, "An Introduction to the Bootstrap" (1993), chapter 13.

Rows are drawn with replacement, as many as there are, and the middle 95% of the figure over the draws is the interval.
It needs some variety: where all rows score alike, and with one row, it has no width, which doesn't mean no error. The
interval of a share of 0 or 1 is Wilson's in its place.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from edgeft.errors import TrainingError
from edgeft.report.scores import wilson_interval
from edgeft.train.metrics.checks import check_finite, check_rows

LEVEL = 0.95
RESAMPLES = 1000
DRAWN = 2_000_000  # row numbers drawn at a time: 16 MB

Rows = npt.NDArray[np.int64]
# (m,) row numbers, repeated ones among them -> the figure; None where it is undefined.
Statistic = Callable[[Rows], float | None]
# (n,) a figure for each row, whose mean is meant, or a function of rows.
Measure = npt.NDArray[Any] | Statistic


@dataclass(frozen=True)
class Interval:
    """A figure and where it lies with the given confidence.

    Attributes:
        value: on the rows as they are.
        low: end of the interval.
        high: end of the interval.
    """

    value: float
    low: float
    high: float


def value(measure: Measure, rows: int | Rows) -> float | None:
    """A figure on so many rows, or on those with these numbers; None where it is undefined."""
    chosen = np.arange(rows) if isinstance(rows, int) else rows
    return measure(chosen) if callable(measure) else float(np.mean(measure[chosen]))


def interval(
    measure: Measure,
    rows: int | Rows,
    resamples: int = RESAMPLES,
    seed: int = 0,
    level: float = LEVEL,
    share: bool = False,
) -> Interval | None:
    """Percentile interval of a figure.

    For the difference of two models on the same rows, give the row-wise differences: such rows are drawn in pairs.

    Args:
        measure: (n,) a figure for each row, whose mean is meant, or a function of row numbers, called once a resample.
        rows: how many there are, or the (m,) numbers of those that count.
        resamples: how many draws.
        seed: of the draws.
        level: share of the draws inside.
        share: whether the figure is a share of what is right; where all rows or none are, its interval is Wilson's 95%.

    Returns:
        The interval; None where the figure is undefined on the rows themselves. Draws where it is undefined are
        passed over.

    Raises:
        TrainingError: no rows, or figures that are not finite.
    """
    chosen = np.arange(rows) if isinstance(rows, int) else rows
    check_rows(chosen, chosen)
    if callable(measure):
        value, drawn = _of_statistic(measure, chosen, resamples, seed)
    else:
        check_finite(measure[chosen], "figures")
        value, drawn = _of_mean(measure[chosen].astype(np.float64), resamples, seed)
    if value is None:
        return None
    if share and value in (0.0, 1.0) and (drawn == value).all():
        return Interval(value, *wilson_interval(round(value * len(chosen)), len(chosen)))
    low, high = np.quantile(drawn, [(1 - level) / 2, (1 + level) / 2])
    return Interval(value, float(low), float(high))


def _of_mean(values: npt.NDArray[np.float64], resamples: int, seed: int) -> tuple[float, npt.NDArray[np.float64]]:
    """The mean of (n,) values, and of each draw, (resamples,)."""
    rng, n = np.random.default_rng(seed), len(values)
    block = max(1, DRAWN // n)
    sizes = [min(block, resamples - start) for start in range(0, resamples, block)]
    drawn = [values[rng.integers(0, n, (size, n))].mean(axis=1) for size in sizes]
    return float(values.mean()), np.concatenate(drawn)


def _of_statistic(
    statistic: Statistic, rows: Rows, resamples: int, seed: int
) -> tuple[float | None, npt.NDArray[np.float64]]:
    """The statistic of (n,) rows, and of each draw where it is defined."""
    value = statistic(rows)
    if value is None:
        return None, np.empty(0)
    rng = np.random.default_rng(seed)
    draws = (statistic(rows[rng.integers(0, len(rows), len(rows))]) for _ in range(resamples))
    drawn = np.array([figure for figure in draws if figure is not None])
    if not np.isfinite([value, *drawn]).all():
        raise TrainingError("a bootstrapped figure is not finite; an undefined one must be None")
    return float(value), drawn if len(drawn) else np.array([value])

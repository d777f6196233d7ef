"""Percentile bootstrap intervals: Efron & Tibshirani, "An Introduction to the Bootstrap" (1993), chapter 13.

Rows are resampled with replacement, and the interval is the middle 95% of the figure over the resamples. It needs some
variation: where all rows score the same, or with one row, the interval has no width, although the error is not zero.
For a share of 0 or 1, Wilson's interval replaces it.
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
DRAWN = 2_000_000  # row indices drawn at a time: 16 MB

Rows = npt.NDArray[np.int64]
# (m,) row indices, with repetitions -> the figure; None where it is undefined.
Statistic = Callable[[Rows], float | None]
# (n,) a value for each row, to be averaged, or a function of row indices.
Measure = npt.NDArray[Any] | Statistic


@dataclass(frozen=True)
class Interval:
    """A figure and its confidence interval.

    Attributes:
        value: on the rows as they are.
        low: lower end of the interval.
        high: upper end of the interval.
    """

    value: float
    low: float
    high: float


def value(measure: Measure, rows: int | Rows) -> float | None:
    """The figure on the first `rows` rows, or on the rows with these indices; None where it is undefined."""
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

    For the difference of two models on the same rows, pass the row-wise differences: then the rows are paired.

    Args:
        measure: (n,) a value for each row, to be averaged, or a function of row indices, called once per resample.
        rows: how many rows there are, or the (m,) indices of those that count.
        resamples: how many.
        seed: of the resampling.
        level: confidence level.
        share: whether the figure is a share of right rows; if it is 0 or 1, the interval is Wilson's 95%.

    Returns:
        The interval; None if the figure is undefined on the rows themselves. Resamples on which it is undefined are
        skipped.

    Raises:
        TrainingError: no rows, or values that are not finite.
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
    """The mean of (n,) values, and the means of the resamples, (resamples,)."""
    rng, n = np.random.default_rng(seed), len(values)
    block = max(1, DRAWN // n)
    sizes = [min(block, resamples - start) for start in range(0, resamples, block)]
    drawn = [values[rng.integers(0, n, (size, n))].mean(axis=1) for size in sizes]
    return float(values.mean()), np.concatenate(drawn)


def _of_statistic(
    statistic: Statistic, rows: Rows, resamples: int, seed: int
) -> tuple[float | None, npt.NDArray[np.float64]]:
    """The statistic of (n,) rows, and of the resamples on which it is defined."""
    value = statistic(rows)
    if value is None:
        return None, np.empty(0)
    rng = np.random.default_rng(seed)
    draws = (statistic(rows[rng.integers(0, len(rows), len(rows))]) for _ in range(resamples))
    drawn = np.array([figure for figure in draws if figure is not None])
    if not np.isfinite([value, *drawn]).all():
        raise TrainingError("a bootstrapped figure is not finite; an undefined one must be None")
    return float(value), drawn if len(drawn) else np.array([value])

"""A metric on slices of the rows: by the values of a column, by length."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np

from edgeft.train.metrics.bootstrap import RESAMPLES, Interval, Measure, Rows, interval
from edgeft.train.metrics.checks import check_rows

SMALL = 20  # with fewer rows a figure says little
MOST = 30  # so many values of a column get a slice of their own
BUCKETS = 4
MISSING, OTHERS = "(missing)", "(all other values)"


@dataclass(frozen=True)
class Slice:
    """A slice of the rows.

    Attributes:
        name: the value, or the range of lengths.
        rows: how many.
        figure: the metric with its interval; None if it is undefined on these rows.
        small: whether there are fewer than `SMALL` rows.
    """

    name: str
    rows: int
    figure: Interval | None
    small: bool


def by_value(
    column: Sequence[Hashable],
    measure: Measure,
    most: int = MOST,
    seed: int = 0,
    resamples: int = RESAMPLES,
    share: bool = False,
) -> list[Slice]:
    """A slice for each value of a column, the largest first.

    Args:
        column: (n,) values; None is missing.
        measure: (n,) a value for each row, to be averaged, or a function of row indices.
        most: values with a slice of their own; the rows of all rarer values are one slice at the end.
        seed: of the intervals.
        resamples: of each interval.
        share: as of `bootstrap.interval`.

    Raises:
        TrainingError: no rows, or figures that are not finite.
    """
    check_rows(column, column)
    names = [MISSING if value is None else str(value) for value in column]
    frequent = [name for name, _ in sorted(Counter(names).items(), key=lambda item: (-item[1], item[0]))[:most]]
    known = set(frequent)
    parts: dict[str, list[int]] = {name: [] for name in frequent}
    for row, name in enumerate(names):
        parts.setdefault(name if name in known else OTHERS, []).append(row)
    return [_slice(name, np.array(rows), measure, seed, resamples, share) for name, rows in parts.items()]


def by_length(
    lengths: Sequence[int],
    measure: Measure,
    buckets: int = BUCKETS,
    seed: int = 0,
    resamples: int = RESAMPLES,
    share: bool = False,
) -> list[Slice]:
    """A slice for each bucket of lengths, the shortest first; all buckets have about as many rows.

    Args:
        lengths: (n,) of the texts, in any unit.
        measure: (n,) a value for each row, to be averaged, or a function of row indices.
        buckets: how many at most; fewer if lengths repeat, as rows of one length stay together.
        seed: of the intervals.
        resamples: of each interval.
        share: as of `bootstrap.interval`.

    Returns:
        Slices named after their shortest and longest length, such as `3-17`.

    Raises:
        TrainingError: no rows, or figures that are not finite.
    """
    check_rows(lengths, lengths)
    sizes = np.asarray(lengths)  # (n,)
    edges = np.unique(np.quantile(sizes, np.arange(1, buckets) / buckets, method="inverted_cdf"))
    bucket = np.searchsorted(edges, sizes, side="left")  # (n,)
    parts = [np.flatnonzero(bucket == number) for number in np.unique(bucket)]
    return [_slice(f"{sizes[rows].min()}-{sizes[rows].max()}", rows, measure, seed, resamples, share) for rows in parts]


def _slice(name: str, rows: Rows, measure: Measure, seed: int, resamples: int, share: bool) -> Slice:
    return Slice(name, len(rows), interval(measure, rows, resamples, seed, share=share), len(rows) < SMALL)

"""Latency of several contenders side by side: interleaved in one process, batch 1, so that noise hits all alike."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeft.errors import UserError
from edgeft.progress import Bar

Answer = Callable[[Any], object]
Times = NDArray[np.float64]

RESAMPLES = 2000
REFRESH_SECONDS = 0.5
FIGURES = ("queries", "p50_ms", "p90_ms", "p99_ms", "mean_ms", "min_ms")


@dataclass(frozen=True, kw_only=True)
class Latency:
    """Latency of one contender.

    Attributes:
        queries: timed queries.
        p50_ms: median.
        p90_ms: nine queries in ten are at most so slow.
        p99_ms: ninety-nine in a hundred.
        mean_ms: mean.
        min_ms: the fastest query.
        samples_ms: every query in the order of the race, (queries,).
    """

    queries: int
    p50_ms: float
    p90_ms: float
    p99_ms: float
    mean_ms: float
    min_ms: float
    samples_ms: Times = field(repr=False, compare=False)

    def as_dict(self) -> dict[str, Any]:
        """The figures without the samples, for JSON."""
        return {name: getattr(self, name) for name in FIGURES}


@dataclass(frozen=True, kw_only=True)
class Ratio:
    """How many times as long one contender takes as the other.

    Attributes:
        median: ratio of the medians.
        low: lower end of the 95% interval.
        high: upper end of the 95% interval.
        margin: the factor by which noise has widened the interval at both ends.
    """

    median: float
    low: float
    high: float
    margin: float = 1.0

    def widened(self, margin: float) -> Ratio:
        """The same with the interval wider by a factor at both ends."""
        return replace(self, low=self.low / margin, high=self.high * margin, margin=self.margin * margin)

    def as_dict(self) -> dict[str, float]:
        """The figures for JSON; the margin only where there is one to speak of."""
        figures = {"median": self.median, "low": self.low, "high": self.high}
        return figures if self.margin == 1 else {**figures, "margin": self.margin}


class OwnGarbage:
    """What was loaded before the race is no longer scanned: each contender pays for its own garbage only."""

    def __enter__(self) -> None:
        gc.collect()
        gc.freeze()

    def __exit__(self, *_: object) -> None:
        gc.unfreeze()


class QuietBar(Bar):
    """A bar that draws only between queries: rich's own refresh thread would run inside the timed ones."""

    def __enter__(self) -> QuietBar:
        if self._live:
            self._live.live.auto_refresh = False
        super().__enter__()
        self._drawn = time.monotonic()
        return self

    def advance(self, steps: int = 1) -> None:
        super().advance(steps)
        if self._live and time.monotonic() - self._drawn > REFRESH_SECONDS:
            self._live.refresh()
            self._drawn = time.monotonic()


def summary(samples_ms: Sequence[float] | Times) -> Latency:
    """The figures of a list of latencies in ms, percentiles interpolated linearly."""
    times = np.asarray(samples_ms, dtype=np.float64)
    p50, p90, p99 = np.percentile(times, (50, 90, 99))
    return Latency(
        queries=len(times),
        p50_ms=float(p50),
        p90_ms=float(p90),
        p99_ms=float(p99),
        mean_ms=float(times.mean()),
        min_ms=float(times.min()),
        samples_ms=times,
    )


def race(
    contenders: Mapping[str, Answer], texts: Sequence[Any], queries: int, warmup: int, in_a_row: int = 1
) -> dict[str, Latency]:
    """Time every contender on the same texts, in turns.

    A turn puts text `i` (cycled) to every contender before the next turn starts, and the one that goes first moves
    on by one at each turn: A B, B A, A B ...

    Args:
        contenders: name -> function of one text; whatever it does is timed, tokenization included.
        texts: real texts, or whatever else is asked.
        queries: timed queries for each contender.
        warmup: queries for each contender before the timed ones.
        in_a_row: texts that a turn puts to a contender, one after the other. Where it is more than one, another text
            goes before them untimed: the caches are the contender's own then, as where it runs alone.

    Raises:
        UserError: no text, no contender or no query.
    """
    if not contenders or not texts or queries < 1:
        raise UserError(f"nothing to time: {len(contenders)} models, {len(texts)} texts, {queries} queries")
    samples: dict[str, list[float]] = {name: [] for name in contenders}
    with QuietBar("latency", warmup + queries) as bar, OwnGarbage():
        for first in range(-warmup, queries, in_a_row):
            indices = range(first, min(first + in_a_row, queries))
            for name in turn_order(list(contenders), first // in_a_row):
                if in_a_row > 1:
                    contenders[name](texts[(first - 1) % len(texts)])
                times_ms = [time_ms(contenders[name], texts[index % len(texts)]) for index in indices]
                samples[name] += [elapsed for index, elapsed in zip(indices, times_ms, strict=True) if index >= 0]
            bar.advance(len(indices))
    return {name: summary(times) for name, times in samples.items()}


def turn_order(names: list[str], query: int) -> list[str]:
    """Who is asked first, second, ... at a turn: the one that begins moves on by one."""
    first = query % len(names)
    return names[first:] + names[:first]


def time_ms(answer: Answer, text: object) -> float:
    """Milliseconds of one answer."""
    start = time.perf_counter_ns()
    answer(text)
    return (time.perf_counter_ns() - start) / 1e6


def ratio(a: Latency, b: Latency, seed: int = 0, resamples: int = RESAMPLES) -> Ratio:
    """How many times as long `a` takes as `b`: the ratio of the medians with a paired bootstrap 95% interval.

    A resample draws whole queries, so that a slow moment which hit both stays in both (Efron and Tibshirani, *An
    Introduction to the Bootstrap*, chapter 13: the percentile interval).

    Args:
        a: samples of one race, (queries,).
        b: samples of the same race, (queries,).
        seed: of the resampling.
        resamples: how many.

    Raises:
        ValueError: the two are not from one race.
    """
    if a.queries != b.queries:
        raise ValueError(f"not one race: {a.queries} queries against {b.queries}")
    generator = np.random.default_rng(seed)
    ratios = np.empty(resamples)
    for index in range(resamples):
        rows = generator.integers(a.queries, size=a.queries)
        ratios[index] = np.median(a.samples_ms[rows]) / np.median(b.samples_ms[rows])
    low, high = np.percentile(ratios, (2.5, 97.5))
    return Ratio(median=a.p50_ms / b.p50_ms, low=float(low), high=float(high))

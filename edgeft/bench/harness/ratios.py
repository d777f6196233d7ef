"""The ratio of two subjects' latencies with its interval."""

from __future__ import annotations

import math
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from edgeft.bench.harness.conditions.noise import mean_margin
from edgeft.bench.harness.scenarios.single import Stream
from edgeft.bench.race import Ratio

RESAMPLES = 1000
SHARE = 0.975  # below the upper end of an interval of 95%
Z = NormalDist().inv_cdf(SHARE)


def ratio(a: Stream, b: Stream, seed: int = 0) -> Ratio:
    """How many times as long `a` takes as `b`.

    The geometric mean over rounds of the ratio of medians. The interval is a bootstrap of two levels, rounds and blocks
    within them, resampled jointly for both subjects: a slow moment that hit both stays in both, and differences between
    processes count. A bootstrap of few rounds underestimates their spread, so it is widened by Student's t over the
    normal quantile and by n / (n - 1) in the variance. The margin of disturbed rounds widens both ends further.

    Args:
        a: of one comparison.
        b: of the same, at least two rounds.
        seed: of the resampling.
    """
    rounds = len(a.rounds)
    generator = np.random.default_rng(seed)
    log_ratios = np.array([_log_ratio(a, b, number, None) for number in range(rounds)])
    centre = float(log_ratios.mean())
    drawn = np.empty(RESAMPLES)
    for index in range(RESAMPLES):
        picked = generator.integers(rounds, size=rounds)
        drawn[index] = np.mean([_log_ratio(a, b, number, generator) for number in picked])
    low, high = np.percentile(drawn, (2.5, 97.5)) - drawn.mean()
    wider = student_quantile(rounds - 1) / Z * math.sqrt(rounds / (rounds - 1))
    ends = (math.exp(centre + wider * end) for end in (low, high))
    return Ratio(median=math.exp(centre), low=next(ends), high=next(ends)).widened(mean_margin(a.noise))


def student_quantile(freedom: int) -> float:
    """The 97.5% quantile of Student's t: of 1 and 2 degrees of freedom by the inverse of its distribution, from 3 on
    within 1% (Abramowitz and Stegun 26.7.5).
    """
    if freedom == 1:
        return math.tan(math.pi * (SHARE - 0.5))
    if freedom == 2:
        return (2 * SHARE - 1) / math.sqrt(2 * SHARE * (1 - SHARE))
    first = (Z**3 + Z) / 4
    second = (5 * Z**5 + 16 * Z**3 + 3 * Z) / 96
    third = (3 * Z**7 + 19 * Z**5 + 17 * Z**3 - 15 * Z) / 384
    return Z + first / freedom + second / freedom**2 + third / freedom**3


def _log_ratio(a: Stream, b: Stream, number: int, generator: np.random.Generator | None) -> float:
    """Log ratio of the medians of one round; with a generator, of its resampled blocks."""
    blocks = len(a.rounds[number])
    picked = np.arange(blocks) if generator is None else generator.integers(blocks, size=blocks)
    return math.log(_median(a, number, picked) / _median(b, number, picked))


def _median(stream: Stream, number: int, picked: NDArray[np.int64]) -> float:
    return float(np.median(np.concatenate([stream.rounds[number][block] for block in picked])))

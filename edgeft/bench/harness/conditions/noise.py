"""Whether the machine was quiet: drift of a small kernel, stolen CPU time and load of other processes."""

from __future__ import annotations

import contextlib
import math
import os
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from statistics import fmean, median
from typing import Any, TypeVar

import numpy as np
import psutil

DRIFT, STOLEN, FOREIGN = 0.03, 0.02, 0.05  # shares above which a measurement counts as disturbed
MOST_STOLEN = 0.99
SIDE, WALK_BYTES = 192, 8 << 20  # of the kernel's matrices, and what it walks through
TRIES, TRY_SECONDS = 9, 0.02
REPEATED_SHARE = 0.5  # of the rounds, at most, are measured again

T = TypeVar("T")


def measure_kernel_ms() -> float:
    """Time a small fixed piece of work, products in the caches and a walk through memory: median of some tries [ms]."""
    generator = np.random.default_rng(0)
    left, right = (generator.standard_normal((SIDE, SIDE), dtype=np.float32) for _ in range(2))
    walked = np.ones(WALK_BYTES // 8)
    tries = []
    for _ in range(TRIES):
        start, times = time.perf_counter(), 0
        while (elapsed := time.perf_counter() - start) < TRY_SECONDS:
            # einsum without BLAS: one thread, whatever the environment says
            np.einsum("ij,jk->ik", left[:48], right, optimize=False)
            walked.sum()
            times += 1
        tries.append(1e3 * elapsed / times)
    return median(tries)


@dataclass(frozen=True, kw_only=True)
class Ticks:
    """CPU seconds of the machine since it started; 0 where the system doesn't report them.

    Attributes:
        busy: all processes' work.
        stolen: asked for, but given to another machine of the host.
        own: this process's and its children's work.
        wall: on the clock.
    """

    busy: float
    stolen: float
    own: float
    wall: float


def read_ticks() -> Ticks:
    """The counters as of now."""
    times = psutil.cpu_times()
    stolen = getattr(times, "steal", 0.0)
    busy = sum(getattr(times, name, 0.0) for name in ("user", "nice", "system", "irq", "softirq"))
    return Ticks(busy=busy, stolen=stolen, own=sum(os.times()[:4]) + _children_seconds(), wall=time.time())


def _children_seconds() -> float:
    """CPU seconds of living children; `os.times` has those of ended ones."""
    total = 0.0
    for child in psutil.Process().children(recursive=True):
        try:
            times = child.cpu_times()
        except psutil.Error:
            continue
        total += times.user + times.system
    return total


@dataclass(frozen=True, kw_only=True)
class Noise:
    """What disturbed a measurement.

    Attributes:
        kernel_before_ms: the kernel's time before it.
        kernel_after_ms: and after it.
        drift: their relative difference.
        stolen: share of the time that processes wanted and the host gave to others; idle cores don't thin it.
        foreign: cores that other processes took, on average.
        seen: what is above its bound, in words; nothing: quiet.
        margin: the factor by which it could have changed the ratio of two subjects that took turns, 1 where it was
            quiet. It is a bound, not an estimate: all of the disturbance is taken to have hit one of the two.
    """

    kernel_before_ms: float
    kernel_after_ms: float
    drift: float
    stolen: float
    foreign: float
    seen: list[str]
    margin: float = 1.0

    def as_dict(self) -> dict[str, Any]:
        """For JSON; a margin belongs to rounds, see `describe_rounds`."""
        return {name: value for name, value in asdict(self).items() if name != "margin"}


class NoiseMonitor:
    """Watches for what disturbs a measurement, from its creation on.

    Args:
        served: whether a server on this machine is measured, whose process is not this one's child: its work is no
            noise.
        since: when other work began to count; None: now.
        core: on which the fixed piece of work runs, before and after; None: on any.
    """

    def __init__(self, served: bool = False, since: Ticks | None = None, core: int | None = None) -> None:
        self.served, self.core = served, core
        self.ticks = since or read_ticks()
        self.kernel_ms = self._kernel_ms()

    def _kernel_ms(self) -> float:
        with on_core(self.core):
            return measure_kernel_ms()

    def read_noise(self) -> Noise:
        """What disturbed it until now."""
        return assess_noise(self.kernel_ms, self._kernel_ms(), self.ticks, read_ticks(), self.served)


@contextlib.contextmanager
def on_core(core: int | None) -> Iterator[None]:
    """Pin this thread to a core for a while, where the system allows it."""
    if core is None or not hasattr(os, "sched_setaffinity"):
        yield
        return
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {core})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def assess_noise(
    kernel_before_ms: float, kernel_after_ms: float, before: Ticks, after: Ticks, served: bool = False
) -> Noise:
    """Judge what disturbed the time between two moments.

    Args:
        kernel_before_ms: the kernel's time.
        kernel_after_ms: at the end.
        before: at the beginning.
        after: at the end.
        served: whether a server was measured, whose process is not this one's child: its work is no noise.
    """
    cpu_s = max(1e-9, after.busy - before.busy + after.stolen - before.stolen)
    wall = max(1e-9, after.wall - before.wall)
    drift = abs(kernel_after_ms / kernel_before_ms - 1)
    stolen = (after.stolen - before.stolen) / cpu_s
    foreign = max(0.0, (after.busy - before.busy) - (after.own - before.own)) / wall
    took = f"a fixed piece of work took {kernel_before_ms:.3f} ms before and {kernel_after_ms:.3f} after"
    load = f"other processes kept {foreign:.2f} cores busy"
    bounds = (
        (
            drift,
            DRIFT,
            max(kernel_after_ms / kernel_before_ms, kernel_before_ms / kernel_after_ms),
            f"{took} ({DRIFT:.0%} allowed)",
        ),
        (
            stolen,
            STOLEN,
            1 / (1 - min(stolen, MOST_STOLEN)),
            f"the host took away {stolen:.1%} of the time that processes wanted ({STOLEN:.0%} allowed)",
        ),
        (foreign, math.inf if served else FOREIGN, 1 + foreign, f"{load} ({FOREIGN} allowed)"),
    )
    above = [(factor, said) for value, bound, factor, said in bounds if value > bound]
    return Noise(
        kernel_before_ms=kernel_before_ms,
        kernel_after_ms=kernel_after_ms,
        drift=drift,
        stolen=stolen,
        foreign=foreign,
        seen=[said for _, said in above],
        margin=math.prod((factor for factor, _ in above), start=1.0),
    )


# -------------------------------------------------------------------------------------------------------------- rounds


def measure_rounds(
    count: int, measure: Callable[[int], tuple[T, Noise]], advance: Callable[[], None]
) -> tuple[list[tuple[T, Noise]], int]:
    """Measure rounds; a disturbed one is measured again while repeats are left, and the calmer counts.

    Args:
        count: of the rounds.
        measure: number of a round, from 0, to what it measured and what disturbed it.
        advance: called after each round that counts.

    Returns:
        The rounds that count, in order, and how many were measured again.
    """
    rounds, repeats = [], 0
    most = math.ceil(REPEATED_SHARE * count)
    for number in range(count):
        best = measure(number)
        if best[1].seen and repeats < most:
            repeats += 1
            best = min(best, measure(number), key=lambda result: result[1].margin)
        rounds.append(best)
        advance()
    return rounds, repeats


def mean_margin(rounds: Sequence[Noise]) -> float:
    """The factor by which noise could have changed the geometric mean of the rounds' ratios."""
    return math.exp(fmean(math.log(noise.margin) for noise in rounds)) if rounds else 1.0


def describe_rounds(rounds: Sequence[Noise], repeated: int) -> dict[str, Any]:
    """Rounds that were measured again, rounds that count although disturbed, and their margin."""
    disturbed = sum(bool(noise.seen) for noise in rounds)
    return {"repeated": repeated, "disturbed": disturbed, "margin": mean_margin(rounds)}

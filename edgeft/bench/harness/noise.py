"""Whether the machine was quiet: a small kernel before and after, stolen time, and what other processes took."""

from __future__ import annotations

import math
import os
import time
from dataclasses import asdict, dataclass
from statistics import median
from typing import Any

import numpy as np
import psutil

DRIFT, STOLEN, FOREIGN = 0.03, 0.02, 0.05  # shares above which nothing is to be compared
SIDE, WALK_BYTES = 192, 8 << 20  # of the kernel's matrices, and what it walks through
TRIES, TRY_SECONDS = 9, 0.02


def kernel_ms() -> float:
    """A small fixed piece of work: products in the caches and a walk through memory; the median of some tries."""
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
    """What the machine's cores have done, in seconds since it started; 0 where the system doesn't say.

    Attributes:
        busy: all processes' work.
        stolen: wanted, and given to another machine of the host.
        own: this process's and its children's work.
        wall: on the clock.
    """

    busy: float
    stolen: float
    own: float
    wall: float


def ticks() -> Ticks:
    """Now."""
    times = psutil.cpu_times()
    stolen = getattr(times, "steal", 0.0)
    busy = sum(getattr(times, name, 0.0) for name in ("user", "nice", "system", "irq", "softirq"))
    return Ticks(busy=busy, stolen=stolen, own=sum(os.times()[:4]) + _living(), wall=time.time())


def _living() -> float:
    """Seconds that living children have worked; `os.times` has those of the ended."""
    total = 0.0
    for child in psutil.Process().children(recursive=True):
        try:
            own = child.cpu_times()
        except psutil.Error:
            continue
        total += own.user + own.system
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
        seen: what is above its bound, in words; nothing: comparable.
    """

    kernel_before_ms: float
    kernel_after_ms: float
    drift: float
    stolen: float
    foreign: float
    seen: list[str]

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)


class Listening:
    """From its making on, what disturbs.

    Args:
        served: whether a server on this machine is measured, whose process is not this one's child: its work is no
            noise.
    """

    def __init__(self, served: bool = False) -> None:
        self.served = served
        self.ticks, self.kernel_ms = ticks(), kernel_ms()

    def heard(self) -> Noise:
        """Until now."""
        return judged(self.kernel_ms, kernel_ms(), self.ticks, ticks(), self.served)


def judged(kernel_before_ms: float, kernel_after_ms: float, before: Ticks, after: Ticks, served: bool = False) -> Noise:
    """What lies between two moments.

    Args:
        kernel_before_ms: the kernel's time.
        kernel_after_ms: at the end.
        before: at the beginning.
        after: at the end.
        served: whether a server was measured, whose process is not this one's child: its work is no noise.
    """
    wanted = max(1e-9, after.busy - before.busy + after.stolen - before.stolen)
    wall = max(1e-9, after.wall - before.wall)
    drift = abs(kernel_after_ms / kernel_before_ms - 1)
    stolen = (after.stolen - before.stolen) / wanted
    foreign = max(0.0, (after.busy - before.busy) - (after.own - before.own)) / wall
    took = f"a fixed piece of work took {kernel_before_ms:.3f} ms before and {kernel_after_ms:.3f} after"
    kept = f"other processes kept {foreign:.2f} cores busy"
    bounds = (
        (drift, DRIFT, f"{took} ({DRIFT:.0%} allowed)"),
        (stolen, STOLEN, f"the host took away {stolen:.1%} of the time that processes wanted ({STOLEN:.0%} allowed)"),
        (foreign, math.inf if served else FOREIGN, f"{kept} ({FOREIGN} allowed)"),
    )
    return Noise(
        kernel_before_ms=kernel_before_ms,
        kernel_after_ms=kernel_after_ms,
        drift=drift,
        stolen=stolen,
        foreign=foreign,
        seen=[said for value, bound, said in bounds if value > bound],
    )

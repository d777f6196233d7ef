"""Warm-up: until two windows agree."""

from __future__ import annotations

from dataclasses import dataclass
from statistics import median

from edgeft.bench.harness.subjects.child import Child

WINDOW_SECONDS, LEAST, MOST = 0.25, 10, 5000  # of a window, and queries in it
AGREE, WINDOWS = 0.02, 20


@dataclass(frozen=True, kw_only=True)
class Warm:
    """How a subject warmed up.

    Attributes:
        windows: how many it took.
        settled: whether the last two agreed within 2%; else it was given up.
        median_ms: of the last one.
    """

    windows: int
    settled: bool
    median_ms: float


def warm_up(child: Child) -> Warm:
    """Ask in quarter-second windows, at most `WINDOWS`, until the medians of two consecutive ones agree."""
    per_query = max(1e-3, min(child.request("ask", first=0, count=3)["ms"]))
    count = min(MOST, max(LEAST, round(1e3 * WINDOW_SECONDS / per_query)))
    before, current = 0.0, 0.0
    for window in range(1, WINDOWS + 1):
        before, current = current, median(child.request("ask", first=0, count=count)["ms"])
        if abs(current - before) <= AGREE * current:
            return Warm(windows=window, settled=True, median_ms=current)
    return Warm(windows=WINDOWS, settled=False, median_ms=current)

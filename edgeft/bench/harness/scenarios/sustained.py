"""Burst and sustained: the pace of the first seconds beside that of the last, which heat and clocks bring down."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from statistics import median
from typing import Any

from edgeft.bench.harness.subjects.child import Child
from edgeft.progress import Bar

WINDOWS = 12  # of the whole time


@dataclass(frozen=True, kw_only=True)
class Sustained:
    """The medians of equal parts of a long run.

    Attributes:
        seconds: of all.
        windows_ms: median of a query in each part, in order.
        burst_ms: of the first.
        sustained_ms: of the last.
    """

    seconds: float
    windows_ms: list[float]
    burst_ms: float
    sustained_ms: float

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)


def measure_sustained(child: Child, median_ms: float, seconds: float) -> Sustained:
    """Ask one query after the other without a pause.

    Args:
        child: warmed up.
        median_ms: of a query.
        seconds: about how long.
    """
    count = max(1, round(1e3 * seconds / WINDOWS / median_ms))
    windows = []
    with Bar("sustained", WINDOWS) as bar:
        for _ in range(WINDOWS):
            windows.append(median(child.request("ask", first=0, count=count)["ms"]))  # the same texts in each
            bar.advance()
    return Sustained(seconds=seconds, windows_ms=windows, burst_ms=windows[0], sustained_ms=windows[-1])

"""Server scenario: Poisson arrivals that wait for nobody, and the highest rate whose p99 stays under a bound."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from edgeft.bench.harness.subjects.child import Child
from edgeft.bench.race import Latency
from edgeft.progress import Bar

# Of what one query after the other would answer, for the curve. At all of it queues grow without end, which a short run
# doesn't show.
SHARES = (0.3, 0.5, 0.7, 0.8, 0.9, 0.95)
HALVINGS = 4  # between the last rate that holds and the first that doesn't
LONGEST_SECONDS = 60.0  # of a rate; a lower one would take too long to be asked often enough for a p99
BOUND_TIMES = 3.0  # of the first subject's p99 in the single stream, where the user names no bound


@dataclass(frozen=True, kw_only=True)
class Load:
    """Latency at one rate, counted from the time at which a query was due.

    Attributes:
        rate: queries a second that were due.
        queries: how many.
        p50_ms: median.
        p90_ms: nine in ten.
        p99_ms: ninety-nine in a hundred.
        answered: queries a second that were answered.
    """

    rate: float
    queries: int
    p50_ms: float
    p90_ms: float
    p99_ms: float
    answered: float


@dataclass(frozen=True, kw_only=True)
class Capacity:
    """The highest rate that kept its bound.

    Attributes:
        bound_ms: that p99 is not to exceed.
        rate: queries a second; 0: one query by itself takes longer than the bound; None: none of those asked held it,
            and a lower one would take too long to be asked often enough.
        loads: every rate that was tried, rising.
        streams: queries that may be answered at once.
    """

    bound_ms: float
    rate: float | None
    loads: list[Load]
    streams: int

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)


def measure_load(child: Child, rate: float, seconds: float, least: int, seed: int, streams: int) -> Load:
    """Answer Poisson arrivals of a rate for so long, `least` queries at least."""
    count = max(least, round(rate * seconds))
    reply = child.request("server", rate=rate, count=count, seed=seed, streams=streams)
    p50, p90, p99 = np.percentile(reply["ms"], (50, 90, 99))
    answered = count / reply["seconds"]
    return Load(rate=rate, queries=count, p50_ms=float(p50), p90_ms=float(p90), p99_ms=float(p99), answered=answered)


def find_capacity(
    child: Child, stream: Latency, bound_ms: float, seconds: float, least: int, seed: int, streams: int = 1
) -> Capacity:
    """Find the capacity: try shares of the single stream's rate, then bisect between the last that holds and the next.

    A rate that doesn't hold is asked once more, and the better of the two counts: one stall of the machine is no limit.
    The lowest rate that is asked takes `LONGEST_SECONDS`.

    Args:
        child: warmed up.
        stream: what a query took in the single stream.
        bound_ms: of p99.
        seconds: of each rate.
        least: queries of each rate.
        seed: of the arrivals; each rate has its own.
        streams: queries that may be answered at once.
    """
    most = 1e3 * streams / stream.mean_ms
    loads: list[Load] = []
    with Bar("server", len(SHARES) + HALVINGS) as bar:

        def tried(rate: float) -> bool:
            tries = []
            for again in range(2):
                tries.append(measure_load(child, rate, seconds, least, seed + 2 * len(loads) + again, streams))
                if tries[-1].p99_ms <= bound_ms:
                    break
            loads.append(min(tries, key=lambda load: load.p99_ms))
            bar.advance()
            return loads[-1].p99_ms <= bound_ms

        rates = [share * most for share in SHARES]
        held, broken = bracket_rate([rate for rate in rates if least / rate <= LONGEST_SECONDS] or rates[-1:], tried)
        for _ in range(HALVINGS):
            if broken is None or least / (middle := (held + broken) / 2) > LONGEST_SECONDS:
                break
            held, broken = (middle, broken) if tried(middle) else (held, middle)
    rate = held or (0.0 if stream.p50_ms > bound_ms else None)
    return Capacity(bound_ms=bound_ms, rate=rate, loads=sorted(loads, key=lambda load: load.rate), streams=streams)


def bracket_rate(rates: Sequence[float], holds: Callable[[float], bool]) -> tuple[float, float | None]:
    """The last of some rising rates that holds, 0 where none does, and the first that doesn't, None where all do."""
    held = 0.0
    for rate in rates:
        if not holds(rate):
            return held, rate
        held = rate
    return held, None

"""What the trials say: which of them are worth keeping, which one is the best, and what a budget asks too much of."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from optuna.trial import FrozenTrial, TrialState

from edgeft.recipe import budget
from edgeft.recipe.budget import Limit
from edgeft.search import study as studies
from edgeft.search.trial import WHY

MEASURED, CANDIDATE, QUALITY, FOLDERS = "measured", "candidate", "quality", "stages"  # what a trial remembers


@dataclass(frozen=True)
class Row:
    """One trial.

    Attributes:
        number: from 0, which is the recipe itself.
        state: complete, pruned (ended early), failed, running or waiting.
        options: path -> value.
        quality: the lead metric of the graph that ships, on `validation`, which decides, and on `test`; empty: none.
        measured: p50, p90, p99 (ms), size (bytes) and drop (points under the teacher on validation); empty: none.
        candidate: size and latency before training, of a trial that was ended for them; empty: none.
        broken: the limits that it breaks, with both numbers.
        seconds: since it was last begun, None where it runs or waits.
        error: why it failed or was ended.
    """

    number: int
    state: str
    options: dict[str, Any]
    quality: dict[str, float]
    measured: dict[str, float]
    candidate: dict[str, float]
    broken: list[str]
    seconds: float | None
    error: str | None

    @property
    def became(self) -> str:
        """The state in words."""
        return "ended early" if self.state == "pruned" else self.state

    @property
    def fits(self) -> bool:
        """Whether it is inside the budget."""
        return bool(self.measured) and not self.broken


@dataclass(frozen=True)
class Relaxation:
    """One limit that, made so much wider, lets a measured trial fit.

    Attributes:
        limit: as the user wrote it.
        instead: as it would have to be.
        trial: that would fit; the one that needs the least.
    """

    limit: str
    instead: str
    trial: int


def row_of(trial: FrozenTrial, limits: tuple[Limit, ...]) -> Row:
    """A trial of the study as a row."""
    complete = trial.state == TrialState.COMPLETE
    measured = dict(trial.user_attrs.get(MEASURED, {})) if complete else {}
    return Row(
        number=trial.number,
        state=studies.STATES[trial.state],
        options=dict(trial.params),
        quality=dict(trial.user_attrs.get(QUALITY, {})) if complete else {},
        measured=measured,
        candidate=dict(trial.user_attrs.get(CANDIDATE, {})),
        broken=budget.broken(limits, measured),
        seconds=trial.duration.total_seconds() if trial.duration else None,
        error=trial.user_attrs.get(WHY),
    )


def costs(row: Row, latencies: Sequence[str]) -> tuple[float, ...]:
    """What a trial costs, each the less the better: quality given up, size, latencies."""
    return -row.quality["validation"], row.measured["size"], *(row.measured[name] for name in latencies)


def pareto(rows: Sequence[Row], latencies: Sequence[str]) -> list[int]:
    """Numbers of the trials that no other one beats or equals in everything, the best quality first; whatever the
    limits of size and latencies are, the best one inside them is among these.

    Args:
        rows: of all trials; those without figures have no part in it.
        latencies: the quantiles that count.
    """
    front: list[Row] = []
    # Whatever beats a trial comes before it in this order.
    for row in sorted((row for row in rows if row.measured), key=lambda row: (*costs(row, latencies), row.number)):
        own = costs(row, latencies)
        if not any(all(a <= b for a, b in zip(costs(other, latencies), own, strict=True)) for other in front):
            front.append(row)
    return [row.number for row in front]


def best(rows: Sequence[Row], latencies: Sequence[str]) -> Row | None:
    """The trial inside the budget with the best quality on validation; of equals the smaller, then the faster one."""
    return min((row for row in rows if row.fits), key=lambda row: (*costs(row, latencies), row.number), default=None)


def nearest(rows: Sequence[Row], limits: tuple[Limit, ...]) -> Row | None:
    """The measured trial that breaks the limits by the least, all shares summed."""

    def breaks(row: Row) -> tuple[float, int]:
        return sum(max(0.0, share) for share in excesses(row.measured, limits)), row.number

    return min((row for row in rows if row.measured), key=breaks, default=None)


def excesses(measured: Mapping[str, float], limits: tuple[Limit, ...]) -> list[float]:
    """By which share each limit is broken; 0 of what was not measured."""
    return [budget.excess(one, measured[one.quantity]) if one.quantity in measured else 0.0 for one in limits]


def relaxations(rows: Sequence[Row], limits: tuple[Limit, ...]) -> list[Relaxation]:
    """For each limit, the others held, the least that lets a measured trial fit; none where it alone doesn't help."""
    found = []
    for limit in limits:
        others = tuple(other for other in limits if other is not limit)
        near = [row for row in rows if row.measured and not budget.broken(others, row.measured)]
        if near:
            row = min(near, key=lambda row: (row.measured[limit.quantity], row.number))
            instead = budget.relaxed(limit, row.measured[limit.quantity])
            found.append(Relaxation(limit=limit.text, instead=instead, trial=row.number))
    return found

"""Which trials are worth keeping, which one is the best, and which limits of a budget are too tight."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from optuna.trial import FrozenTrial, TrialState

from edgeft.recipe import budget
from edgeft.recipe.budget import Limit
from edgeft.search.engine import TrialRow, row_fields

# User attributes of a trial.
MEASURED, CANDIDATE, QUALITY, STAGE_FOLDERS = "measured", "candidate", "quality", "stages"


@dataclass(frozen=True, kw_only=True)
class Row(TrialRow):
    """One student; trial 0 is the recipe itself.

    Attributes:
        quality: the lead metric of the graph that ships, on `validation`, which decides, and on `test`; empty: none.
        measured: p50, p90, p99 (ms), size (bytes) and drop (points under the teacher on validation); empty: none.
        candidate: size and latency before training, of a trial that was ended for them; empty: none.
        broken: the limits that it breaks, with both numbers.
    """

    quality: dict[str, float]
    measured: dict[str, float]
    candidate: dict[str, float]
    broken: list[str]

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


def to_row(trial: FrozenTrial, limits: tuple[Limit, ...]) -> Row:
    """A trial of the study as a row."""
    complete = trial.state == TrialState.COMPLETE
    measured = dict(trial.user_attrs.get(MEASURED, {})) if complete else {}
    return Row(
        **row_fields(trial),
        quality=dict(trial.user_attrs.get(QUALITY, {})) if complete else {},
        measured=measured,
        candidate=dict(trial.user_attrs.get(CANDIDATE, {})),
        broken=budget.broken(limits, measured),
    )


def list_costs(row: Row, latencies: Sequence[str]) -> tuple[float, ...]:
    """What a trial costs, each the less the better: quality given up, size, latencies."""
    return -row.quality["validation"], row.measured["size"], *(row.measured[name] for name in latencies)


def find_pareto(rows: Sequence[Row], latencies: Sequence[str]) -> list[int]:
    """Numbers of the trials that no other one beats or equals in everything, the best quality first; whatever the
    limits of size and latencies are, the best one inside them is among these.

    Args:
        rows: of all trials; those without figures have no part in it.
        latencies: the quantiles that count.
    """
    front: list[Row] = []
    # Whatever beats a trial comes before it in this order.
    for row in sorted((row for row in rows if row.measured), key=lambda row: (*list_costs(row, latencies), row.number)):
        costs = list_costs(row, latencies)
        if not any(all(a <= b for a, b in zip(list_costs(other, latencies), costs, strict=True)) for other in front):
            front.append(row)
    return [row.number for row in front]


def find_best(rows: Sequence[Row], latencies: Sequence[str]) -> Row | None:
    """The trial inside the budget with the best quality on validation; of equals the smaller, then the faster one."""
    return min(
        (row for row in rows if row.fits), key=lambda row: (*list_costs(row, latencies), row.number), default=None
    )


def find_nearest(rows: Sequence[Row], limits: tuple[Limit, ...]) -> Row | None:
    """The measured trial that breaks the limits by the least, all shares summed."""

    def breaks(row: Row) -> tuple[float, int]:
        return sum(max(0.0, share) for share in compute_excesses(row.measured, limits)), row.number

    return min((row for row in rows if row.measured), key=breaks, default=None)


def compute_excesses(measured: Mapping[str, float], limits: tuple[Limit, ...]) -> list[float]:
    """By which share each limit is broken; 0 of what was not measured."""
    return [budget.excess(limit, measured[limit.quantity]) if limit.quantity in measured else 0.0 for limit in limits]


def find_relaxations(rows: Sequence[Row], limits: tuple[Limit, ...]) -> list[Relaxation]:
    """For each limit, the smallest relaxation that lets a measured trial fit while the other limits hold.

    A limit that doesn't help alone is left out.
    """
    relaxations = []
    for limit in limits:
        others = tuple(other for other in limits if other is not limit)
        fitting = [row for row in rows if row.measured and not budget.broken(others, row.measured)]
        if fitting:
            row = min(fitting, key=lambda row: (row.measured[limit.quantity], row.number))
            instead = budget.relaxed(limit, row.measured[limit.quantity])
            relaxations.append(Relaxation(limit=limit.text, instead=instead, trial=row.number))
    return relaxations

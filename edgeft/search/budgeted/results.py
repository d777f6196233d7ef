"""What a budget search found: the document, and the line that says why nothing fits."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from edgeft.pipeline.run import ARTIFACT
from edgeft.recipe.budget import Limit
from edgeft.report import facts
from edgeft.search.budgeted import ranking
from edgeft.search.budgeted.ranking import Row

RESULTS = "results.json"
PAGE = "report.html"
SCHEMA_VERSION = 1


@dataclass(frozen=True)
class Found:
    """What a budget search found.

    Attributes:
        run: the run folder whose teacher was compressed.
        folder: of the search.
        budget: as the user wrote it.
        limits: of the budget.
        metric: which leads the task.
        teacher: the teacher's, on validation and test.
        latencies: the quantiles that count, the one that is shown first.
        rows: of all trials, by number.
        pareto: numbers of the trials that no other one beats in everything, the best quality first.
        points: number of each of those -> its run folder.
        commands: number of each of those -> the command that remakes it.
        kept_bytes: what the stages take on the disk.
        finished: whether there are as many trials as were wanted; a search that was stopped ships nothing.
    """

    run: Path
    folder: Path
    budget: str
    limits: tuple[Limit, ...]
    metric: str
    teacher: dict[str, float]
    latencies: list[str]
    rows: list[Row]
    pareto: list[int]
    points: dict[int, Path]
    commands: dict[int, str]
    kept_bytes: int
    finished: bool = True

    @property
    def best(self) -> Row | None:
        """The best trial inside the budget; None: nothing fits."""
        return ranking.best(self.rows, self.latencies)

    @property
    def latency(self) -> str:
        """The quantile that is shown."""
        return self.latencies[0]

    @property
    def page(self) -> Path:
        """The page with table and plot."""
        return self.folder / PAGE


def document(found: Found) -> dict[str, Any]:
    """The search as plain values: results.json, and what --json prints.

    Returns:
        `schema_version`, `run`, `folder`, `budget`, `limits` (quantity, bound in ms, bytes or points, text), `metric`
        (of `quality`), `teacher` (validation, test), `latency` (the quantile shown), `trials` (each as of `Row`,
        with `pareto`, `fits`, and of Pareto points `command` and `artifact`), `pareto` (numbers, best quality first),
        `best` (a number or null), `artifact` (its folder or null), `nothing_fits` (a line or null), `relaxations`,
        `kept_bytes`.
    """
    best = found.best
    return {
        "schema_version": SCHEMA_VERSION,
        "run": str(found.run),
        "folder": str(found.folder),
        "page": str(found.page),
        "budget": found.budget,
        "limits": [asdict(limit) for limit in found.limits],
        "metric": found.metric,
        "teacher": found.teacher,
        "latency": found.latency,
        "trials": [_trial(found, row) for row in found.rows],
        "pareto": found.pareto,
        "best": best.number if best else None,
        "artifact": str(found.folder / ARTIFACT) if best and found.finished else None,
        "finished": found.finished,
        "nothing_fits": None if best else nothing_fits(found),
        "relaxations": [] if best else [asdict(one) for one in ranking.relaxations(found.rows, found.limits)],
        "kept_bytes": found.kept_bytes,
    }


def _trial(found: Found, row: Row) -> dict[str, Any]:
    shown = {**asdict(row), "fits": row.fits, "pareto": row.number in found.pareto}
    if row.number in found.commands:
        shown |= {"command": found.commands[row.number], "artifact": str(package(found, row.number))}
    return shown


def package(found: Found, number: int) -> Path:
    """The loadable artifact of a Pareto point."""
    return found.points[number] / "package"


def nothing_fits(found: Found) -> str:
    """Which limits the nearest trial breaks, and what each limit alone would have to be."""
    near = ranking.nearest(found.rows, found.limits)
    if near is None:
        said = next((row.error for row in found.rows if row.error), "none was completed")
        return f"nothing fits {found.budget}: no trial could be measured: {said}"
    line = f"nothing fits {found.budget}: the nearest, trial {near.number}, breaks {'; '.join(near.broken)}"
    ways = [
        f"{one.instead} instead of {one.limit} lets trial {one.trial} fit: {figures(found, found.rows[one.trial])}"
        for one in ranking.relaxations(found.rows, found.limits)
    ]
    ended = sum(bool(row.candidate) for row in found.rows)
    more = [f"{ended} trials were ended before training, as they were too large or too slow"] if ended else []
    earlier = found.folder / ARTIFACT
    old = [f"{earlier} is that of an earlier budget"] if earlier.exists() else []
    return "; ".join([line, *(ways or ["no limit relaxed alone lets a measured trial fit"]), *more, *old])


def figures(found: Found, row: Row) -> str:
    """A measured trial in a line."""
    quality = facts.figure(found.metric, row.quality["validation"])
    latency = facts.milliseconds(row.measured[found.latency])
    drop, size = f"{row.measured['drop']:+z.2f} points lost", facts.size(row.measured["size"])
    return f"{facts.name(found.metric)} {quality} ({drop}), {found.latency} {latency}, {size}"


def teacher(found: Found) -> str:
    """The teacher's quality as text."""
    return f"{facts.figure(found.metric, found.teacher['validation'])} on validation, " + (
        f"{facts.figure(found.metric, found.teacher['test'])} on test"
    )

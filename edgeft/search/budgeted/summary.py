"""What a budgeted search has come to: the document, and the line that says why nothing fits."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from edgeft.pipeline.run import ARTIFACT
from edgeft.recipe.budget import Limit
from edgeft.report import facts
from edgeft.report.blocks import Report
from edgeft.search.budgeted import ranking
from edgeft.search.budgeted.ranking import Row
from edgeft.search.engine import Summary

RESULTS = "results.json"
SCHEMA_VERSION = 1


@dataclass(frozen=True, kw_only=True)
class BudgetSummary(Summary):
    """What a budgeted search has come to.

    Attributes:
        run: the run folder whose teacher was compressed.
        budget: as the user wrote it.
        limits: of the budget.
        teacher: the teacher's metric, on validation and test.
        latencies: the quantiles that count, the one that is shown first.
        rows: of all trials, by number.
        pareto: numbers of the trials that no other one beats in everything, the best quality first.
        points: number of each of those -> its run folder.
        commands: number of each of those -> the command that remakes it.
        kept_bytes: what the stages take on the disk.
        finished: whether there are as many trials as were wanted; a search that was stopped ships nothing.
    """

    run: Path
    budget: str
    limits: tuple[Limit, ...]
    teacher: dict[str, float]
    latencies: list[str]
    rows: list[Row]
    pareto: list[int]
    points: dict[int, Path]
    commands: dict[int, str]
    kept_bytes: int
    finished: bool = True
    page_name = "report.html"

    @property
    def best(self) -> Row | None:
        """The best trial inside the budget; None: nothing fits."""
        return ranking.find_best(self.rows, self.latencies)

    @property
    def latency(self) -> str:
        """The quantile that is shown."""
        return self.latencies[0]

    def document(self) -> dict[str, Any]:
        """The search as plain values: results.json, and what --json prints.

        Returns:
            `schema_version`, `run`, `folder`, `page`, `budget`, `limits` (quantity, bound in ms, bytes or points,
            text), `metric` (of `quality`), `teacher` (validation, test), `latency` (the quantile shown), `trials` (each
            as of `Row`, with `pareto`, `fits`, and of Pareto points `command` and `artifact`), `pareto` (numbers, best
            quality first), `best` (a number or null), `artifact` (its folder or null), `finished`, `nothing_fits` (a
            line or null), `relaxations`, `kept_bytes`.
        """
        best = self.best
        relaxations = [] if best else ranking.find_relaxations(self.rows, self.limits)
        return {
            "schema_version": SCHEMA_VERSION,
            "run": str(self.run),
            "folder": str(self.folder),
            "page": str(self.page),
            "budget": self.budget,
            "limits": [asdict(limit) for limit in self.limits],
            "metric": self.metric,
            "teacher": self.teacher,
            "latency": self.latency,
            "trials": [self._describe_trial(row) for row in self.rows],
            "pareto": self.pareto,
            "best": best.number if best else None,
            "artifact": str(self.folder / ARTIFACT) if best and self.finished else None,
            "finished": self.finished,
            "nothing_fits": None if best else explain_misfits(self),
            "relaxations": [asdict(relaxation) for relaxation in relaxations],
            "kept_bytes": self.kept_bytes,
        }

    def _describe_trial(self, row: Row) -> dict[str, Any]:
        described = {**asdict(row), "fits": row.fits, "pareto": row.number in self.pareto}
        if row.number in self.commands:
            described |= {"command": self.commands[row.number], "artifact": str(self.package(row.number))}
        return described

    def report(self) -> Report:
        from edgeft.search.budgeted.compress_report import report

        return report(self)

    def package(self, number: int) -> Path:
        """The loadable artifact of a Pareto point."""
        return self.points[number] / "package"


def explain_misfits(summary: BudgetSummary) -> str:
    """Which limits the nearest trial breaks, and what each limit alone would have to be."""
    nearest = ranking.find_nearest(summary.rows, summary.limits)
    if nearest is None:
        reason = next((row.error for row in summary.rows if row.error), "none was completed")
        return f"nothing fits {summary.budget}: no trial could be measured: {reason}"
    line = f"nothing fits {summary.budget}: the nearest, trial {nearest.number}, breaks {'; '.join(nearest.broken)}"
    ways = [
        f"{way.instead} instead of {way.limit} lets trial {way.trial} fit: "
        f"{describe_figures(summary, summary.rows[way.trial])}"
        for way in ranking.find_relaxations(summary.rows, summary.limits)
    ]
    ended = sum(bool(row.candidate) for row in summary.rows)
    more = [f"{ended} trials were ended before training, as they were too large or too slow"] if ended else []
    earlier = summary.folder / ARTIFACT
    old = [f"{earlier} is that of an earlier budget"] if earlier.exists() else []
    return "; ".join([line, *(ways or ["no limit relaxed alone lets a measured trial fit"]), *more, *old])


def describe_figures(summary: BudgetSummary, row: Row) -> str:
    """A measured trial in a line."""
    quality = facts.figure(summary.metric, row.quality["validation"])
    latency = facts.milliseconds(row.measured[summary.latency])
    drop, size = f"{row.measured['drop']:+z.2f} points lost", facts.size(row.measured["size"])
    return f"{facts.name(summary.metric)} {quality} ({drop}), {summary.latency} {latency}, {size}"


def describe_teacher(summary: BudgetSummary) -> str:
    """The teacher's quality as text."""
    return f"{facts.figure(summary.metric, summary.teacher['validation'])} on validation, " + (
        f"{facts.figure(summary.metric, summary.teacher['test'])} on test"
    )

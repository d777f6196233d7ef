"""What a budget search found: the document, the table, and the line that says why nothing fits."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table

from edgeft.budget import Limit
from edgeft.pipeline.run import ARTIFACT
from edgeft.report import facts
from edgeft.search.budgeted import ranking
from edgeft.search.budgeted.ranking import Row
from edgeft.search.results import cell, short

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


# --------------------------------------------------------------------------------------------------------------- table


def options_of(found: Found) -> list[str]:
    """The options that differ between trials."""
    paths = dict.fromkeys(path for row in found.rows for path in row.options)
    return [path for path in paths if len({str(row.options.get(path)) for row in found.rows}) > 1]


def ranked(found: Found) -> list[Row]:
    """What fits by quality, then what was measured, then what was ended or failed."""

    def order(row: Row) -> tuple[int, float, int]:
        return (0 if row.fits else 1 if row.measured else 2), -row.quality.get("validation", 0.0), row.number

    return sorted(found.rows, key=order)


def mark(found: Found, row: Row) -> str:
    """What a trial is: the best, a Pareto point, or what else became of it, in a word."""
    if found.best is not None and row.number == found.best.number:
        return "best"
    if row.number in found.pareto:
        return "pareto"
    return "" if row.measured else row.became.split()[0]


def columns(found: Found, row: Row) -> list[str]:
    """The figures of a trial as text: quality on validation and test, drop, p50, p99, size, whether it fits."""
    if not row.measured:
        sizes = [facts.size(row.candidate["size"]), "no"] if row.candidate else [facts.MISSING, facts.MISSING]
        return [*[facts.MISSING] * 5, *sizes]
    quality = [facts.figure(found.metric, row.quality[split]) for split in ("validation", "test")]
    times = [facts.significant(row.measured[name], 3) for name in ("p50", "p99")]
    drop = f"{row.measured['drop']:+z.2f}"
    return [*quality, drop, *times, facts.size(row.measured["size"]), "yes" if row.fits else "no"]


HEADINGS = ("valid", "test", "drop", "p50 ms", "p99 ms", "size", "fits")


def show(found: Found, console: Console) -> None:
    """The table, the commands of the Pareto points, and what ships."""
    console.print(_table(found))
    for row in found.rows:
        console.print(f"trial {row.number}: {_tried(found, row)}", soft_wrap=True, markup=False)
    console.print("\nPareto points:")
    for number in found.pareto:
        console.print(f"  trial {number}: {figures(found, found.rows[number])}", soft_wrap=True, markup=False)
        console.print(f"    {found.commands[number]}", soft_wrap=True, markup=False)
    _show_best(found, console)


def _table(found: Found) -> Table:
    table = Table(box=box.SIMPLE_HEAD, title_justify="left", padding=(0, 1, 0, 0), pad_edge=False)
    table.add_column("trial", no_wrap=True)
    table.title = f"{facts.name(found.metric)} under {found.budget}; drop in points under the teacher"
    for name in HEADINGS:
        table.add_column(name, justify="right", no_wrap=True)
    for row in ranked(found):
        name = f"{row.number} {mark(found, row)}".strip()
        table.add_row(name, *columns(found, row), style="bold" if row == found.best else None)
    return table


def show_so_far(found: Found, console: Console) -> None:
    """The table of a search that was stopped."""
    console.print(_table(found))


def _tried(found: Found, row: Row) -> str:
    """The options of a trial, and why it was not measured."""
    options = " ".join(f"{short(path)}={cell(row.options.get(path))}" for path in options_of(found))
    return f"{options} ({row.became}: {row.error})" if row.error else options


def _show_best(found: Found, console: Console) -> None:
    kept = f"Stages of the search: {facts.size(found.kept_bytes)} in {found.folder / 'stages'}"
    console.print(f"\nPage: {found.page}\n{kept}", soft_wrap=True)
    if (best := found.best) is None:
        return
    test = facts.figure(found.metric, best.quality["test"])
    console.print(f"best inside the budget: trial {best.number}, {figures(found, best)}", soft_wrap=True)
    console.print(f"on test, which decided nothing, {test}; the teacher's is {teacher(found)}", soft_wrap=True)
    console.print(f"Artifact: {found.folder / ARTIFACT}", soft_wrap=True)


def teacher(found: Found) -> str:
    """The teacher's quality as text."""
    return f"{facts.figure(found.metric, found.teacher['validation'])} on validation, " + (
        f"{facts.figure(found.metric, found.teacher['test'])} on test"
    )

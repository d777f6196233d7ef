"""A search as a report: every trial, which options mattered, and the best trial's figures on test."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial

from edgeft.report import facts
from edgeft.report.blocks import Bar, Block, Column, Command, Figure, Headline, Paragraph, Report, Section, Table
from edgeft.report.blocks import Row as TableRow
from edgeft.search import search_plots
from edgeft.search.results import Found, Row, cell, short

NO_IMPORTANCE = "Too few completed trials to say which option matters."
IMPORTANCE = "The share of each option in what tells good trials from bad ones (PED-ANOVA over the completed trials)."
COURSE = (
    "Dots are completed trials, crosses those that were ended early, at their best look; the line is the best so far."
)


def report(found: Found) -> Report:
    """Plots and options for a page; the table for both; the best trial and what to do next for a terminal."""
    course = Figure(partial(search_plots.course, found.rows, found.metric))
    sections = (
        Section("Course", (course,), COURSE, shown="page"),
        Section("Options", tuple(_options(found)), IMPORTANCE if found.importance else NO_IMPORTANCE),
        trials(found),
        Section("Best", tuple(_best(found)), shown="terminal"),
    )
    return Report(
        title=found.name,
        tab=f"{found.name}: search",
        subtitle="A search of fine-tuning options. Trials are compared on the validation split alone.",
        headlines=tuple(_headlines(found)),
        sections=sections,
    )


def _headlines(found: Found) -> Iterator[Headline]:
    states = [row.state for row in found.rows]
    seconds = sum(row.seconds or 0.0 for row in found.rows)
    done, pruned, failed = (states.count(state) for state in ("complete", "pruned", "failed"))
    best, test = (facts.cell("", split.get(found.metric)) for split in (found.validation, found.test))
    yield Headline(f"validation {found.metric}", best, f"trial {found.best.number}")
    yield Headline(f"test {found.metric}", test, "of that model; decided nothing")
    yield Headline("trials", str(len(states)), f"{done} complete, {pruned} ended early, {failed} failed")
    yield Headline("time", f"{seconds / 60:.1f} min", "of all trials, in whatever process")


def _options(found: Found) -> Iterator[Block]:
    """How much each option mattered, and the score over each."""
    if found.importance:
        rows = (
            TableRow((short(path), facts.percent(share)), bar=Bar(share)) for path, share in found.importance.items()
        )
        yield Table((Column(), Column(kind="number")), tuple(rows))
    for path, options in found.space.items():
        yield Figure(partial(search_plots.scatter, path, options, found.rows, found.metric), short(path))


def trials(found: Found) -> Section:
    """Every trial, and why some failed."""
    options = list(dict.fromkeys([*found.space, *(path for row in found.rows for path in row.options)]))
    numbers = ("score", "looks", "seconds", *map(short, options))
    columns = (Column("trial"), Column("state"), *(Column(name, "number") for name in numbers))
    table = Table(columns, tuple(_trial_row(found, row, options) for row in _ranked(found.rows)))
    failed = (Paragraph(f"trial {row.number} failed: {row.error}", wrap=False) for row in found.rows if row.error)
    lead = f"The best first. The score is the validation {found.metric}; between equals the lower loss decides."
    return Section("Trials", (table, *failed), lead)


def _trial_row(found: Found, row: Row, options: Sequence[str]) -> TableRow:
    score = facts.MISSING if row.score is None else f"{row.score:.4f}"
    seconds = facts.MISSING if row.seconds is None else f"{row.seconds:.0f}"
    values = [cell(row.options.get(path)) for path in options]
    cells = (str(row.number), row.state, score, str(row.looks), seconds, *values)
    return TableRow(cells, "strong" if row.number == found.best.number else "plain")


def _ranked(rows: Sequence[Row]) -> list[Row]:
    """Completed trials by score, the best first, then pruned ones by score, then the others."""
    order = {"complete": 0, "pruned": 1}
    return sorted(rows, key=lambda row: (order.get(row.state, 2), -(row.score or 0.0), row.number))


def _best(found: Found) -> Iterator[Block]:
    best = f"best: trial {found.best.number}, validation {found.metric} {found.validation.get(found.metric, 0.0):.4f}"
    yield Paragraph(f"{best}; on test, which decided nothing, {found.test.get(found.metric, 0.0):.4f}", wrap=False)
    if running := [str(row.number) for row in found.rows if row.state == "running"]:
        yield Paragraph(f"still running in other processes: trial {', '.join(running)}")
    yield Paragraph(f"Page: {found.page}", wrap=False)
    yield Paragraph(f"Model: {found.model}", wrap=False)
    yield Paragraph("Next:")
    yield Command(f"edgeft pipeline {found.recipe}")

"""A search as a report: every trial, which options mattered, and the best trial's figures on test."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial

from edgeft.report import facts
from edgeft.report.blocks import Bar, Block, Column, Command, Figure, Headline, Paragraph, Report, Section, Table
from edgeft.report.blocks import Row as TableRow
from edgeft.search.engine import TRIALS, format_option, short_name
from edgeft.search.finetuning import search_plots
from edgeft.search.finetuning.summary import FinetuningSummary, Row

NO_IMPORTANCE = "Too few completed trials to say which option matters."
IMPORTANCE = "The share of each option in what tells good trials from bad ones (PED-ANOVA over the completed trials)."
HISTORY = (
    "Dots are completed trials, crosses those that were ended early, at their best look; the line is the best so far."
)


def report(summary: FinetuningSummary) -> Report:
    """Plots and options for a page; the table for both; the best trial and what to do next for a terminal."""
    history = Figure(partial(search_plots.plot_history, summary.rows, summary.metric))
    sections = (
        Section("Course", (history,), HISTORY, shown="page"),
        Section("Options", tuple(_options(summary)), IMPORTANCE if summary.importance else NO_IMPORTANCE),
        trials(summary),
        Section("Best", tuple(_best(summary)), shown="terminal"),
    )
    return Report(
        title=summary.name,
        tab=f"{summary.name}: search",
        subtitle="A search of fine-tuning options. Trials are compared on the validation split alone.",
        headlines=tuple(_headlines(summary)),
        sections=sections,
    )


def _headlines(summary: FinetuningSummary) -> Iterator[Headline]:
    states = [row.state for row in summary.rows]
    seconds = sum(row.seconds or 0.0 for row in summary.rows)
    done, pruned, failed = (states.count(state) for state in ("complete", "pruned", "failed"))
    best, test = (facts.cell("", split.get(summary.metric)) for split in (summary.validation, summary.test))
    yield Headline(f"validation {summary.metric}", best, f"trial {summary.best.number}")
    yield Headline(f"test {summary.metric}", test, "of that model; decided nothing")
    yield Headline("trials", str(len(states)), f"{done} complete, {pruned} ended early, {failed} failed")
    yield Headline("time", f"{seconds / 60:.1f} min", "of all trials, in whatever process")


def _options(summary: FinetuningSummary) -> Iterator[Block]:
    """How much each option mattered, and the score over each."""
    if summary.importance:
        rows = (
            TableRow((short_name(path), facts.percent(share)), bar=Bar(share))
            for path, share in summary.importance.items()
        )
        yield Table((Column(), Column(kind="number")), tuple(rows))
    for path, options in summary.space.items():
        yield Figure(partial(search_plots.plot_option, path, options, summary.rows, summary.metric), short_name(path))


def trials(summary: FinetuningSummary) -> Section:
    """Every trial, and why some failed."""
    options = list(dict.fromkeys([*summary.space, *(path for row in summary.rows for path in row.options)]))
    numbers = ("score", "looks", "seconds", *map(short_name, options))
    columns = (Column("trial"), Column("state"), *(Column(name, "number") for name in numbers))
    table = Table(columns, tuple(_trial_row(summary, row, options) for row in _ranked(summary.rows)))
    failed = (Paragraph(f"trial {row.number} failed: {row.error}", wrap=False) for row in summary.rows if row.error)
    lead = f"The best first. The score is the validation {summary.metric}; between equals the lower loss decides."
    return Section(TRIALS, (table, *failed), lead)


def _trial_row(summary: FinetuningSummary, row: Row, options: Sequence[str]) -> TableRow:
    score = facts.MISSING if row.score is None else f"{row.score:.4f}"
    seconds = facts.MISSING if row.seconds is None else f"{row.seconds:.0f}"
    values = [format_option(row.options.get(path)) for path in options]
    cells = (str(row.number), row.state, score, str(row.looks), seconds, *values)
    return TableRow(cells, "strong" if row.number == summary.best.number else "plain")


def _ranked(rows: Sequence[Row]) -> list[Row]:
    """Completed trials by score, the best first, then pruned ones by score, then the others."""
    order = {"complete": 0, "pruned": 1}
    return sorted(rows, key=lambda row: (order.get(row.state, 2), -(row.score or 0.0), row.number))


def _best(summary: FinetuningSummary) -> Iterator[Block]:
    validation, test = (split.get(summary.metric, 0.0) for split in (summary.validation, summary.test))
    best = f"best: trial {summary.best.number}, validation {summary.metric} {validation:.4f}"
    yield Paragraph(f"{best}; on test, which decided nothing, {test:.4f}", wrap=False)
    if running := [str(row.number) for row in summary.rows if row.state == "running"]:
        yield Paragraph(f"still running in other processes: trial {', '.join(running)}")
    yield Paragraph(f"Page: {summary.page}", wrap=False)
    yield Paragraph(f"Model: {summary.model}", wrap=False)
    yield Paragraph("Next:")
    yield Command(f"edgeft pipeline {summary.recipe}")

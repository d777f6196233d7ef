"""A budget search as a report: every trial, what fits, and how each Pareto point is remade."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

from edgeft.pipeline.run import ARTIFACT
from edgeft.report import facts
from edgeft.report.blocks import Block, Column, Command, Figure, Headline, Paragraph, Report, Section, Table, Tone
from edgeft.report.blocks import Row as TableRow
from edgeft.search.budgeted import compress_plots, ranking
from edgeft.search.budgeted.ranking import Row
from edgeft.search.budgeted.summary import BudgetSummary, describe_figures, describe_teacher, explain_misfits
from edgeft.search.engine import TRIALS, format_option, short_name

HEADINGS = ("valid", "test", "drop", "p50 ms", "p99 ms", "size", "fits")
STATES = {"complete": "complete", "pruned": "ended early", "failed": "failed"}
PARETO = (
    "Blue trials are inside the budget, the others break a limit. Numbered trials are the Pareto set: none is better, "
    "faster and smaller at once. The line is the best to be had at each cost; on the left a bubble's area is the "
    "model's size."
)
REMAKING = (
    "Each command finds the stages of the search complete in its run folder; "
    "with another --run-dir it makes everything anew."
)


def report(summary: BudgetSummary) -> Report:
    """Plots for a page; the trials and the commands for both; what ships for a terminal."""
    limits = ", ".join(limit.text for limit in summary.limits)
    draws = (
        (compress_plots.plot_by_latency, compress_plots.plot_by_size)
        if any(row.measured for row in summary.rows)
        else ()
    )
    sections = (
        Section(
            "Quality against latency and size",
            tuple(Figure(partial(draw, summary)) for draw in draws),
            PARETO,
            shown="page",
        ),
        trials(summary),
        Section("Remaking a point", tuple(_points(summary)), REMAKING),
        Section("Result", tuple(_best(summary)), shown="terminal"),
    )
    return Report(
        title=summary.run.resolve().name,
        tab=f"{summary.run.resolve().name}: compress",
        subtitle=f"Smaller models of one teacher under {limits}. Trials are compared on the validation split alone.",
        headlines=tuple(_headlines(summary)),
        warnings=() if summary.best else (_sentence(explain_misfits(summary)),),
        sections=tuple(section for section in sections if section.blocks),
    )


def _sentence(line: str) -> str:
    return f"{line[:1].upper()}{line[1:]}."


def _headlines(summary: BudgetSummary) -> Iterator[Headline]:
    row = summary.best or ranking.find_nearest(summary.rows, summary.limits)
    if row is not None:
        what = f"trial {row.number}" if summary.best else f"trial {row.number}, the nearest; nothing fits"
        validation, test = (facts.figure(summary.metric, row.quality[split]) for split in ("validation", "test"))
        drop = f"{row.measured['drop']:+z.2f} points under the teacher; {test} on test"
        yield Headline(f"validation {facts.name(summary.metric)}", validation, f"{what}, {drop}")
        latency = facts.milliseconds(row.measured[summary.latency])
        yield Headline(f"latency, {summary.latency}", latency, "of one text, with tokenization")
        yield Headline("size", facts.size(row.measured["size"]), "graph and tokenizer")
    states = [row.state for row in summary.rows]
    note = ", ".join(f"{states.count(state)} {name}" for state, name in STATES.items() if state in states)
    fit = sum(row.fits for row in summary.rows)
    yield Headline("trials", str(len(states)), f"{note}; {fit} inside the budget")


# -------------------------------------------------------------------------------------------------------------- trials


def trials(summary: BudgetSummary) -> Section:
    """Every trial with its figures and its options, which a terminal has in a line each."""
    options = list_options(summary)
    numbers = (Column(name, "number") for name in HEADINGS)
    columns = (Column("trial"), Column(), *numbers, *(Column(short_name(path), "number", "page") for path in options))
    table = Table(columns, tuple(_trial_row(summary, row, options) for row in _ranked(summary)))
    errors = [Paragraph(f"Trial {row.number}: {row.error}", "pale", shown="page") for row in summary.rows if row.error]
    lines = [
        Paragraph(f"trial {row.number}: {_tried(summary, row)}", wrap=False, shown="terminal") for row in summary.rows
    ]
    lead = (
        f"The {facts.name(summary.metric)} under {summary.budget}. What fits stands first, the best on top. Trial 0 is "
        "the recipe as it was written by hand. The drop is in points under the teacher on validation."
    )
    return Section(TRIALS, (table, *errors, *lines), lead)


def _trial_row(summary: BudgetSummary, row: Row, options: list[str]) -> TableRow:
    word = _mark(summary, row)
    values = (format_option(row.options.get(path)) for path in options)
    tone: Tone = "strong" if word == "best" else "plain" if row.measured else "pale"
    return TableRow((str(row.number), word, *_figures(summary, row), *values), tone)


def list_options(summary: BudgetSummary) -> list[str]:
    """The options that differ between trials."""
    paths = dict.fromkeys(path for row in summary.rows for path in row.options)
    return [path for path in paths if len({str(row.options.get(path)) for row in summary.rows}) > 1]


def _ranked(summary: BudgetSummary) -> list[Row]:
    """What fits by quality, then what was measured, then what was ended or failed."""

    def order(row: Row) -> tuple[int, float, int]:
        return (0 if row.fits else 1 if row.measured else 2), -row.quality.get("validation", 0.0), row.number

    return sorted(summary.rows, key=order)


def _mark(summary: BudgetSummary, row: Row) -> str:
    """What a trial is: the best, a Pareto point, or what else became of it, in a word."""
    if summary.best is not None and row.number == summary.best.number:
        return "best"
    if row.number in summary.pareto:
        return "pareto"
    return "" if row.measured else row.outcome.split()[0]


def _figures(summary: BudgetSummary, row: Row) -> list[str]:
    """The figures of a trial as text: quality on validation and test, drop, p50, p99, size, whether it fits."""
    if not row.measured:
        sizes = [facts.size(row.candidate["size"]), "no"] if row.candidate else [facts.MISSING, facts.MISSING]
        return [*[facts.MISSING] * 5, *sizes]
    quality = [facts.figure(summary.metric, row.quality[split]) for split in ("validation", "test")]
    times = [facts.significant(row.measured[name], 3) for name in ("p50", "p99")]
    drop = f"{row.measured['drop']:+z.2f}"
    return [*quality, drop, *times, facts.size(row.measured["size"]), "yes" if row.fits else "no"]


def _tried(summary: BudgetSummary, row: Row) -> str:
    """The options of a trial, and why it was not measured."""
    options = " ".join(f"{short_name(path)}={format_option(row.options.get(path))}" for path in list_options(summary))
    return f"{options} ({row.outcome}: {row.error})" if row.error else options


# ------------------------------------------------------------------------------------------------- points, what ships


def _points(summary: BudgetSummary) -> Iterator[Block]:
    """How each Pareto point is remade."""
    for number in summary.pareto:
        yield Paragraph(f"Trial {number}: {describe_figures(summary, summary.rows[number])}", "strong")
        yield Paragraph(str(summary.package(number)), "pale", wrap=False)
        yield Command(summary.commands[number])


def _best(summary: BudgetSummary) -> Iterator[Block]:
    yield Paragraph(f"Page: {summary.page}", wrap=False)
    stages = summary.folder / "stages"
    yield Paragraph(f"Stages of the search: {facts.size(summary.kept_bytes)} in {stages}", wrap=False)
    if (best := summary.best) is None:
        return
    test = facts.figure(summary.metric, best.quality["test"])
    yield Paragraph(f"best inside the budget: trial {best.number}, {describe_figures(summary, best)}")
    yield Paragraph(f"on test, which decided nothing, {test}; the teacher's is {describe_teacher(summary)}")
    yield Paragraph(f"Artifact: {summary.folder / ARTIFACT}", wrap=False)

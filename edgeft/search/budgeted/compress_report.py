"""A budget search as a report: every trial, what fits, and how each Pareto point is remade."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

from edgeft.pipeline.run import ARTIFACT
from edgeft.report import facts
from edgeft.report.blocks import Block, Column, Command, Figure, Headline, Paragraph, Report, Section, Table, Tone
from edgeft.report.blocks import Row as TableRow
from edgeft.search.budgeted import compress_plots, ranking, results
from edgeft.search.budgeted.ranking import Row
from edgeft.search.budgeted.results import Found
from edgeft.search.results import cell, short

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


def report(found: Found) -> Report:
    """Plots for a page; the trials and the commands for both; what ships for a terminal."""
    limits = ", ".join(limit.text for limit in found.limits)
    draws = (compress_plots.by_latency, compress_plots.by_size) if any(row.measured for row in found.rows) else ()
    sections = (
        Section(
            "Quality against latency and size",
            tuple(Figure(partial(draw, found)) for draw in draws),
            PARETO,
            shown="page",
        ),
        trials(found),
        Section("Remaking a point", tuple(_points(found)), REMAKING),
        Section("Result", tuple(_best(found)), shown="terminal"),
    )
    return Report(
        title=found.run.resolve().name,
        tab=f"{found.run.resolve().name}: compress",
        subtitle=f"Smaller models of one teacher under {limits}. Trials are compared on the validation split alone.",
        headlines=tuple(_headlines(found)),
        warnings=() if found.best else (_sentence(results.nothing_fits(found)),),
        sections=tuple(section for section in sections if section.blocks),
    )


def _sentence(line: str) -> str:
    return f"{line[:1].upper()}{line[1:]}."


def _headlines(found: Found) -> Iterator[Headline]:
    row = found.best or ranking.nearest(found.rows, found.limits)
    if row is not None:
        what = f"trial {row.number}" if found.best else f"trial {row.number}, the nearest; nothing fits"
        validation, test = (facts.figure(found.metric, row.quality[split]) for split in ("validation", "test"))
        drop = f"{row.measured['drop']:+z.2f} points under the teacher; {test} on test"
        yield Headline(f"validation {facts.name(found.metric)}", validation, f"{what}, {drop}")
        latency = facts.milliseconds(row.measured[found.latency])
        yield Headline(f"latency, {found.latency}", latency, "of one text, with tokenization")
        yield Headline("size", facts.size(row.measured["size"]), "graph and tokenizer")
    states = [row.state for row in found.rows]
    note = ", ".join(f"{states.count(state)} {name}" for state, name in STATES.items() if state in states)
    fit = sum(row.fits for row in found.rows)
    yield Headline("trials", str(len(states)), f"{note}; {fit} inside the budget")


# -------------------------------------------------------------------------------------------------------------- trials


def trials(found: Found) -> Section:
    """Every trial with its figures and its options, which a terminal has in a line each."""
    options = options_of(found)
    numbers = (Column(name, "number") for name in HEADINGS)
    columns = (Column("trial"), Column(), *numbers, *(Column(short(path), "number", "page") for path in options))
    table = Table(columns, tuple(_trial_row(found, row, options) for row in _ranked(found)))
    errors = [Paragraph(f"Trial {row.number}: {row.error}", "pale", shown="page") for row in found.rows if row.error]
    lines = [Paragraph(f"trial {row.number}: {_tried(found, row)}", wrap=False, shown="terminal") for row in found.rows]
    lead = (
        f"The {facts.name(found.metric)} under {found.budget}. What fits stands first, the best on top. Trial 0 is the "
        "recipe as it was written by hand. The drop is in points under the teacher on validation."
    )
    return Section("Trials", (table, *errors, *lines), lead)


def _trial_row(found: Found, row: Row, options: list[str]) -> TableRow:
    word = _mark(found, row)
    values = (cell(row.options.get(path)) for path in options)
    tone: Tone = "strong" if word == "best" else "plain" if row.measured else "pale"
    return TableRow((str(row.number), word, *_figures(found, row), *values), tone)


def options_of(found: Found) -> list[str]:
    """The options that differ between trials."""
    paths = dict.fromkeys(path for row in found.rows for path in row.options)
    return [path for path in paths if len({str(row.options.get(path)) for row in found.rows}) > 1]


def _ranked(found: Found) -> list[Row]:
    """What fits by quality, then what was measured, then what was ended or failed."""

    def order(row: Row) -> tuple[int, float, int]:
        return (0 if row.fits else 1 if row.measured else 2), -row.quality.get("validation", 0.0), row.number

    return sorted(found.rows, key=order)


def _mark(found: Found, row: Row) -> str:
    """What a trial is: the best, a Pareto point, or what else became of it, in a word."""
    if found.best is not None and row.number == found.best.number:
        return "best"
    if row.number in found.pareto:
        return "pareto"
    return "" if row.measured else row.became.split()[0]


def _figures(found: Found, row: Row) -> list[str]:
    """The figures of a trial as text: quality on validation and test, drop, p50, p99, size, whether it fits."""
    if not row.measured:
        sizes = [facts.size(row.candidate["size"]), "no"] if row.candidate else [facts.MISSING, facts.MISSING]
        return [*[facts.MISSING] * 5, *sizes]
    quality = [facts.figure(found.metric, row.quality[split]) for split in ("validation", "test")]
    times = [facts.significant(row.measured[name], 3) for name in ("p50", "p99")]
    drop = f"{row.measured['drop']:+z.2f}"
    return [*quality, drop, *times, facts.size(row.measured["size"]), "yes" if row.fits else "no"]


def _tried(found: Found, row: Row) -> str:
    """The options of a trial, and why it was not measured."""
    options = " ".join(f"{short(path)}={cell(row.options.get(path))}" for path in options_of(found))
    return f"{options} ({row.became}: {row.error})" if row.error else options


# ------------------------------------------------------------------------------------------------- points, what ships


def _points(found: Found) -> Iterator[Block]:
    """How each Pareto point is remade."""
    for number in found.pareto:
        yield Paragraph(f"Trial {number}: {results.figures(found, found.rows[number])}", "strong")
        yield Paragraph(str(results.package(found, number)), "pale", wrap=False)
        yield Command(found.commands[number])


def _best(found: Found) -> Iterator[Block]:
    yield Paragraph(f"Page: {found.page}", wrap=False)
    stages = found.folder / "stages"
    yield Paragraph(f"Stages of the search: {facts.size(found.kept_bytes)} in {stages}", wrap=False)
    if (best := found.best) is None:
        return
    test = facts.figure(found.metric, best.quality["test"])
    yield Paragraph(f"best inside the budget: trial {best.number}, {results.figures(found, best)}")
    yield Paragraph(f"on test, which decided nothing, {test}; the teacher's is {results.teacher(found)}")
    yield Paragraph(f"Artifact: {found.folder / ARTIFACT}", wrap=False)

"""An evaluation as a report, which quotes no text."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from edgeft.report import facts
from edgeft.report.blocks import Column, Headline, Paragraph, Report, Row, Section, Table, number_table
from edgeft.report.slice_sections import group_slices, lowest_slices
from edgeft.terminal.printing import visible

CONFUSIONS = 20
WEAKEST = 8  # slices on a terminal, which doesn't show them all

Document = Mapping[str, Any]


def report(document: Document) -> Report:
    """Metrics, calibration, slices and confusions."""
    title = f"{visible(document['artifact'])} on {visible(document['file'])}"
    sections = [_metrics(document), _weakest(document), _slices(document), _confusions(document)]
    columns = ", ".join(f"{role} is {visible(column)}" for role, column in document["columns"].items())
    return Report(
        title=title,
        tab=title,
        subtitle=_subtitle(document),
        headlines=tuple(_headlines(document)),
        sections=tuple(section for section in sections if section.blocks),
        footer=f"Columns: {columns}.",
    )


def _subtitle(document: Document) -> str:
    left_out = document["left_out"]
    more = f", {facts.integer(left_out)} more without a text after cleaning" if left_out else ""
    rows = f"{document['task']} ({document['kind']}), {facts.integer(document['rows'])} rows{more}"
    return f"{rows}; asked one at a time through the runtime"


def _headlines(document: Document) -> Iterator[Headline]:
    metric = document["slices"]["metric"]
    lead = document["intervals"][metric]
    between = f"95% interval {facts.interval(metric, lead['low'], lead['high'])}"
    yield Headline(facts.name(metric), facts.figure(metric, lead["value"]), between)
    if calibration := document["calibration"]:
        chance = f"{calibration['ece_by_chance']:.4f} by chance alone"
        yield Headline("calibration error", f"{calibration['ece']:.4f}", chance)
        yield Headline("NLL", f"{calibration['nll']:.4f}", "nats a choice")
        yield Headline("Brier", f"{calibration['brier']:.4f}", "0 is best, 2 is worst")


# ------------------------------------------------------------------------------------------------------------- metrics


def _metrics(document: Document) -> Section:
    table = number_table(("", "here", "95% interval", "recorded on its own test rows"), _metric_rows(document))
    lead = "Bootstrap intervals over the rows; beside them what was measured on its test rows when it was made."
    return Section("Metrics", (table, *map(Paragraph, _calibration_lines(document))), lead)


def _metric_rows(document: Document) -> list[tuple[str, ...]]:
    """Each metric with its interval and, where the manifest has it, what was measured when it was made."""
    intervals, recorded = document["intervals"], document["recorded"]
    names = [*intervals, *(name for name in document["metrics"] if name not in intervals)]
    return [
        (
            visible(facts.name(name)),
            facts.figure(name, document["metrics"].get(name, intervals.get(name, {}).get("value"))),
            facts.interval(name, *_ends(intervals.get(name))),
            facts.figure(name, (recorded.get(name) or {}).get("value")),
        )
        for name in names
    ]


def _ends(interval: Document | None) -> tuple[float | None, float | None]:
    return (None, None) if interval is None else (interval["low"], interval["high"])


def _calibration_lines(document: Document) -> list[str]:
    """What can be believed of the probabilities; nothing where there are none."""
    calibration = document["calibration"]
    if calibration is None:
        return []
    ends = {name: _ends(calibration.get("intervals", {}).get(name)) for name in ("nll", "brier")}
    between = {name: f" ({facts.interval('', *both)})" if both[0] is not None else "" for name, both in ends.items()}
    by_chance = f"exact probabilities would show about {calibration['ece_by_chance']:.4f} on so many rows"
    lines = [
        f"calibration: ECE {calibration['ece']:.4f} ({by_chance}), NLL {calibration['nll']:.4f}{between['nll']}, "
        f"Brier {calibration['brier']:.4f}{between['brier']}"
    ]
    if abstains := calibration.get("abstains"):
        lines.append(
            f"answered without abstaining: {abstains['share']:.1%}, of which {abstains['error']:.1%} are wrong"
        )
    return lines


# -------------------------------------------------------------------------------------------------------------- slices


def _slices(document: Document) -> Section:
    """Every slice, a table for each way to slice."""
    slices = document["slices"]
    titles = {**group_slices(slices), f"by length in {slices['unit']}": slices["by_length"]}
    tables = [_slice_table(document, visible(title), list(parts.items())) for title, parts in titles.items()]
    lead = f"The {facts.name(slices['metric'])} on parts of the rows. Pale slices have too few rows to tell much."
    return Section("Slices", tuple(tables), lead, shown="page")


def _weakest(document: Document) -> Section:
    parts = list(lowest_slices(document, WEAKEST))
    tables = (_slice_table(document, "slice", parts),) if parts else ()
    return Section("Where it is weakest", tables, shown="terminal")


def _slice_table(document: Document, title: str, parts: list[tuple[str, Any]]) -> Table:
    metric = document["slices"]["metric"]
    header = (title, "texts", facts.name(metric), "95% interval")
    columns = (Column(header[0]), *(Column(name, "number") for name in header[1:]))
    return Table(columns, tuple(_slice_row(metric, name, part) for name, part in parts))


def _slice_row(metric: str, name: str, part: Document) -> Row:
    value, between = facts.figure(metric, part["value"]), facts.interval(metric, part["low"], part["high"])
    cells = (visible(name), facts.integer(part["rows"]), value, between)
    return Row(cells, "pale" if part["small"] else "plain")


def _confusions(document: Document) -> Section:
    """The most frequent pairs of a true and a wrongly predicted label."""
    pairs = [
        (true, label, count)
        for true, row in (document["confusion"] or {}).items()
        for label, count in row.items()
        if label != true
    ]
    most = sorted(pairs, key=lambda pair: -pair[2])[:CONFUSIONS]
    columns = (Column("true label"), Column("predicted label"), Column("texts", "number"))
    rows = tuple(Row((visible(true), visible(label), facts.integer(count))) for true, label, count in most)
    return Section("Confusions", (Table(columns, rows),) if rows else (), "The most frequent ones.", shown="page")

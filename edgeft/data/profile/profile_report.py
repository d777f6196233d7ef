"""A data profile as a report, which quotes no text."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import partial
from typing import Any

from edgeft import tasks
from edgeft.data.profile import profile_facts, profile_plots
from edgeft.data.profile.lengths import WORDS
from edgeft.report import facts
from edgeft.report.blocks import (
    Bar,
    Block,
    Column,
    Command,
    Figure,
    Headline,
    Paragraph,
    Report,
    Row,
    Section,
    Shown,
    Table,
    number_table,
    pair_table,
)
from edgeft.terminal.printing import visible

PAGE_LABELS, TERMINAL_LABELS = 60, 24  # shown, the most frequent ones
READ_A_PLOT = "a dashed line is a max_length and the share of the texts that it cuts; the longest 0.5% are off the edge"
WHICH = '"12 as 3": row 12 repeats row 3. No text is quoted here, and no value of personal data.'
ALL_WELL = "Nothing: no repeats, no leaks, no personal data, no odd texts."

Document = Mapping[str, Any]


def report(document: Document) -> Report:
    """The whole profile; recommendations come first on a page, and last on a terminal, next to the prompt.

    Args:
        document: as returned by `edgeft.data.profile.profile`.
    """
    to_do = _to_do(document)
    sections = (
        replace(to_do, shown="page"),
        Section("Rows", tuple(_rows(document))),
        Section("Targets", tuple(_targets(document))),
        _lengths(document),
        Section("Found", tuple(_findings(document)), _findings_lead(document)),
        *_splits(document),
        *_languages(document),
        replace(to_do, shown="terminal"),
    )
    cleaning = document["cleaning"]["steps"]
    kind = f"{document['rows']['total']:,} rows, {document['task']} ({document['kind']})"
    return Report(
        title=visible(document["source"]),
        tab=f"{visible(document['source'])}: rows",
        subtitle=kind + (f"; cleaned by {', '.join(cleaning)}" if cleaning else ""),
        headlines=tuple(_headlines(document)),
        sections=tuple(section for section in sections if section.blocks or section.lead),
        footer="Written by edgeft. One file, no network.",
    )


def _headlines(document: Document) -> Iterator[Headline]:
    rows, unit = document["rows"], document["lengths"]["unit"]
    files, faulty = len(rows["files"]), sum(part["count"] for part in rows["skipped"].values())
    yield Headline("rows", f"{rows['total']:,}", f"{files} file{'s' if files > 1 else ''}, {faulty:,} can't be used")
    if labels := len(document["targets"].get("labels", {})):
        imbalance = f"imbalance {document['targets'].get('imbalance', 1.0):.1f} to 1"
        yield Headline(_label_word(document), f"{labels:,}", imbalance)
    else:
        yield Headline("characters", f"{document['texts']['characters']['median']:,.0f}", "median of the texts")
    name, part = next(iter(document["lengths"]["parts"].items()))
    median = f"{name}, median {part['percentiles']['p50']:,.0f}"
    yield Headline("p95 words" if unit == WORDS else f"p95 {unit}", f"{part['percentiles']['p95']:,.0f}", median)
    near = document["near_duplicates"].get("found", {})
    repeats = document["duplicates"]["count"] + sum(part["count"] for part in near.values())
    yield Headline("repeats", f"{repeats:,}", "duplicates and near duplicates")


def _label_word(document: Document) -> str:
    return "tags" if tasks.find_form(document["kind"]).labels_tokens else "labels"


# ------------------------------------------------------------------------------------------------------ rows, targets


def _rows(document: Document) -> Iterator[Block]:
    """The files, if there are several, and what cleaning changed."""
    files = document["rows"]["files"]
    if len(files) > 1:
        cells = [(file["field"].replace("_", " "), visible(file["file"]), f"{file['rows']:,}") for file in files]
        yield Table((Column(), Column(), Column(kind="number")), tuple(map(Row, cells)))
    cleaning = document["cleaning"]
    for what, counts in (("changed by cleaning", cleaning["changed"]), ("replaced", cleaning["replaced"])):
        if counts:
            yield Paragraph(f"{what}: {_join_counts(counts)}")


def _join_counts(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{visible(name)} {count:,}" for name, count in counts.items())


def _targets(document: Document) -> Iterator[Block]:
    targets = document["targets"]
    if targets.get("labels"):
        yield from _labels(document, PAGE_LABELS, "page")
        yield from _labels(document, TERMINAL_LABELS, "terminal")
    if "numbers" in targets:
        yield Figure(partial(profile_plots.numbers, targets))
    pairs = profile_facts.pairs(targets)
    if entities := targets.get("entities"):
        pairs = [("entities", _join_counts(entities)), *pairs]
    if pairs:
        yield pair_table(pairs)


def _labels(document: Document, count: int, shown: Shown) -> Iterator[Block]:
    """The most frequent labels, each with its rows or tokens, its share and a bar."""
    labels, left_out = profile_facts.most(profile_facts.label_rows(document["targets"]), count)
    largest = max((share for _, _, share in labels), default=0.0) or 1.0
    word = _label_word(document)
    counted = "tokens" if tasks.find_form(document["kind"]).labels_tokens else "rows"
    columns = (Column(word.removesuffix("s")), Column(counted, "number"), Column("share", "number"))
    rows = (
        Row((_label_cell(name, shown), f"{rows:,}", facts.percent(share)), bar=Bar(share / largest))
        for name, rows, share in labels
    )
    yield Table(columns, tuple(rows), shown)
    if left_out:
        yield Paragraph(f"and {left_out:,} rarer {word}", "pale", shown=shown)


def _label_cell(name: str, shown: Shown) -> str:
    return profile_facts.short(name) if shown == "terminal" else visible(name)


# ------------------------------------------------------------------------------------------------------------- lengths


def _lengths(document: Document) -> Section:
    parts = document["lengths"]["parts"]
    plots = [Figure(partial(profile_plots.lengths, name, document), name, READ_A_PLOT) for name in parts]
    cuts = Figure(partial(profile_plots.cuts, document), "cut by max_length")
    first = next(iter(parts.values()))
    percentiles = [(name, *(f"{value:,.0f}" for value in part["percentiles"].values())) for name, part in parts.items()]
    shares = [(name, *map(profile_facts.cut, part["cut"].values())) for name, part in parts.items()]
    tables = (
        number_table(("", *first["percentiles"]), percentiles),
        number_table(("cut by max_length", *first["cut"]), shares),
    )
    return Section("Lengths", (*plots, cuts, *tables), f"In {profile_facts.counted_by(document)}.")


# --------------------------------------------------------------------------------------------------- findings, to do


def _findings_lead(document: Document) -> str:
    if not profile_facts.findings(document):
        return ALL_WELL
    files = document["rows"]["files"]
    first = f" {visible(files[0]['file'])} where no other is named" if len(files) > 1 else ""
    return f"Row numbers of the file{first}, the header not counted; {WHICH}"


def _findings(document: Document) -> Iterator[Block]:
    columns = (Column(), Column("rows", "number"), Column("which", "prose"))
    if findings := profile_facts.findings(document):
        rows = (Row((finding.name, f"{finding.count:,}", finding.where)) for finding in findings)
        yield Table(columns, tuple(rows))
    for line in profile_facts.samples(document):
        yield Paragraph(visible(line), "pale")


def _to_do(document: Document) -> Section:
    """Options to set, each with its reason, and the command that sets them."""
    if not document["todo"]:
        return Section("What to do", lead="Nothing: train.")
    rows = tuple(map(_to_do_row, document["todo"]))
    table = Table((Column(), Column(kind="code"), Column(kind="prose")), rows)
    command = document.get("command")
    blocks = (table, Command(command, "page")) if command else (table,)  # `edgeft data` prints it as the next step
    return Section("What to do", blocks, "Options to set, each with its reason; look yourself where there is none.")


def _to_do_row(item: Document) -> Row:
    option = profile_facts.flag(item["option"], item["value"])
    return Row((item["level"], option, visible(item["why"])), "loud" if item["level"] == "must" else "plain")


# -------------------------------------------------------------------------------------------------- splits, languages


def _splits(document: Document) -> Iterator[Section]:
    counts = document["splits"].get("rows")
    if not counts:
        return
    lead = f"In rows, before balance: {_join_counts(counts)}."
    not_rehearsed = "Not rehearsed: balance, which repeats or leaves out some."
    labels = document["splits"].get("labels", {})
    rows = [(visible(label), *(f"{count[name]:,}" for name in counts)) for label, count in labels.items()]
    tables = (number_table(("", *counts), rows, "page"),) if rows and len(rows) <= PAGE_LABELS else ()
    yield Section("Splits", (Paragraph(not_rehearsed, "pale", shown="page"), *tables), lead)


def _languages(document: Document) -> Iterator[Section]:
    shares = document["languages"].get("shares")
    if shares:
        columns = (Column(), Column(kind="number"))
        rows = (Row((name, facts.percent(share)), bar=Bar(share)) for name, share in shares.items())
        texts = f"{document['languages']['texts']:,} texts"
        lead = f"Of {texts}, chosen by their content; short texts are easily mistaken."
        yield Section("Languages", (Table(columns, tuple(rows)),), lead)

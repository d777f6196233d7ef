"""The document of a data profile on a terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from edgeft.data.profile import profile_facts
from edgeft.data.profile.profile_facts import visible

MAX_LABELS = 24
BAR = 24  # characters of the widest bar
WIDTH = 100  # wider lines are hard to read


def show(document: Mapping[str, Any], console: Console) -> None:
    """Print everything, what to do last."""
    _head(document, console)
    _targets(document["targets"], console)
    _lengths(document, console)
    _splits(document, console)
    _findings(document, console)
    _todo(document, console)


def _title(text: str, console: Console, note: str = "") -> None:
    console.print()
    console.print(Text.assemble((text, "bold"), (f"  {note}" if note else "", "dim")))


def _grid(*justify: str) -> Table:
    table = Table(box=None, show_header=False, pad_edge=False, padding=(0, 2, 0, 0))
    for side in justify:
        table.add_column(justify="right" if side == "right" else "left", overflow="fold")
    return table


def _head(document: Mapping[str, Any], console: Console) -> None:
    rows = document["rows"]
    line = f"{visible(document['source'])}: {rows['total']:,} rows"
    console.print(Text.assemble((line, "bold"), f", {document['task']} ({document['kind']})"))
    if len(rows["files"]) > 1:
        table = _grid("left", "left", "right")
        for file in rows["files"]:
            table.add_row(file["field"].replace("_", " "), Text(visible(file["file"])), f"{file['rows']:,}")
        console.print(table)
    cleaning = document["cleaning"]
    for what, counts in (("changed by cleaning", cleaning["changed"]), ("replaced", cleaning["replaced"])):
        if counts:
            console.print(f"{what}: " + ", ".join(f"{name} {count:,}" for name, count in counts.items()))


def _targets(targets: Mapping[str, Any], console: Console) -> None:
    labels = profile_facts.label_rows(targets)
    figures = profile_facts.pairs(targets)
    if not labels and not figures:
        return
    _title("Targets", console)
    if labels:
        _bars(labels, console)
    if entities := targets.get("entities"):
        figures = [("entities", ", ".join(f"{visible(name)} {count:,}" for name, count in entities.items())), *figures]
    table = _grid("left", "left")
    for name, words in figures:
        table.add_row(name, Text(words))
    if figures:
        console.print(table)


def _bars(labels: Sequence[tuple[str, int, float]], console: Console) -> None:
    shown, left_out = profile_facts.most(labels, MAX_LABELS)
    largest = max(share for _, _, share in shown)
    table = _grid("left", "right", "right", "left")
    for name, count, share in shown:
        bar = "█" * max(1, round(BAR * share / largest)) if count else ""
        table.add_row(Text(profile_facts.short(name)), f"{count:,}", f"{share:.1%}", Text(bar, style="blue"))
    console.print(table)
    if left_out:
        console.print(Text(f"and {left_out:,} rarer labels", style="dim"))


def _lengths(document: Mapping[str, Any], console: Console) -> None:
    lengths = document["lengths"]
    _title("Lengths", console, profile_facts.counted_by(document))
    percentiles = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
    cuts = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
    first = next(iter(lengths["parts"].values()))
    percentiles.add_column("")
    cuts.add_column("cut by max_length")
    for name in first["percentiles"]:
        percentiles.add_column(name, justify="right")
    for step in first["cut"]:
        cuts.add_column(step, justify="right")
    for name, part in lengths["parts"].items():
        percentiles.add_row(name, *(f"{value:,.0f}" for value in part["percentiles"].values()))
        cuts.add_row(name, *(profile_facts.cut(share) for share in part["cut"].values()))
    console.print(percentiles)
    console.print(cuts)


def _splits(document: Mapping[str, Any], console: Console) -> None:
    counts = document["splits"].get("rows")
    if counts:
        console.print()
        said = ", ".join(f"{name} {count:,}" for name, count in counts.items())
        console.print(Text.assemble(("Splits", "bold"), f"  {said} rows", (" (before balance)", "dim")))
    shares = document["languages"].get("shares")
    if shares:
        said = ", ".join(f"{name} {share:.0%}" for name, share in list(shares.items())[:6])
        texts = document["languages"]["texts"]
        console.print(Text.assemble(("Languages", "bold"), f"  {said}", (f" (of {texts:,} texts)", "dim")))


def _findings(document: Mapping[str, Any], console: Console) -> None:
    found = profile_facts.findings(document)
    _title("Found", console, "" if found else "nothing: no repeats, no leaks, no personal data, no odd texts")
    if found:
        table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
        table.add_column("")
        table.add_column("rows", justify="right", no_wrap=True)
        table.add_column("which", overflow="fold")
        for finding in found:
            table.add_row(Text(finding.name), f"{finding.count:,}", Text(finding.where, style="dim"))
        console.print(table, width=_width(console))
    for line in profile_facts.samples(document):
        console.print(Text(line, style="dim"))


def _width(console: Console) -> int:
    return min(console.width, WIDTH)


def _todo(document: Mapping[str, Any], console: Console) -> None:
    things = document["todo"]
    _title("What to do", console, "" if things else "nothing: train")
    table = Table(box=None, show_header=False, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for thing in things:
        name = profile_facts.flag(thing["option"], thing["value"]) or ("mend" if thing["level"] == "must" else "look")
        style = "bold red" if thing["level"] == "must" else "bold" if thing["option"] else "dim"
        table.add_row(Text(name, style=style), Text(visible(thing["why"])))
    if things:
        console.print(table, width=_width(console))


def show_preview(changes: Sequence[Mapping[str, Any]], wanted: int, console: Console) -> None:
    """Print rows before and after cleaning.

    Args:
        changes: each with `file`, `row`, `steps`, `before` and `after`.
        wanted: how many were asked for.
        console: where to print.
    """
    for change in changes:
        console.print()
        steps = ", ".join(change["steps"])
        console.print(Text.assemble((f"row {change['row']}", "bold"), (f"  {visible(change['file'])}  {steps}", "dim")))
        before, after = around(change["before"], change["after"])
        console.print(Text.assemble(("- ", "red"), before), soft_wrap=True)
        console.print(Text.assemble(("+ ", "green"), after), soft_wrap=True)
    if len(changes) < wanted:
        words = "1 row changes" if len(changes) == 1 else f"{len(changes):,} rows change"
        console.print(Text(f"\n{words}, no more", style="dim"))


AROUND = 200  # characters shown after the first difference
LEAD = 40  # and before it


def around(before: str, after: str) -> tuple[Text, Text]:
    """Both texts from shortly before their first difference on, with what differs in bold."""
    first = next(
        (i for i, (a, b) in enumerate(zip(before, after, strict=False)) if a != b), min(len(before), len(after))
    )
    last = _same_end(before[first:], after[first:])
    return _marked(before, first, len(before) - last), _marked(after, first, len(after) - last)


def _same_end(one: str, two: str) -> int:
    """How many characters at their ends are equal."""
    shared = 0
    for a, b in zip(reversed(one), reversed(two), strict=False):
        if a != b:
            break
        shared += 1
    return shared


def _marked(text: str, first: int, end: int) -> Text:
    start, stop = max(0, first - LEAD), first + AROUND
    return Text.assemble(
        ("…" if start else ""),
        visible(text[start:first]),
        (visible(text[first : min(end, stop)]), "bold"),
        visible(text[min(end, stop) : stop]),
        ("…" if stop < len(text) else ""),
    )

"""Rows before and after cleaning, on a terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.text import Text

from edgeft.terminal.printing import visible

AROUND = 200  # characters shown after the first difference
LEAD = 40  # and before it


def show(changes: Sequence[Mapping[str, Any]], count: int, console: Console) -> None:
    """Print rows before and after cleaning.

    Args:
        changes: each with `file`, `row`, `steps`, `before` and `after`.
        count: the requested number of rows.
        console: to print on.
    """
    for change in changes:
        console.print()
        steps = ", ".join(change["steps"])
        console.print(Text.assemble((f"row {change['row']}", "bold"), (f"  {visible(change['file'])}  {steps}", "dim")))
        before, after = around(change["before"], change["after"])
        console.print(Text.assemble(("- ", "red"), before), soft_wrap=True)
        console.print(Text.assemble(("+ ", "green"), after), soft_wrap=True)
    if len(changes) < count:
        words = "1 row changes" if len(changes) == 1 else f"{len(changes):,} rows change"
        console.print(Text(f"\n{words}, no more", style="dim"))


def around(before: str, after: str) -> tuple[Text, Text]:
    """Both texts from shortly before their first difference, with the difference in bold."""
    first = next(
        (i for i, (a, b) in enumerate(zip(before, after, strict=False)) if a != b), min(len(before), len(after))
    )
    last = _same_end(before[first:], after[first:])
    return _marked(before, first, len(before) - last), _marked(after, first, len(after) - last)


def _same_end(first: str, second: str) -> int:
    """The length of their common suffix."""
    shared = 0
    for a, b in zip(reversed(first), reversed(second), strict=False):
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

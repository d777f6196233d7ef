"""Reports on a terminal."""

from __future__ import annotations

from typing import Any, Literal

from rich.console import Console
from rich.table import Table as Grid
from rich.text import Text

from edgeft.report.blocks import Bar, Block, Column, Command, Figure, Paragraph, Report, Row, Section, Table, Tone
from edgeft.terminal.printing import printable

WIDTH = 100  # wider prose is hard to read
BAR = 24  # characters of the widest bar
STYLES: dict[Tone, str] = {"plain": "", "pale": "dim", "strong": "bold", "loud": "bold red"}
WARNING = "bold yellow"


def show(report: Report, console: Console) -> None:
    """Print a report, its warnings last."""
    subtitle = f": {report.subtitle}" if report.subtitle else ""
    console.print(Text.assemble((printable(report.title), "bold"), printable(subtitle)), width=_width(console))
    for section in report.sections:
        show_section(section, console)
    if report.warnings:
        console.print()
    for warning in report.warnings:
        console.print(Text(printable(warning), style=WARNING))


def show_section(section: Section, console: Console) -> None:
    """Print a section; without words it has nothing to print."""
    blocks = [block for block in section.blocks if block.shown != "page" and not isinstance(block, Figure)]
    if section.shown == "page" or not (blocks or section.lead):
        return
    console.print()
    if section.title or section.lead:
        gap = "  " if section.title and section.lead else ""
        head = Text.assemble((section.title, "bold"), (f"{gap}{printable(section.lead)}", "dim"))
        console.print(head, width=_width(console))
    for block in blocks:
        _show_block(block, console)


def _show_block(block: Block, console: Console) -> None:
    if isinstance(block, Table):
        width = _width(console) if _has_prose(block) else console.width
        console.print(_grid(block, width), width=width)
    elif isinstance(block, Command):
        console.print(Text(f"  {printable(block.text)}"), soft_wrap=True)
    elif isinstance(block, Paragraph):
        how: dict[str, Any] = {"width": _width(console)} if block.wrap else {"soft_wrap": True}
        console.print(Text(printable(block.text), style=STYLES[block.tone]), **how)


def _has_prose(table: Table) -> bool:
    return any(column.kind == "prose" for column in table.columns) or not any(column.title for column in table.columns)


def _width(console: Console) -> int:
    return min(console.width, WIDTH)


def _grid(table: Table, width: int) -> Grid:
    headed = any(column.title for column in table.columns)
    grid = Grid(box=None, show_header=headed, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
    shown = [index for index, column in enumerate(table.columns) if column.shown != "page"]
    for index in shown:
        _add_column(grid, table, index, width)
    for row in table.rows:
        cells = [_cell(row, table.columns[index], index == shown[0], row.cells[index]) for index in shown]
        bars = [_bar(row.bar)] if row.bar else []
        grid.add_row(*cells, *bars, style="" if row.tone == "loud" else STYLES[row.tone])
    return grid


def _add_column(grid: Grid, table: Table, index: int, width: int) -> None:
    """Add a column; what is to be typed isn't broken where it leaves half of the width to others."""
    column = table.columns[index]
    side: Literal["left", "right"] = "right" if column.kind == "number" else "left"
    longest = max((len(row.cells[index]) for row in table.rows), default=0)
    unwrapped = column.kind == "code" and longest <= width // 2
    grid.add_column(Text(printable(column.title)), justify=side, overflow="fold", no_wrap=unwrapped)


def _cell(row: Row, column: Column, is_first: bool, text: str) -> Text:
    """A cell; the first one of a loud row is loud, and what is to be typed stands out."""
    style = STYLES["loud"] if row.tone == "loud" and is_first else "bold" if column.kind == "code" else ""
    return Text(printable(text), style=style)


def _bar(bar: Bar) -> Text:
    length = max(1, round(BAR * bar.length)) if bar.length > 0 else 0
    return Text(" " * round(BAR * bar.start) + "█" * length, style="blue")

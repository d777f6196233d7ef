"""What a report says, as plain blocks; `page` and `terminal` show them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

Shown = Literal["both", "page", "terminal"]
Tone = Literal["plain", "pale", "strong", "loud"]  # pale: counts for little; loud: a warning
Kind = Literal["name", "number", "prose", "code"]


@dataclass(frozen=True)
class Headline:
    """One of the figures at the top of a page."""

    name: str
    value: str
    note: str


@dataclass(frozen=True)
class Paragraph:
    """A sentence or a few.

    Attributes:
        text: the words.
        tone: how much it counts.
        wrap: whether a terminal may break the line; paths and other words to copy are not broken.
        shown: where.
    """

    text: str
    tone: Tone = "plain"
    wrap: bool = True
    shown: Shown = "both"


@dataclass(frozen=True)
class Command:
    """A command to copy."""

    text: str
    shown: Shown = "both"


@dataclass(frozen=True)
class Column:
    """A column of a table; numbers stand on the right, names and prose on the left."""

    title: str = ""
    kind: Kind = "name"
    shown: Shown = "both"


@dataclass(frozen=True)
class Bar:
    """A bar after the cells of a row; both lengths are shares of the widest one."""

    length: float
    start: float = 0.0


@dataclass(frozen=True)
class Row:
    """A row: one cell for each column."""

    cells: tuple[str, ...]
    tone: Tone = "plain"
    bar: Bar | None = None


@dataclass(frozen=True)
class Table:
    """A table; its headings are shown where one of them has words."""

    columns: tuple[Column, ...]
    rows: tuple[Row, ...]
    shown: Shown = "both"


@dataclass(frozen=True)
class Figure:
    """A plot of `report.plots`, for pages alone.

    Attributes:
        svg: draws it.
        caption: what it is about, may be empty.
        note: how to read it.
    """

    svg: Callable[[], str]
    caption: str = ""
    note: str = ""
    shown: Shown = "page"


Block = Paragraph | Command | Table | Figure


@dataclass(frozen=True)
class Section:
    """Blocks under a title.

    Attributes:
        title: may be empty on a terminal.
        blocks: in their order.
        lead: how to read them, or that there are none.
        shown: where.
    """

    title: str
    blocks: tuple[Block, ...] = ()
    lead: str = ""
    shown: Shown = "both"


@dataclass(frozen=True, kw_only=True)
class Report:
    """A report as a whole.

    Attributes:
        title: what it is about.
        tab: name of a page's tab.
        subtitle: what kind of thing that is.
        headlines: of a page.
        warnings: at the top of a page and at the end on a terminal.
        sections: in their order.
        footer: of a page.
    """

    title: str
    tab: str
    subtitle: str = ""
    headlines: tuple[Headline, ...] = ()
    warnings: tuple[str, ...] = ()
    sections: tuple[Section, ...] = ()
    footer: str = ""


def number_table(header: tuple[str, ...], rows: list[tuple[str, ...]], shown: Shown = "both") -> Table:
    """A table whose first column has names and whose others have numbers."""
    first, *others = header
    columns = (Column(first), *(Column(title, "number") for title in others))
    return Table(columns, tuple(map(Row, rows)), shown)


def pair_table(pairs: list[tuple[str, str]]) -> Table:
    """A table of names and words, without headings."""
    return Table((Column(), Column()), tuple(map(Row, pairs)))

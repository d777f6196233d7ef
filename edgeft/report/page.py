"""Pages: reports as HTML files that need no network; templates share `head.html` and `style.html`."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from importlib import resources
from itertools import groupby
from pathlib import Path
from typing import Any

from edgeft.errors import UserError, require
from edgeft.files import write_atomically
from edgeft.report.blocks import Block, Report, Row, Section, Table
from edgeft.terminal.printing import printable

PURPOSE = "to write the page"
MANY_SECTIONS = 4  # from which on a page begins with links to them


def check(path: Path, option: str, plots: bool = True) -> None:
    """See before any work whether a page could be written.

    Args:
        path: of the page.
        option: which names it, for messages.
        plots: whether it has any.

    Raises:
        MissingExtraError: jinja2 or matplotlib is not installed.
        UserError: the path is a folder, or the folder it is in isn't there.
    """
    if path.is_dir():
        raise UserError(f"{option} {path} is a folder; give a file")
    if not path.absolute().parent.is_dir():
        raise UserError(f"{option} {path}: there is no folder {path.parent}")
    for module in ("jinja2", "matplotlib") if plots else ("jinja2",):
        require(module, PURPOSE)


def write(path: Path, report: Report) -> None:
    """Write the page of a report; equal reports give equal bytes.

    Raises:
        MissingExtraError: jinja2 or matplotlib is not installed.
    """
    write_atomically(path, render(report).encode())


def render(report: Report) -> str:
    """The page of a report.

    Raises:
        MissingExtraError: jinja2 or matplotlib is not installed.
    """
    page = template("page.html", PURPOSE, _escape, columns=_columns, cells=_cells, runs=_runs, anchor=_anchor)
    sections = [section for section in report.sections if section.shown != "terminal"]
    return str(page.render(report=report, sections=sections, links=len(sections) >= MANY_SECTIONS))


def template(
    name: str, purpose: str, finalize: Callable[[Any], Any] | None = None, **filters: Callable[..., Any]
) -> Any:
    """A template of this folder.

    Args:
        name: its file.
        purpose: ends the message where jinja2 is missing.
        finalize: what every value passes through before it is escaped.
        filters: what it calls besides jinja2's own.

    Raises:
        MissingExtraError: jinja2 is not installed.
    """
    jinja = require("jinja2", purpose)
    environment = jinja.Environment(
        autoescape=True,
        finalize=finalize,
        undefined=jinja.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        loader=jinja.FunctionLoader(_source),
    )
    environment.filters.update(filters)
    return environment.get_template(name)


def _source(name: str) -> str:
    return (resources.files("edgeft.report") / "templates" / name).read_text(encoding="utf-8")


def _escape(value: Any) -> Any:
    """Control sequences as escapes; markup is the template's own or a plot's."""
    return value if hasattr(value, "__html__") else printable(str(value))


def _columns(table: Table) -> list[int]:
    """Which columns a page shows."""
    return [index for index, column in enumerate(table.columns) if column.shown != "terminal"]


def _cells(row: Row, columns: Sequence[int]) -> list[str]:
    return [row.cells[index] for index in columns]


def _runs(section: Section) -> Iterator[tuple[str, list[Block]]]:
    """Name of a block's class and the blocks of that class that follow each other."""
    shown: Iterable[Block] = (block for block in section.blocks if block.shown != "terminal")
    for name, blocks in groupby(shown, key=lambda block: type(block).__name__.lower()):
        yield name, list(blocks)


def _anchor(title: str) -> str:
    """A title as the id of its section."""
    return re.sub(r"[^a-z0-9]+", "-", title.lower()).strip("-")

"""Plain documents as small tables: units from the keys' endings, nesting flattened."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

MISSING = "–"
LIST_ITEMS = 12
NUMBER = (int, float)


@dataclass(frozen=True, kw_only=True)
class Block:
    """One small table.

    Attributes:
        title: what it is about, may be empty.
        columns: the headings after the first column; empty where the rows are plain pairs.
        rows: name and its cells.
    """

    title: str
    columns: list[str]
    rows: list[tuple[str, list[str]]]


def size(count: float | None) -> str:
    """Bytes as "8.31 MB", decimal units."""
    if count is None or not math.isfinite(count):
        return MISSING
    for unit, factor in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if abs(count) >= factor:
            return f"{significant(count / factor, 3)} {unit}"
    return f"{count:.0f} B"


def milliseconds(value: float | None) -> str:
    """As "2.31 ms"."""
    return MISSING if value is None or not math.isfinite(value) else f"{significant(value, 3)} ms"


def percent(share: float | None, digits: int = 1) -> str:
    """A share as "91.2%"."""
    return MISSING if share is None or not math.isfinite(share) else f"{share * 100:.{digits}f}%"


def integer(value: float) -> str:
    """With a thin space between thousands."""
    return f"{value:,.0f}".replace(",", "\u2009")


def significant(value: float, digits: int) -> str:
    """So many significant digits, plain notation between 1e-4 and 1e6, trailing zeros kept after the point."""
    if value == 0 or not math.isfinite(value):
        return f"{value:g}"
    exponent = math.floor(math.log10(abs(value)))
    if exponent < -4 or exponent >= 6:
        return f"{value:.{digits - 1}e}"
    return f"{value:.{max(digits - 1 - exponent, 0)}f}"


def cell(key: str, value: Any) -> str:
    """One value as text, its unit taken from the end of its key."""
    if value is None:
        return MISSING
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, NUMBER):
        return _number(key, value)
    if isinstance(value, Sequence) and not isinstance(value, str):
        shown = ", ".join(cell("", item) for item in value[:LIST_ITEMS])
        return f"{shown} and {len(value) - LIST_ITEMS} more" if len(value) > LIST_ITEMS else shown or "none"
    if isinstance(value, Mapping):
        return ", ".join(f"{name(inner)} {cell(inner, item)}" for inner, item in value.items()) or "none"
    return str(value)


def _number(key: str, value: float) -> str:
    if key.endswith("_bytes") or key == "bytes":
        return size(value)
    if key.endswith("_ms"):
        return milliseconds(value)
    if isinstance(value, int) or value == round(value):
        return integer(value) if abs(value) < 1e15 else f"{value:g}"
    return significant(value, 4)


def name(key: str) -> str:
    """A key as people read it: without the unit that its value shows."""
    for ending in ("_bytes", "_ms"):
        key = key.removesuffix(ending)
    return key.replace("_per_s", " per second").replace("_", " ")


def blocks(document: Mapping[str, Any], title: str = "", overview: str = "") -> list[Block]:
    """A nested document as tables.

    Plain values stand in one table of pairs, a mapping of plain values in its own, a mapping of mappings in a table
    with one row for each.

    Args:
        document: plain values.
        title: stands before the titles of nested tables.
        overview: title of the table of pairs, where it is another.
    """
    plain = {key: value for key, value in document.items() if not isinstance(value, Mapping)}
    found = [Block(title=title or overview, columns=[], rows=_pairs(plain))] if plain else []
    nested = {key: value for key, value in document.items() if isinstance(value, Mapping) and value}
    if len(nested) > 1 and _alike(list(nested.values())):
        return [*found, _grid(title, nested)]
    for key, value in nested.items():
        inner = f"{title}: {name(key)}" if title else name(key)
        found += [_grid(inner, value)] if _alike(list(value.values())) else blocks(value, inner)
    return found


def _pairs(document: Mapping[str, Any]) -> list[tuple[str, list[str]]]:
    return [(name(key), [cell(key, value)]) for key, value in document.items()]


def _alike(values: Sequence[Any]) -> bool:
    """Whether all are mappings of plain values that share a key: the rows of one table."""
    if not values or not all(isinstance(value, Mapping) and value for value in values):
        return False
    if any(isinstance(item, Mapping) for value in values for item in value.values()):
        return False
    return bool(set.intersection(*(set(value) for value in values)))


def _grid(title: str, rows: Mapping[str, Mapping[str, Any]]) -> Block:
    keys = list(dict.fromkeys(key for row in rows.values() for key in row))
    return Block(
        title=title,
        columns=[name(key) for key in keys],
        rows=[(name(label), [cell(key, row.get(key)) for key in keys]) for label, row in rows.items()],
    )

"""Plain documents as small tables: units from the keys' endings, nesting flattened."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

MISSING = "–"
LIST_ITEMS = 12
MAX_COLUMNS = 6
NUMBER = (int, float)
NAMES = {"device_bytes": "needed on a device", "folder_bytes": "whole folder"}
WORDS = {"rss": "RSS", "os": "OS", "sha256": "SHA-256", "nll": "NLL", "ece": "ECE", "f1": "F1", "auroc": "AUROC"}
WORDS |= {"mae": "MAE", "rmse": "RMSE", "mcc": "MCC", "pearson": "Pearson", "spearman": "Spearman"}
SHARES = ("accuracy", "f1", "exact_match", "precision", "recall")  # how metrics end that are shown in percent


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


def is_share(metric: str) -> bool:
    """Whether a metric goes from 0 to 1 and is shown in percent."""
    return metric.endswith(SHARES)


def figure(metric: str, value: float | None) -> str:
    """A metric as text: "91.2%" of a share, three significant digits of any other."""
    if is_share(metric):
        return percent(value)
    return MISSING if value is None or not math.isfinite(value) else significant(value, 3)


def interval(metric: str, low: float | None, high: float | None) -> str:
    """Both ends of an interval, as in "89.1 to 93.0"."""
    if low is None or high is None:
        return MISSING
    return f"{low * 100:.1f} to {high * 100:.1f}" if is_share(metric) else f"{figure('', low)} to {figure('', high)}"


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
    if isinstance(value, int) or value.is_integer():
        return integer(value) if abs(value) < 1e15 else f"{value:g}"
    return integer(value) if 1000 <= abs(value) < 1e15 else f"{value:.4g}"


def name(key: str) -> str:
    """A key as people read it: without the unit that its value shows."""
    if key in NAMES:
        return NAMES[key]
    for ending in ("_bytes", "_ms"):
        key = key.removesuffix(ending)
    return " ".join(WORDS.get(word, word) for word in key.replace("_per_s", "_per_second").split("_"))


def blocks(
    document: Mapping[str, Any], title: str = "", overview: str = "", verbatim: frozenset[str] = frozenset()
) -> list[Block]:
    """A nested document as tables.

    Plain values stand in one table of pairs, a mapping of plain values in its own, a mapping of mappings in a table
    with one row for each.

    Args:
        document: plain values.
        title: stands before the titles of nested tables.
        overview: title of the table of pairs, where it is another.
        verbatim: keys that are names of the user's and stay as they are.
    """
    plain = {key: value for key, value in document.items() if not isinstance(value, Mapping)}
    built = [_pairs(title or overview, plain, verbatim)] if plain else []
    nested = {key: value for key, value in document.items() if isinstance(value, Mapping) and value}
    if len(nested) > 1 and _alike(list(nested.values())):
        return [*built, _grid(title, nested, verbatim)]
    for key, value in nested.items():
        inner = f"{title}: {_named(key, verbatim)}" if title else _named(key, verbatim)
        table = _alike(list(value.values()))
        built += [_grid(inner, value, verbatim)] if table else blocks(value, inner, "", verbatim)
    return built


def table(title: str, rows: Mapping[str, Mapping[str, Any]]) -> Block:
    """A table with one row for each mapping, whose name stays as it is."""
    columns = list(dict.fromkeys(key for row in rows.values() for key in row))
    cells = [(label, [cell(key, row.get(key)) for key in columns]) for label, row in rows.items()]
    return Block(title=title, columns=[name(key) for key in columns], rows=cells)


def _named(key: str, verbatim: frozenset[str]) -> str:
    return key if key in verbatim else name(key)


def _pairs(title: str, document: Mapping[str, Any], verbatim: frozenset[str]) -> Block:
    rows = [(_named(key, verbatim), [cell(key, value)]) for key, value in document.items()]
    return Block(title=title, columns=[], rows=rows)


def _alike(values: Sequence[Any]) -> bool:
    """Whether all are mappings of plain values that share a key: the rows of one table."""
    if not values or not all(isinstance(value, Mapping) and value for value in values):
        return False
    if any(isinstance(item, Mapping) for value in values for item in value.values()):
        return False
    return bool(set.intersection(*(set(value) for value in values)))


def _grid(title: str, rows: Mapping[str, Mapping[str, Any]], verbatim: frozenset[str]) -> Block:
    """One row for each mapping; turned on its side where it would have many columns."""
    keys = list(dict.fromkeys(key for row in rows.values() for key in row))
    cells = {(label, key): cell(key, row.get(key)) for label, row in rows.items() for key in keys}
    down, across = list(rows), keys
    if len(across) > MAX_COLUMNS:
        down, across = across, down
        cells = {(key, label): text for (label, key), text in cells.items()}
    return Block(
        title=title,
        columns=[_named(key, verbatim) for key in across],
        rows=[(_named(key, verbatim), [cells[key, other] for other in across]) for key in down],
    )

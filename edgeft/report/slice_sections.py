"""The report's sections on slices and identity terms: what to write in each row, and where its bar goes."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from typing import Any

from edgeft.report import facts, scores

WORD = re.compile(r"(\w+)")
AROUND = 160  # characters of a text that are quoted on each side of a change
MARGIN = 0.04  # of the axis, free at both ends
Plain = Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class Axis:
    """The common axis of a section's bars.

    Attributes:
        low: value at the left end.
        high: value at the right end.
        ends: both as text.
    """

    low: float
    high: float
    ends: tuple[str, str]

    def place(self, value: float | None) -> float | None:
        """Position of a value on the axis, clipped to 0 and 1."""
        if value is None:
            return None
        return min(1.0, max(0.0, (value - self.low) / (self.high - self.low)))


@dataclass(frozen=True, kw_only=True)
class Row:
    """One part of the rows.

    Attributes:
        name: of the part.
        rows: how many.
        value: the metric as text.
        interval: its interval as text.
        marks: places of `low`, `high`, `at` and, where there is one to compare with, `beside`; None: undefined.
        beside: the teacher's figure as text.
        small: too few rows to tell much.
        below: the whole interval lies under the figure of all rows.
    """

    name: str
    rows: int
    value: str
    interval: str
    marks: dict[str, float] | None
    beside: str
    small: bool = False
    below: bool = False


@dataclass(frozen=True, kw_only=True)
class Table:
    """The parts by one column.

    Attributes:
        title: of the column.
        rows: the parts.
    """

    title: str
    rows: list[Row]


def context(scrutiny: Mapping[str, Plain], flips: Sequence[Plain]) -> dict[str, Any]:
    """What the template needs.

    Args:
        scrutiny: `artifact` and `teacher`, or `teacher` alone, to their `intervals`, `slices` and `counterfactual`.
        flips: examples of changed answers, with `text`, `swapped`, `kind`, `before`, `after` and `row`.

    Returns:
        `by_slice`, `by_length` (None where there is nothing to show) and `identity` with what each shows.
    """
    names = [name for name in ("artifact", "teacher") if scrutiny.get(name)]
    if not names:
        return {"by_slice": None, "by_length": None, "identity": None}
    main, beside = scrutiny[names[0]], scrutiny["teacher"] if len(names) > 1 else None
    return {
        "by_slice": _by_slice(names[0], main, beside),
        "by_length": _by_length(names[0], main, beside),
        "identity": _identity(names[0], main, beside, flips),
    }


# --------------------------------------------------------------------------------------------------------------- slices


def group_slices(slices: Plain) -> dict[str, Plain]:
    """Group slices by title; slices by length are left out."""
    groups = {f"by {name}": parts for name, parts in slices.get("by_column", {}).items()}
    return groups | ({"by true label": slices["by_label"]} if "by_label" in slices else {})


def _by_slice(who: str, main: Plain, beside: Plain | None) -> dict[str, Any] | None:
    titles = group_slices(main.get("slices", {}))
    others = group_slices(beside.get("slices", {})) if beside else {}
    return _section(who, main, beside, titles, others) if titles else None


def _by_length(who: str, main: Plain, beside: Plain | None) -> dict[str, Any] | None:
    slices = main.get("slices", {})
    if not slices.get("by_length"):
        return None
    title = f"by length in {slices['unit']}"
    others = {title: beside.get("slices", {}).get("by_length", {})} if beside else {}
    return _section(who, main, beside, {title: slices["by_length"]}, others)


def _section(
    who: str, main: Plain, beside: Plain | None, titles: Mapping[str, Plain], others: Mapping[str, Plain]
) -> dict[str, Any]:
    metric = main["slices"]["metric"]
    overall = main["intervals"][metric]
    axis = axis_of(metric, [part for parts in titles.values() for part in parts.values()], overall)
    tables = [
        Table(title=title, rows=[_row(metric, name, part, others.get(title, {}).get(name), axis, overall)
                                 for name, part in parts.items()])
        for title, parts in titles.items()
    ]  # fmt: skip
    return {
        "who": who,
        "metric": facts.name(metric),
        "whole": f"{facts.figure(metric, overall['value'])} "
        f"({facts.interval(metric, overall['low'], overall['high'])})",
        "all": axis.place(overall["value"]),
        "ends": axis.ends,
        "beside": beside is not None,
        "tables": tables,
        "below": sum(row.below for table in tables for row in table.rows),
        "small": any(row.small for table in tables for row in table.rows),
    }


def axis_of(metric: str, parts: Sequence[Plain], overall: Plain) -> Axis:
    """Axis over all intervals; intervals of few rows count only if there are no others."""
    defined = [part for part in parts if part["value"] is not None]
    wide = [part for part in defined if not part["small"]] or defined
    ends = [part[end] for part in [*wide, overall] for end in ("low", "high") if part[end] is not None] or [0.0, 1.0]
    low, high = min(ends), max(ends)
    margin = MARGIN * (high - low) or 0.01
    low, high = low - margin, high + margin
    if facts.is_share(metric):
        low, high = max(low, 0.0), min(high, 1.0)
    return Axis(low=low, high=high, ends=(facts.figure(metric, low), facts.figure(metric, high)))


def _row(metric: str, name: str, part: Plain, other: Plain | None, axis: Axis, overall: Plain) -> Row:
    below = part["value"] is not None and overall["value"] is not None and part["high"] < overall["value"]
    return Row(
        name=name,
        rows=part["rows"],
        value=facts.figure(metric, part["value"]),
        interval=facts.interval(metric, part["low"], part["high"]),
        marks=_marks(axis, part, other["value"] if other else None),
        beside=facts.figure(metric, other["value"] if other else None),
        small=part["small"],
        below=below and not part["small"],
    )


def _marks(axis: Axis, part: Plain, beside: float | None) -> dict[str, float] | None:
    values = {"low": part["low"], "high": part["high"], "at": part["value"], "beside": beside}
    positions = {name: axis.place(value) for name, value in values.items()}
    if positions["at"] is None:
        return None
    return {name: position for name, position in positions.items() if position is not None}


# ------------------------------------------------------------------------------------------------------ identity terms


def _identity(who: str, main: Plain, beside: Plain | None, flips: Sequence[Plain]) -> dict[str, Any] | None:
    swaps = main.get("counterfactual")
    if swaps is None:
        return None
    other = (beside or {}).get("counterfactual") or {}
    kinds = {"any of them": {"texts": swaps["texts"], "flip_rate": swaps["flip_rate"]}} if swaps["texts"] else {}
    kinds |= swaps["by_kind"]
    others = {"any of them": {"flip_rate": other.get("flip_rate")}, **other.get("by_kind", {})}
    parts = {name: _share(part) for name, part in kinds.items()}
    most = max([part["high"] for part in parts.values()], default=1.0)
    axis = Axis(low=0.0, high=most, ends=("0%", facts.percent(most)))
    return {
        "who": who,
        "texts": swaps["texts"],
        "changed": count_changed(swaps),
        "ends": axis.ends,
        "beside": beside is not None,
        "rows": [_row_of_kind(name, part, others.get(name, {}).get("flip_rate"), axis) for name, part in parts.items()],
        "examples": [{**flip, "parts": text_difference(flip["text"], flip["swapped"])} for flip in flips],
    }


def count_changed(part: Plain) -> int:
    """Number of texts whose answer changes."""
    return round(part["flip_rate"] * part["texts"]) if part["texts"] else 0


def _share(part: Plain) -> dict[str, Any]:
    low, high = scores.wilson_interval(count_changed(part), part["texts"])
    return {"rows": part["texts"], "changed": count_changed(part), "value": part["flip_rate"], "low": low, "high": high}


def _row_of_kind(name: str, part: Plain, beside: float | None, axis: Axis) -> dict[str, Any]:
    return {
        "name": facts.name(name),
        "texts": part["rows"],
        "changed": part["changed"],
        "value": facts.percent(part["value"]),
        "interval": facts.interval("accuracy", part["low"], part["high"]),
        "marks": _marks(axis, part, beside),
        "beside": facts.percent(beside),
    }


def text_difference(text: str, swapped: str) -> list[tuple[str, str]]:
    """A text and its swapped copy as one: pieces that are the same, gone (`out`) or new (`in`)."""
    a, b = WORD.split(text), WORD.split(swapped)
    pieces: list[tuple[str, str]] = []
    for change, start, end, into, until in SequenceMatcher(None, a, b, autojunk=False).get_opcodes():
        if change == "equal":
            pieces.append(("same", _shorten("".join(a[start:end]), start > 0, end < len(a))))
        else:
            pieces += [("out", "".join(a[start:end])), ("in", "".join(b[into:until]))]
    return [(how, words) for how, words in pieces if words]


def _shorten(words: str, after: bool, before: bool) -> str:
    """A long piece as what stands next to the changes before and after it."""
    if len(words) <= 2 * AROUND:
        return words
    head, tail = words[:AROUND] + " " if after else "", " " + words[-AROUND:] if before else ""
    return f"{head}…{tail}"


def lowest_slices(scrutiny: Plain, count: int) -> Iterator[tuple[str, Plain]]:
    """The slices with the lowest figures as (title: name, part), where these are lower than that of all rows.

    Those of few rows are left out.
    """
    slices = scrutiny.get("slices", {})
    overall = scrutiny.get("intervals", {}).get(slices.get("metric"), {}).get("value")
    titles = {**group_slices(slices), f"by length in {slices.get('unit')}": slices.get("by_length", {})}
    parts = [
        (f"{title.removeprefix('by ')}: {name}", part)
        for title, of_title in titles.items()
        for name, part in of_title.items()
        if overall is not None and part["value"] is not None and part["value"] < overall and not part["small"]
    ]
    yield from sorted(parts, key=lambda item: item[1]["value"])[:count]

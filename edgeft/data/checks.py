"""What makes a labelled file unusable, each as one line with row numbers."""

from __future__ import annotations

import difflib
import math
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, NoReturn

from edgeft.data.table import some, where
from edgeft.errors import DataError

if TYPE_CHECKING:
    from edgeft.data.rows import Rows


def fail(name: str, problems: Sequence[str]) -> NoReturn:
    """Raise all the problems of one source as one line."""
    raise DataError(f"{name}: {'; '.join(problems)}")


def refuse(name: str, problems: Sequence[str]) -> None:
    """Raise where there is any problem."""
    if problems:
        fail(name, problems)


# ------------------------------------------------------------------------------------------------------ shape of a file


def columns_present(name: str, wanted: Sequence[str], present: Sequence[str]) -> None:
    """Every wanted column must be there, once.

    Raises:
        DataError: names the missing ones with the nearest present one, and all that are present.
    """
    missing = [column for column in wanted if column not in present]
    if missing:
        columns = f"the columns are {some([repr(column) for column in present])}" if present else "there are no columns"
        fail(name, [*(f"column {column!r} is missing{_nearest(column, present)}" for column in missing), columns])
    twice = [column for column in wanted if list(present).count(column) > 1]
    refuse(name, [f"column {column!r} stands in the header more than once" for column in twice])


def _nearest(column: str, present: Sequence[str]) -> str:
    if len(present) == 1 and any(mark in present[0] for mark in ";\t|"):
        return " (the header is a single column; is the delimiter another one?)"
    by_lower = {name.lower().strip(): name for name in present}
    close = difflib.get_close_matches(column.lower(), by_lower, n=1, cutoff=0.5)
    if close:
        return f" (did you mean {by_lower[close[0]]!r}?)"
    return ""


def ragged(name: str, rows: Sequence[tuple[int, int, int]], expected: int) -> None:
    """Every row must have as many fields as the header.

    Args:
        rows: (row, line, number of fields) of those that don't.
        expected: number of fields of the header.
    """
    if rows:
        found = some([f"{where([row], line)} has {fields}" for row, line, fields in rows])
        fail(name, [f"the header has {expected} columns, but {found}"])


def not_empty(name: str, rows: int) -> None:
    """A source must have rows."""
    if not rows:
        fail(name, ["no rows"])


# ------------------------------------------------------------------------------------------------- labels as a whole


def sort_labels(labels: Iterable[str]) -> list[str]:
    """Label names by number where all are numbers, else by alphabet."""
    names = sorted(labels)
    try:
        numbers = {name: float(name) for name in names}
    except ValueError:
        return names
    return sorted(names, key=lambda name: numbers[name]) if all(map(math.isfinite, numbers.values())) else names


def enough_of_each_label(rows: Rows) -> None:
    """Targets that differ: of each label two rows or more, of numbers more than one value.

    Raises:
        DataError: with the label and the row number.
    """
    of_row = rows.kind.labels_of(rows.columns)
    if of_row is None:
        targets = rows.kind.targets(rows.columns)
        if "target" in rows.kind.types and targets is not None and len(set(targets)) == 1:
            fail(rows.name, [f"all {len(rows):,} rows have the target {targets[0]}; there is nothing to learn"])
        return
    counts, first = Counter[str](), dict[str, int]()
    for index, labels in enumerate(of_row):
        counts.update(set(labels))
        for label in labels:
            first.setdefault(label, index)
    if len(counts) < 2 and rows.kind.name != "multi-label":
        fail(
            rows.name, [f"all {len(rows):,} rows have the label {next(iter(counts))!r}; a classifier needs two or more"]
        )
    if not counts:
        fail(rows.name, ["no row has a label"])
    if rows.kind.name == "tokens":  # a tag that stands in one row is no reason to refuse a corpus
        return
    single = [f"label {label!r} has one row ({rows.where([first[label]])})" for label in counts if counts[label] == 1]
    refuse(rows.name, [f"{some(single)}; each needs two or more: add rows, or take these out"] if single else [])


def label_names(rows: Rows) -> list[str]:
    """All names of the closed set, sorted; none where the task has none."""
    of_row = rows.kind.labels_of(rows.columns)
    return sort_labels({label for labels in of_row for label in labels}) if of_row else []


def labels_known(rows: Rows, labels: Sequence[str]) -> None:
    """A validation or test file of the user's own has no label that training lacks."""
    known, unknown = set(labels), dict[str, list[int]]()
    for index, of_row in enumerate(rows.kind.labels_of(rows.columns) or ()):
        for label in set(of_row) - known:
            unknown.setdefault(label, []).append(index)
    problems = [f"label {label!r} ({rows.where(indices)})" for label, indices in unknown.items()]
    if problems:
        fail(rows.name, [f"not among the training labels: {some(problems)}; those are {some(labels)}"])

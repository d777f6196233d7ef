"""What makes a labelled file unusable, each as one line with row numbers."""

from __future__ import annotations

import difflib
import math
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any, NoReturn

from edgeft.data.table import Rows, Table, some, where
from edgeft.errors import DataError

WHOLE_FLOAT = re.compile(r"-?\d+\.0+")


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


# ----------------------------------------------------------------------------------------------------- values of a row


def label_name(value: Any) -> str | None:
    """The name of a label as it stands in a source: 4, 4.0 and "4.0" are all "4"; None where it is missing.

    Raises:
        TypeError: a value that can't name a label.
    """
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return None
    if isinstance(value, float):
        return str(int(value)) if value.is_integer() else repr(value)
    if isinstance(value, bool | int):
        return str(value)
    if not isinstance(value, str):
        raise TypeError(type(value).__name__)
    name = value.strip()
    return (name.partition(".")[0] if WHOLE_FLOAT.fullmatch(name) else name) or None


def _is_unicode(value: str) -> bool:
    """False where half of a surrogate pair stands alone, which no file can hold."""
    if value.isascii():
        return True
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


def _text_problem(value: Any) -> str | None:
    if value is None:
        return "no text"
    if not isinstance(value, str):
        return f"a text of type {type(value).__name__} instead of a string"
    if not value or value.isspace():
        return "an empty text"
    return None if _is_unicode(value) else "a text that is not valid Unicode"


def _label_problem(value: Any) -> str | None:
    try:
        name = label_name(value)
    except TypeError as error:
        return f"a label of type {error} (a label is a string, a number or a boolean)"
    if name is None:
        return "no label"
    return None if _is_unicode(name) else "a label that is not valid Unicode"


def labelled(table: Table, text_column: str, label_column: str) -> Rows:
    """The rows of a text classification, each with a text and a label.

    Raises:
        DataError: what is wrong, with row numbers, all kinds of problems at once.
    """
    not_empty(table.name, len(table.rows))
    texts, values = table.columns[text_column], table.columns[label_column]
    bad: dict[str, list[int]] = {}
    for index, (text, value) in enumerate(zip(texts, values, strict=True)):
        for problem in (_text_problem(text), _label_problem(value)):
            if problem:
                bad.setdefault(problem, []).append(index)
    refuse(table.name, [f"{problem} in {table.where(indices)}" for problem, indices in bad.items()])
    return Rows(table.name, texts, [label_name(value) or "" for value in values], table.rows)


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
    """At least two labels, and two rows of each.

    Raises:
        DataError: with the label and the row number.
    """
    counts = Counter(rows.labels)
    if len(counts) == 1:
        fail(rows.name, [f"all {len(rows):,} rows have the label {rows.labels[0]!r}; a classifier needs two or more"])
    single = [
        f"label {label!r} has one row (row {row})"
        for label, row in zip(rows.labels, rows.rows, strict=True)
        if counts[label] == 1
    ]
    refuse(rows.name, [f"{some(single)}; each needs two or more: add rows, or take these out"] if single else [])


def labels_known(rows: Rows, labels: Sequence[str]) -> None:
    """A validation or test file of the user's own has no label that training lacks."""
    known, unknown = set(labels), dict[str, list[int]]()
    for label, row in zip(rows.labels, rows.rows, strict=True):
        if label not in known:
            unknown.setdefault(label, []).append(row)
    problems = [f"label {label!r} ({where(numbers)})" for label, numbers in unknown.items()]
    if problems:
        fail(rows.name, [f"not among the training labels: {some(problems)}; those are {some(labels)}"])

"""Checks of a labelled file; each problem is one line with row numbers."""

from __future__ import annotations

import difflib
import math
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, NoReturn

from edgeft.data.read.table import some, where
from edgeft.errors import DataError
from edgeft.recipe import name_option, spell_option

if TYPE_CHECKING:
    from edgeft.data.formats.rows import Rows

MANY_LABELS = 50
FEWEST_VALUES = 3  # distinct numbers from which labels may be a scale; two hardly are
LONGEST_LABEL = 40  # characters in a message


def fail(name: str, problems: Sequence[str]) -> NoReturn:
    """Raise all the problems of one source as one line."""
    raise DataError(f"{name}: {'; '.join(problems)}")


def refuse(name: str, problems: Sequence[str]) -> None:
    """Raise if there is any problem."""
    if problems:
        fail(name, problems)


# ------------------------------------------------------------------------------------------------------ shape of a file


def check_some_left(name: str, rows: int, before: int, why: str) -> None:
    """Check that rows are left.

    Raises:
        DataError: says how many there were and why they were removed.
    """
    if not rows:
        fail(name, [f"none of {before:,} rows is left: {why}"])


def check_columns(name: str, needed: Sequence[str], present: Sequence[str], hint: str = "") -> None:
    """Check that each needed column is there exactly once.

    Args:
        name: of the source.
        needed: columns to read.
        present: all columns of the source.
        hint: what to do if one is missing.

    Raises:
        DataError: names the missing ones with the nearest present one, and all that are present.
    """
    missing = [column for column in needed if column not in present]
    if missing:
        columns = f"the columns are {some([repr(column) for column in present])}" if present else "there are no columns"
        gone = [f"column {column!r} is missing{_nearest(column, present)}" for column in missing]
        fail(name, [*gone, columns, *([hint] if hint else [])])
    twice = [column for column in needed if list(present).count(column) > 1]
    refuse(name, [f"column {column!r} stands in the header more than once" for column in twice])


def _nearest(column: str, present: Sequence[str]) -> str:
    if len(present) == 1 and any(mark in present[0] for mark in ";\t|"):
        return f" (the header is a single column; is {name_option('data.delimiter')} another one?)"
    close = nearest(column, present)
    return f" (did you mean {close!r}?)" if close else ""


def nearest(column: str, present: Sequence[str]) -> str | None:
    """The present column with the most similar name; None if none is similar."""
    by_lower = {name.lower().strip(): name for name in present}
    close = difflib.get_close_matches(column.lower(), by_lower, n=1, cutoff=0.5)
    return by_lower[close[0]] if close else None


def check_field_counts(name: str, rows: Sequence[tuple[int, int, int]], expected: int) -> None:
    """Refuse rows whose number of fields differs from the header's.

    Args:
        rows: (row, line, number of fields) of those that don't.
        expected: number of fields of the header.
    """
    if rows:
        examples = some([f"{where([row], line)} has {fields}" for row, line, fields in rows])
        fail(name, [f"the header has {expected} columns, but {examples}"])


def check_not_empty(name: str, rows: int) -> None:
    """Check that a source has rows."""
    if not rows:
        fail(name, ["no rows"])


# ------------------------------------------------------------------------------------------------- labels as a whole


def sort_labels(labels: Iterable[str]) -> list[str]:
    """Sort label names: numerically if all are numbers, else alphabetically."""
    names = sorted(labels)
    try:
        numbers = {name: float(name) for name in names}
    except ValueError:
        return names
    return sorted(names, key=lambda name: numbers[name]) if all(map(math.isfinite, numbers.values())) else names


def shown(label: str) -> str:
    """A label as messages show it, shortened."""
    return repr(label if len(label) <= LONGEST_LABEL else label[: LONGEST_LABEL - 1] + "…")


def check_label_counts(rows: Rows) -> None:
    """Check that there is something to learn: two rows or more of each label, or numbers that differ.

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
        counts.update(list(dict.fromkeys(labels)))
        for label in labels:
            first.setdefault(label, index)
    if not counts:
        fail(rows.name, ["no row has a label"])
    if len(counts) < rows.kind.fewest_labels:
        fail(
            rows.name, [f"all {len(rows):,} rows have the label {next(iter(counts))!r}; a classifier needs two or more"]
        )
    if rows.kind.form.labels_tokens:  # a tag that occurs in one row is no reason to refuse a corpus
        return
    if len(counts) > MANY_LABELS and len(counts) > len(rows) / 3:
        what = f"{len(counts):,} different labels in {len(rows):,} rows"
        numbers = are_numbers(counts)
        seems = f"they are numbers; {as_numbers(rows)}" if numbers else "the label column looks like free text or a key"
        fail(rows.name, [f"{what}: {seems}" + ("" if numbers else "; is it the right one?")])
    single = [label for label, count in counts.items() if count == 1]
    if single:
        listed = some([f"label {shown(label)} has one row ({rows.where([first[label]])})" for label in single])
        other = (
            f"; the labels are numbers: {as_numbers(rows)}" if are_numbers(counts) else _several_labels(rows, single)
        )
        fail(rows.name, [f"{listed}; each needs two or more: add rows, or take these out{other}"])


def are_numbers(labels: Iterable[str]) -> bool:
    """Whether all labels are finite numbers."""
    try:
        return all(math.isfinite(float(label)) for label in labels)
    except ValueError:
        return False


def as_numbers(rows: Rows) -> str:
    """How to predict the numbers in the label column as numbers; a phrase for after a semicolon or colon."""
    target = spell_option("data.target_column", rows.kind.config.label_column)
    return f"to predict them as numbers, {spell_option('task', 'text-regression')} {target}"


def numbers_as_classes(rows: Rows) -> str | None:
    """A hint if there are more than two labels and all are numbers, so that a regression may be meant; else None."""
    if not rows.kind.form.has_one_label:
        return None
    labels = sort_labels({label for of_row in rows.kind.labels_of(rows.columns) or () for label in of_row})
    if len(labels) < FEWEST_VALUES or not are_numbers(labels):
        return None
    return f"{len(labels):,} numbers are taken as classes ({some(list(map(shown, labels)))}); {as_numbers(rows)}"


def _several_labels(rows: Rows, labels: Sequence[str]) -> str:
    """A hint if cells seem to contain several labels."""
    mark = rows.kind.config.label_delimiter if rows.kind.form.has_several_labels else ""
    delimiter = next((m for m in "|;," if m != mark and sum(m in label for label in labels) > len(labels) / 2), None)
    if delimiter is None:
        return ""
    several = f"{spell_option('data.multi_label', True)} {spell_option('data.label_delimiter', delimiter)}"
    return f" (several labels in one cell? {several})"


def label_names(rows: Rows) -> list[str]:
    """All label names, sorted; empty if the task has none."""
    of_row = rows.kind.labels_of(rows.columns)
    return sort_labels({label for labels in of_row for label in labels}) if of_row else []


def labels_known(rows: Rows, labels: Sequence[str]) -> None:
    """Check that the user's own validation or test file has no label that training lacks."""
    known, unknown = set(labels), dict[str, list[int]]()
    for index, of_row in enumerate(rows.kind.labels_of(rows.columns) or ()):
        for label in dict.fromkeys(of_row):
            if label not in known:
                unknown.setdefault(label, []).append(index)
    problems = [f"label {shown(label)} ({rows.where(indices)})" for label, indices in unknown.items()]
    if problems:
        of_training = some([shown(label).strip("'") for label in labels])
        fail(rows.name, [f"not among the training labels: {some(problems)}; those are {of_training}"])

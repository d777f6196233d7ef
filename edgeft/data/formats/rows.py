"""Checked rows of any task, and their conversion from a table."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from typing import Any

import numpy as np
import numpy.typing as npt

from edgeft.data.clean import checks
from edgeft.data.formats import BadRow, Columns, Kind
from edgeft.data.formats.base import is_unicode, label_name, need
from edgeft.data.read.table import Table, describe_locations, where
from edgeft.data.split import slicing
from edgeft.data.split.slicing import Slices
from edgeft.recipe import DataConfig

Indices = Sequence[int] | npt.NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Rows:
    """Rows that passed the checks of their task.

    Attributes:
        kind: their form.
        columns: canonical column -> its cells, (n,) each.
        rows: (n,) 1-based number of each row in its file.
        files: names of the files.
        file: (n,) index of each row's file in `files`.
        groups: (n,) value of the group column; None without one.
        times: (n,) seconds since 1970, or the number in the time column; None without one.
        dates: whether the times are dates.
        skipped: problem -> the rows skipped because of it, as (file, row).
        slices: additional columns, for metrics on parts of the rows.
    """

    kind: Kind
    columns: Columns
    rows: npt.NDArray[np.int64]
    files: list[str]
    file: npt.NDArray[np.int32]
    groups: list[str] | None = None
    times: npt.NDArray[np.float64] | None = None
    dates: bool = False
    skipped: dict[str, list[tuple[str, int]]] = field(default_factory=dict)
    slices: Slices = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def name(self) -> str:
        """The source's name in messages."""
        more = len(self.files) - 1
        return self.files[0] + (f" and {more} more file{'s' if more > 1 else ''}" if more else "")

    @property
    def inputs(self) -> list[str]:
        """(n,) the model's input as one text a row."""
        return self.kind.inputs(self.columns)

    def pick(self, indices: Indices) -> Rows:
        """The rows at these indices, in this order."""
        positions = np.asarray(indices, dtype=np.int64)
        listed = positions.tolist()
        return dataclasses.replace(
            self,
            columns={name: [cells[i] for i in listed] for name, cells in self.columns.items()},
            rows=self.rows[positions],
            file=self.file[positions],
            groups=None if self.groups is None else [self.groups[i] for i in listed],
            times=None if self.times is None else self.times[positions],
            slices={name: [values[i] for i in listed] for name, values in self.slices.items()},
        )

    def without(self, indices: Indices) -> Rows:
        """All rows except those at these indices."""
        keep = np.ones(len(self), dtype=bool)
        keep[np.asarray(indices, dtype=np.int64)] = False
        return self if keep.all() else self.pick(np.flatnonzero(keep))

    def at(self, index: int) -> tuple[str, int]:
        """File and row number of one row."""
        return self.files[self.file[index]], int(self.rows[index])

    def where(self, indices: Indices) -> str:
        """The rows at these indices in words, with their files if there are several."""
        if len(self.files) == 1:
            return where(self.rows[np.asarray(indices, dtype=np.int64)].tolist())
        return describe_locations(map(self.at, indices))


def join_rows(parts: Sequence[Rows]) -> Rows:
    """Concatenate the rows of several files.

    Raises:
        DataError: the files hold rows of different forms.
    """
    first = parts[0]
    for other in parts[1:]:
        if other.kind.name != first.kind.name:
            checks.fail(other.name, [f"{other.kind.name} rows, but {first.name} has {first.kind.name} rows"])
    return dataclasses.replace(
        first,
        columns={name: [cell for part in parts for cell in part.columns[name]] for name in first.columns},
        rows=np.concatenate([part.rows for part in parts]),
        files=[name for part in parts for name in part.files],
        file=np.concatenate([np.full(len(part), i, dtype=np.int32) for i, part in enumerate(parts)]),
        groups=None if first.groups is None else [group for part in parts for group in part.groups or ()],
        times=None if first.times is None else np.concatenate([part.times for part in parts if part.times is not None]),
        skipped=join_skipped(parts),
        slices={name: [value for part in parts for value in part.slices[name]] for name in first.slices},
    )


def join_skipped(parts: Iterable[Rows]) -> dict[str, list[tuple[str, int]]]:
    """Merge the skipped rows of all parts: problem -> (file, row) of each."""
    rows_of: dict[str, list[tuple[str, int]]] = {}
    for part in parts:
        for problem, skipped_rows in part.skipped.items():
            rows_of.setdefault(problem, []).extend(skipped_rows)
    return rows_of


# ------------------------------------------------------------------------------------------------------- from a table


def extras(config: DataConfig) -> list[str]:
    """The additional columns: those that decide the split, and those for slices."""
    return [*filter(None, (config.group_column, config.time_column)), *slicing.columns_of(config)]


def moment(value: Any) -> tuple[float, bool]:
    """A number as it is, or an ISO 8601 date or time as seconds since 1970 (UTC if no zone); and whether it is a date.

    Raises:
        BadRow: neither.
    """
    try:
        if not isinstance(value, bool | date):
            number = float(value)
            if math.isfinite(number):
                return number, False
    except (TypeError, ValueError, OverflowError):
        pass
    try:
        read = datetime.fromisoformat(str(value).strip())
        return (read if read.tzinfo else read.replace(tzinfo=UTC)).timestamp(), True
    except (ValueError, OverflowError):
        raise BadRow("a time that is neither a number nor ISO 8601") from None


def _group(value: Any) -> str:
    try:
        name = label_name(value)
    except TypeError:
        name = str(value)
    if name is None:
        raise BadRow("no group")
    need(None if is_unicode(name) else "a group that is not valid Unicode")
    return name


MAX_PROBLEMS = 10


class Problems:
    """The problems in a table: the rows of each, and the wording for the first row.

    Args:
        table: whose rows they are.
    """

    def __init__(self, table: Table) -> None:
        self._table = table
        self._said: dict[str, str] = {}
        self._indices: dict[str, list[int]] = {}

    def add(self, error: BadRow, index: int) -> None:
        """Add a row; text in brackets at the end of a problem may differ from row to row."""
        for problem in error.args:
            what = problem.partition(" (")[0]
            self._said.setdefault(what, problem)
            self._indices.setdefault(what, []).append(index)

    def refuse(self) -> None:
        """Raise if there are any problems."""
        lines = [f"{self._said[what]} in {self._table.where(indices)}" for what, indices in self._indices.items()]
        more = [f"and {len(lines) - MAX_PROBLEMS} more kinds of problems"] if len(lines) > MAX_PROBLEMS else []
        checks.refuse(self._table.name, lines[:MAX_PROBLEMS] + more)

    def indices(self) -> set[int]:
        """The rows that have a problem."""
        return {index for indices in self._indices.values() for index in indices}

    def skipped(self) -> dict[str, list[tuple[str, int]]]:
        """Problem -> its rows as (file, row), including those that the reader skipped."""
        table = self._table
        skipped_rows = {problem: [(table.name, row) for row in rows] for problem, rows in table.skipped.items()}
        return skipped_rows | {
            what: [(table.name, table.rows[i]) for i in rows] for what, rows in self._indices.items()
        }


def check(table: Table, kind: Kind, config: DataConfig) -> Rows:
    """The rows of a table that the task can use.

    Raises:
        DataError: all kinds of problems at once, with row numbers; with `skip_bad_rows` only problems that aren't
            those of single rows.
    """
    checks.check_not_empty(table.name, len(table.rows))
    problems = Problems(table)
    sources = [table.columns[column] for column in kind.sources().values()]
    parsed = _convert_cells(zip(*sources, strict=True), lambda values: kind.parse(*values), problems)
    groups = _convert_cells(table.columns[config.group_column], _group, problems) if config.group_column else None
    times = _convert_cells(table.columns[config.time_column], moment, problems) if config.time_column else None
    slices = {
        name: _convert_cells(table.columns[name], slicing.reader(name), problems) for name in slicing.columns_of(config)
    }
    if not config.skip_bad_rows:
        problems.refuse()
    bad = problems.indices()
    good = [index for index in range(len(table.rows)) if index not in bad]
    cells = zip(*(parsed[i] for i in good), strict=True) if good else ([] for _ in kind.types)
    return Rows(
        kind=kind,
        columns={name: list(column) for name, column in zip(kind.types, cells, strict=True)},
        rows=np.array([table.rows[i] for i in good], dtype=np.int64),
        files=[table.name],
        file=np.zeros(len(good), dtype=np.int32),
        groups=None if groups is None else [groups[i] for i in good],
        times=None if times is None else np.array([times[i][0] for i in good], dtype=np.float64),
        dates=times is not None and _dates(table, [times[i] for i in good]),
        skipped=problems.skipped(),
        slices={name: [values[i] for i in good] for name, values in slices.items()},
    )


def _convert_cells(values: Iterable[Any], convert: Callable[[Any], Any], problems: Problems) -> list[Any]:
    """Convert every value; None for those that can't be converted."""
    converted: list[Any] = []
    for index, value in enumerate(values):
        try:
            converted.append(convert(value))
        except BadRow as error:
            problems.add(error, index)
            converted.append(None)
    return converted


def _dates(table: Table, times: list[tuple[float, bool]]) -> bool:
    """Whether the times are dates.

    Raises:
        DataError: some are dates and some are numbers.
    """
    dates = sum(is_date for _, is_date in times)
    if 0 < dates < len(times):
        what = f"{dates:,} times are dates and {len(times) - dates:,} are numbers"
        checks.fail(table.name, [f"{what}; write them one way"])
    return dates > 0

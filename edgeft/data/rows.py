"""Checked rows of one task, whatever the task, and how they are made of a table."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import numpy as np
import numpy.typing as npt

from edgeft.data import checks
from edgeft.data.kinds import BadRow, Columns, Kind
from edgeft.data.table import Table, some, where
from edgeft.recipe import DataConfig

Indices = Sequence[int] | npt.NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Rows:
    """Rows that passed the checks of their task.

    Attributes:
        kind: what they look like.
        columns: canonical column to its cells, (n,) each.
        rows: (n,) 1-based number of each row in its file.
        files: names of the files.
        file: (n,) each row's place in `files`.
        groups: (n,) value of the group column; None where there is none.
        times: (n,) seconds since 1970, or the number that stands in the time column; None where there is none.
        skipped: problem to the rows that were left out because of it, as (file, row).
    """

    kind: Kind
    columns: Columns
    rows: npt.NDArray[np.int64]
    files: list[str]
    file: npt.NDArray[np.int32]
    groups: list[str] | None = None
    times: npt.NDArray[np.float64] | None = None
    skipped: dict[str, list[tuple[str, int]]] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def name(self) -> str:
        """What messages call the source."""
        more = len(self.files) - 1
        return self.files[0] + (f" and {more} more file{'s' if more > 1 else ''}" if more else "")

    @property
    def inputs(self) -> list[str]:
        """(n,) what a model is given, as one text a row."""
        return self.kind.inputs(self.columns)

    def pick(self, indices: Indices) -> Rows:
        """The rows at these places, in this order."""
        places = np.asarray(indices, dtype=np.int64)
        listed = places.tolist()
        return dataclasses.replace(
            self,
            columns={name: [cells[i] for i in listed] for name, cells in self.columns.items()},
            rows=self.rows[places],
            file=self.file[places],
            groups=None if self.groups is None else [self.groups[i] for i in listed],
            times=None if self.times is None else self.times[places],
        )

    def without(self, indices: Indices) -> Rows:
        """All rows but those at these places."""
        keep = np.ones(len(self), dtype=bool)
        keep[np.asarray(indices, dtype=np.int64)] = False
        return self if keep.all() else self.pick(np.flatnonzero(keep))

    def at(self, index: int) -> tuple[str, int]:
        """File and row number of one row."""
        return self.files[self.file[index]], int(self.rows[index])

    def where(self, indices: Indices) -> str:
        """The rows at these places as words, with their files where there are several."""
        if len(self.files) == 1:
            return where(self.rows[np.asarray(indices, dtype=np.int64)].tolist())
        return some([f"{file} row {row}" for file, row in map(self.at, indices)])


def joined(parts: Sequence[Rows]) -> Rows:
    """The rows of several files as one, in this order.

    Raises:
        DataError: the files hold rows of different forms.
    """
    first = parts[0]
    for other in parts[1:]:
        if other.kind.name != first.kind.name:
            checks.fail(other.name, [f"{other.kind.name} rows, but {first.name} has {first.kind.name} rows"])
    skipped: dict[str, list[tuple[str, int]]] = {}
    for part in parts:
        for problem, found in part.skipped.items():
            skipped.setdefault(problem, []).extend(found)
    return dataclasses.replace(
        first,
        columns={name: [cell for part in parts for cell in part.columns[name]] for name in first.columns},
        rows=np.concatenate([part.rows for part in parts]),
        files=[name for part in parts for name in part.files],
        file=np.concatenate([np.full(len(part), i, dtype=np.int32) for i, part in enumerate(parts)]),
        groups=None if first.groups is None else [group for part in parts for group in part.groups or ()],
        times=None if first.times is None else np.concatenate([part.times for part in parts if part.times is not None]),
        skipped=skipped,
    )


# ------------------------------------------------------------------------------------------------------- from a table


def extras(config: DataConfig) -> list[str]:
    """The columns that decide the split, beside those of the task."""
    return [column for column in (config.group_column, config.time_column) if column]


def seconds(value: Any) -> float:
    """A number as it is, a date or time of ISO 8601 in seconds since 1970 (without a zone: UTC).

    Raises:
        BadRow: neither.
    """
    if isinstance(value, datetime):
        return _since_1970(value)
    if isinstance(value, int | float) and not isinstance(value, bool) and np.isfinite(value):
        return float(value)
    try:
        return float(value)
    except (TypeError, ValueError, OverflowError):
        pass
    try:
        return _since_1970(datetime.fromisoformat(str(value).strip()))
    except ValueError:
        raise BadRow("a time that is neither a number nor ISO 8601") from None


def _since_1970(value: datetime) -> float:
    return (value if value.tzinfo else value.replace(tzinfo=UTC)).timestamp()


def _group(value: Any) -> str:
    if value is None or not str(value).strip():
        raise BadRow("no group")
    return str(value)


def check(table: Table, kind: Kind, config: DataConfig) -> Rows:
    """The rows of a table that the task can use.

    Raises:
        DataError: what is wrong, with row numbers, all kinds of problems at once; never where `skip_bad_rows` is on.
    """
    checks.not_empty(table.name, len(table.rows))
    cells: list[list[Any]] = [[] for _ in kind.types]
    rows: list[int] = []
    bad: dict[str, list[int]] = {}
    sources = [table.columns[column] for column in kind.sources().values()]
    for index, values in enumerate(zip(*sources, strict=True)):
        try:
            made = kind.parse(*values)
        except BadRow as error:
            for problem in error.args:
                bad.setdefault(problem, []).append(index)
            continue
        for column, cell in zip(cells, made, strict=True):
            column.append(cell)
        rows.append(index)
    groups, times = _extras(table, config, bad)
    if bad and not config.skip_bad_rows:
        checks.fail(table.name, _in_few_words(table, bad))
    found = Rows(
        kind=kind,
        columns=dict(zip(kind.types, cells, strict=True)),
        rows=np.array([table.rows[i] for i in rows], dtype=np.int64),
        files=[table.name],
        file=np.zeros(len(rows), dtype=np.int32),
        groups=None if groups is None else [groups[i] for i in rows],
        times=None if times is None else np.array([times[i] for i in rows], dtype=np.float64),
        skipped=_skipped(table, bad),
    )
    return _without_bad_extras(found, table, bad)


MAX_PROBLEMS = 10


def _in_few_words(table: Table, bad: dict[str, list[int]]) -> list[str]:
    said = [f"{problem} in {table.where(indices)}" for problem, indices in bad.items()]
    more = len(said) - MAX_PROBLEMS
    return said[:MAX_PROBLEMS] + ([f"and {more:,} more kinds of problems"] if more > 0 else [])


def _skipped(table: Table, bad: dict[str, list[int]]) -> dict[str, list[tuple[str, int]]]:
    found = {problem: [(table.name, row) for row in rows] for problem, rows in table.skipped.items()}
    return found | {problem: [(table.name, table.rows[i]) for i in indices] for problem, indices in bad.items()}


def _extras(table: Table, config: DataConfig, bad: dict[str, list[int]]) -> tuple[list[str] | None, list[float] | None]:
    """Groups and times of every row of a table; what can't be used is added to the problems."""
    groups = _each(table.columns[config.group_column], _group, "", bad) if config.group_column else None
    times = _each(table.columns[config.time_column], seconds, 0.0, bad) if config.time_column else None
    return groups, times


def _each(values: list[Any], convert: Any, otherwise: Any, bad: dict[str, list[int]]) -> list[Any]:
    found = []
    for index, value in enumerate(values):
        try:
            found.append(convert(value))
        except BadRow as error:
            bad.setdefault(str(error), []).append(index)
            found.append(otherwise)
    return found


def _without_bad_extras(found: Rows, table: Table, bad: dict[str, list[int]]) -> Rows:
    """Without the rows whose group or time can't be used (their own cells were fine)."""
    numbers = {table.rows[i] for indices in bad.values() for i in indices}
    return found.without([i for i, row in enumerate(found.rows.tolist()) if row in numbers]) if numbers else found

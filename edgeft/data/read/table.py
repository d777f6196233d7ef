"""The result of readers: columns with row numbers, and how messages name rows."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from edgeft.inputs.limits import LIMITS, Limits
from edgeft.progress import Bar

MAX_LISTED = 10
BAR_ROWS = 5_000  # rows between two updates of a bar

Chooser = Callable[[Sequence[str]], Sequence[str]]


@dataclass(frozen=True)
class Reading:
    """Options of reading a source.

    Attributes:
        choose: the columns to read, given all that are present; the reader refuses missing ones.
        hint: addition to the message about a missing column, given all that are present.
        skip_bad: drop and count rows that can't be read, instead of refusing the source.
        delimiter: of a CSV file; None: detected from its first records, else a comma, in .tsv a tab.
        encoding: of a text file.
        bar: counts rows.
        limits: of a file.
        tells: whether a line is printed about what was detected.
    """

    choose: Chooser
    hint: Callable[[Sequence[str]], str] = lambda present: ""
    skip_bad: bool = False
    delimiter: str | None = None
    encoding: str = "utf-8"
    bar: Bar | None = None
    limits: Limits = LIMITS
    tells: bool = True

    def count(self, rows: Iterable[Any], name: str) -> Iterable[Any]:
        """Yield the rows and count them on the bar.

        Raises:
            DataError: more rows than the limit.
        """
        number, most = 0, self.limits.max_file_rows
        for number, row in enumerate(rows, 1):
            if number > most:
                self.limits.refuse(name, f"has more than {most:,} rows", "max_file_rows")
            yield row
            if self.bar and number % BAR_ROWS == 0:
                self.bar.advance(BAR_ROWS)
        if self.bar:
            self.bar.advance(number % BAR_ROWS)


@dataclass(frozen=True)
class Table:
    """The requested columns of one source, with unchanged values.

    Attributes:
        name: what messages call the source.
        columns: column name -> its values, (n,) each.
        rows: (n,) 1-based number of each row in the source, the header not counted.
        lines: (n,) 1-based line of the file where each row starts; empty if the source has no lines.
        skipped: problem -> numbers of the rows skipped because of it.
    """

    name: str
    columns: dict[str, list[Any]]
    rows: list[int]
    lines: list[int] = field(default_factory=list)
    skipped: dict[str, list[int]] = field(default_factory=dict)

    def where(self, indices: Sequence[int]) -> str:
        """The rows at these indices of the table in words."""
        lines = [self.lines[indices[0]]] if self.lines else []
        return where([self.rows[index] for index in indices], *lines)


def where(rows: Sequence[int], first_line: int | None = None) -> str:
    """Row numbers in words, at most ten of them.

    Args:
        rows: (k,) row numbers, k >= 1.
        first_line: the line where the first of them starts.
    """
    if len(rows) == 1:
        return f"row {rows[0]}" + (f" (line {first_line})" if first_line else "")
    return f"rows {some([str(row) for row in rows])}" + (f" (the first at line {first_line})" if first_line else "")


def describe_locations(rows: Iterable[tuple[str, int]]) -> str:
    """Files with their row numbers in words, at most ten of them."""
    return some([f"{file} row {row}" for file, row in rows])


def some(items: Sequence[str]) -> str:
    """The first ten items, then how many more there are."""
    more = f" and {len(items) - MAX_LISTED:,} more" if len(items) > MAX_LISTED else ""
    return ", ".join(items[:MAX_LISTED]) + more

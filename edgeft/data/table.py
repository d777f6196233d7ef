"""What readers hand on: columns with the number of every row, and how a row is named in a message."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

MAX_LISTED = 10


@dataclass(frozen=True)
class Table:
    """The wanted columns of one source, values as they stand there.

    Attributes:
        name: what messages call the source.
        columns: column name to its values, (n,) each.
        rows: (n,) 1-based number of each row in the source, the header not counted.
        lines: (n,) 1-based line of the file where each row starts; empty where a source has no lines.
    """

    name: str
    columns: dict[str, list[Any]]
    rows: list[int]
    lines: list[int] = field(default_factory=list)

    def where(self, indices: Sequence[int]) -> str:
        """The rows at these places of the table as words."""
        lines = [self.lines[indices[0]]] if self.lines else []
        return where([self.rows[index] for index in indices], *lines)


@dataclass(frozen=True)
class Rows:
    """Checked rows of a text classification.

    Attributes:
        name: what messages call the source.
        texts: (n,) as they stand in the source, none of them empty.
        labels: (n,) names.
        rows: (n,) 1-based number of each row in the source.
    """

    name: str
    texts: list[str]
    labels: list[str]
    rows: list[int]

    def __len__(self) -> int:
        return len(self.texts)

    def pick(self, indices: Sequence[int]) -> Rows:
        """The rows at these places, in this order."""
        texts, labels = [self.texts[i] for i in indices], [self.labels[i] for i in indices]
        return Rows(self.name, texts, labels, [self.rows[i] for i in indices])


def where(rows: Sequence[int], first_line: int | None = None) -> str:
    """Row numbers as words, at most ten of them.

    Args:
        rows: (k,) row numbers, k >= 1.
        first_line: the line where the first of them starts.
    """
    if len(rows) == 1:
        return f"row {rows[0]}" + (f" (line {first_line})" if first_line else "")
    return f"rows {some([str(row) for row in rows])}" + (f" (the first at line {first_line})" if first_line else "")


def some(items: Sequence[str]) -> str:
    """The first ten items, then how many more there are."""
    more = f" and {len(items) - MAX_LISTED:,} more" if len(items) > MAX_LISTED else ""
    return ", ".join(items[:MAX_LISTED]) + more

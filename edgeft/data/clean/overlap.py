"""Rows that occur twice: duplicates, conflicts and leaks between splits; and the list of removed rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from edgeft.data.clean.content import Hashes, hashes
from edgeft.data.formats.rows import Rows

IndexArray = npt.NDArray[np.int64]
TARGET_SALT = b"edgeft target 1"
NONE = -1


@dataclass
class Removed:
    """Rows that were removed, each with the reason and the row that stays instead.

    Attributes:
        reason: why each was removed, as in `duplicate` or `leak of test`.
        row: (file, row number) of each.
        because: (file, row number) of the row that stays instead; None if there is none.
    """

    reason: list[str] = field(default_factory=list)
    row: list[tuple[str, int]] = field(default_factory=list)
    because: list[tuple[str, int] | None] = field(default_factory=list)

    def add(
        self,
        reason: str,
        rows: Rows,
        indices: Sequence[int] | IndexArray,
        others: Rows | None = None,
        twins: IndexArray | None = None,
    ) -> None:
        """Add removed rows.

        Args:
            reason: why.
            rows: all rows of their split.
            indices: (k,) of the removed rows in `rows`.
            others: the rows of the split in which their twins stay.
            twins: (k,) indices of the twins in `others`.
        """
        self.reason += [reason] * len(indices)
        self.row += [rows.at(int(i)) for i in indices]
        self.because += [None] * len(indices) if others is None or twins is None else [others.at(int(i)) for i in twins]

    def files(self) -> list[str]:
        """Every file with a removed row or a twin, each once."""
        return list(dict.fromkeys([file for file, _ in self.row] + [at[0] for at in self.because if at]))

    def count(self, reason: str) -> int:
        """How many rows were removed for a reason."""
        return self.reason.count(reason)


def target_hashes(rows: Rows) -> Hashes | None:
    """(n,) hashes of the rows' targets; None if an input may have several answers."""
    targets = rows.kind.targets(rows.columns)
    return None if targets is None else hashes(targets, TARGET_SALT)


def first_of_each(row_hashes: Hashes) -> IndexArray:
    """(n,) the index of the first row with the same hash."""
    _, first, inverse = np.unique(row_hashes, return_index=True, return_inverse=True)
    return first[inverse]


def duplicates(rows: Rows) -> tuple[IndexArray, IndexArray]:
    """Rows that repeat input and target of an earlier row.

    Returns:
        (k,) indices of the repeats, (k,) index of the first row that each repeats.
    """
    keys = hashes(rows.inputs)
    answers = target_hashes(rows)
    if answers is not None:
        keys = keys ^ (answers * np.uint64(0x9E3779B97F4A7C15))
    first = first_of_each(keys)
    repeats = np.flatnonzero(first != np.arange(len(rows)))
    return repeats, first[repeats]


def conflicts(rows: Rows) -> tuple[IndexArray, int]:
    """Rows whose input also occurs with another target.

    Returns:
        (k,) indices of all such rows, and the number of distinct inputs.
    """
    answers = target_hashes(rows)
    if answers is None:
        return np.zeros(0, dtype=np.int64), 0
    group = first_of_each(hashes(rows.inputs))  # (n,) index of the first row with the same input
    differs = np.zeros(len(rows), dtype=bool)
    differs[group[answers != answers[group]]] = True
    return np.flatnonzero(differs[group]), int(differs.sum())


def leaks(rows: Rows, held_out: Rows) -> tuple[IndexArray, IndexArray]:
    """Rows that are also in a held-out split, by their split key or by their group.

    Returns:
        (k,) indices of the rows, (k,) indices of their twins in the held-out split.
    """
    twin = twins(hashes(rows.kind.split_keys(rows.columns)), hashes(held_out.kind.split_keys(held_out.columns)))
    if rows.groups is not None and held_out.groups is not None:
        by_group = twins(hashes(rows.groups), hashes(held_out.groups))
        twin = np.where(twin == NONE, by_group, twin)
    leaked = np.flatnonzero(twin != NONE)
    return leaked, twin[leaked]


def twins(row_hashes: Hashes, held_out: Hashes) -> IndexArray:
    """(n,) the index of an equal hash among the held-out ones, -1 if there is none."""
    if not len(held_out):
        return np.full(len(row_hashes), NONE, dtype=np.int64)
    order = np.argsort(held_out, kind="stable")
    match = np.minimum(np.searchsorted(held_out[order], row_hashes), len(held_out) - 1)
    return np.where(held_out[order[match]] == row_hashes, order[match], NONE)

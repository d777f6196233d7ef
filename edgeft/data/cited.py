"""Rows that are to blame, as a plain document names them, and how some of many rows are chosen."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from edgeft.data.clean.content import CHOICE_SALT, hashes
from edgeft.data.formats.rows import Rows

Document = dict[str, Any]
Places = npt.NDArray[np.int64]
MAX_CITED = 1_000


def cited(rows: Rows, places: Sequence[int] | Places) -> Document:
    """How many rows, and which.

    Args:
        rows: where they stand.
        places: (k,) their places there, the most important first.

    Returns:
        `count`, and `rows` with `file` and `row` of the first thousand.
    """
    return {"count": len(places), "rows": [one(rows.at(int(i))) for i in places[:MAX_CITED]]}


def one(at: tuple[str, int]) -> Document:
    """File and number of one row."""
    return {"file": at[0], "row": at[1]}


def pairs(rows: Rows, places: Places, others: Rows, twins: Places) -> Document:
    """As `cited`, each row with `other_file` and `other_row` of its twin."""
    found = cited(rows, places)
    for row, twin in zip(found["rows"], twins.tolist(), strict=False):
        row["other_file"], row["other_row"] = others.at(twin)
    return found


def sample(inputs: Sequence[str], limit: int) -> Places:
    """(m,) the places, in order, of at most so many rows: those whose content has the smallest hash.

    Args:
        inputs: (n,) the text of each row.
        limit: how many at most.
    """
    if len(inputs) <= limit:
        return np.arange(len(inputs), dtype=np.int64)
    return np.sort(np.argsort(hashes(inputs, CHOICE_SALT), kind="stable")[:limit]).astype(np.int64)

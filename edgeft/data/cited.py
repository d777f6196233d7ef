"""Rows cited in a plain document, and a sample of rows that depends on their content alone."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from edgeft.data.clean.content import CHOICE_SALT, hashes
from edgeft.data.formats.rows import Rows

Document = dict[str, Any]
IndexArray = npt.NDArray[np.int64]
MAX_CITED = 1_000


def cite_rows(rows: Rows, indices: Sequence[int] | IndexArray) -> Document:
    """The number of rows, and the first of them.

    Args:
        rows: all rows.
        indices: (k,) of the rows to cite, the most important first.

    Returns:
        `count`, and `rows` with `file` and `row` of the first thousand.
    """
    return {"count": len(indices), "rows": [cite_row(rows.at(int(i))) for i in indices[:MAX_CITED]]}


def cite_row(at: tuple[str, int]) -> Document:
    """File and number of one row."""
    return {"file": at[0], "row": at[1]}


def cite_pairs(rows: Rows, indices: IndexArray, others: Rows, twins: IndexArray) -> Document:
    """As `cite_rows`, each row with `other_file` and `other_row` of its twin."""
    document = cite_rows(rows, indices)
    for row, twin in zip(document["rows"], twins.tolist(), strict=False):
        row["other_file"], row["other_row"] = others.at(twin)
    return document


def sample(inputs: Sequence[str], limit: int) -> IndexArray:
    """(m,) sorted indices of at most `limit` rows: those whose content has the smallest hash.

    Args:
        inputs: (n,) the text of each row.
        limit: largest number of rows.
    """
    if len(inputs) <= limit:
        return np.arange(len(inputs), dtype=np.int64)
    return np.sort(np.argsort(hashes(inputs, CHOICE_SALT), kind="stable")[:limit]).astype(np.int64)

"""Rows made in code."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from edgeft.data.formats import kind_of
from edgeft.data.formats.rows import Rows, check
from edgeft.data.read.table import Table
from edgeft.recipe import DataConfig

Pairs = Sequence[tuple[Any, Any]]
# Fixtures of the data's tests.
ExampleRows = Callable[..., list[tuple[str, str]]]
Raw = Callable[[str, bytes], str]
Write = Callable[[str, Pairs], str]


def make_rows(columns: dict[str, list[Any]], name: str = "a.csv", **options: Any) -> Rows:
    """Checked rows of these source columns."""
    config = DataConfig(**options)
    count = len(next(iter(columns.values())))
    return check(Table(name, columns, list(range(1, count + 1))), kind_of(config, list(columns)), config)


def places(found: Any) -> list[int]:
    numbers: list[int] = np.asarray(found).tolist()
    return numbers

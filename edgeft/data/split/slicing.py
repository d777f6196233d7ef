"""Columns that stand beside a task's own, so that its metrics can be looked at for each of their values."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from edgeft.cleaning import Cleaning, cleaner
from edgeft.data.formats import BadRow, Kind
from edgeft.data.formats.base import is_unicode, label_name
from edgeft.errors import DataError
from edgeft.recipe import DataConfig, name_option

PREFIX = "slice:"  # begins the name of such a column in a data folder: it may be called as one of the task's own

# Column to its values, (n,) each; None is missing.
Slices = dict[str, list[str | None]]


def columns_of(config: DataConfig) -> list[str]:
    """The columns that a config wants kept."""
    return config.slice_columns or []


def check(kind: Kind, config: DataConfig) -> None:
    """Refuse a column whose values are the texts: they would stand in metrics as names of slices.

    Raises:
        DataError: names the column.
    """
    numbers = () if "target" in kind.text_columns else ("target",)
    texts = {column: role for role, column in kind.sources().items() if role not in ("label", *numbers)}
    for column in columns_of(config):
        role = texts.get(column)
        if role is not None:
            option = name_option("data.slice_columns")
            raise DataError(f"{option}: {column!r} is the rows' own {role}; name a column beside it")


def reader(column: str) -> Callable[[Any], str | None]:
    """What makes a name of a value: 4, 4.0 and "4.0" are all "4"; None, NaN and an empty text are missing."""

    def read(value: Any) -> str | None:
        if isinstance(value, list | dict | bytes):
            raise BadRow(f"a value of column {column!r} that is no scalar ({type(value).__name__})")
        if isinstance(value, float) and not math.isfinite(value) and not math.isnan(value):
            return str(value)
        name = label_name(value) if isinstance(value, str | int | float | None) else str(value)
        if name is not None and not is_unicode(name):
            raise BadRow(f"a value of column {column!r} that is not valid Unicode")
        return name

    return read


def anonymise_slices(slices: Slices, cleaning: Cleaning) -> Slices:
    """The values as the texts are anonymised: they stand in metrics and reports.

    Names of people and places are left, as a column of countries is there to tell countries apart.
    """
    if not slices or not cleaning.anonymise:
        return slices
    hide = cleaner(Cleaning(anonymise=cleaning.anonymise, region=cleaning.region))
    hidden = {value: hide(value) for values in slices.values() for value in set(values) if value is not None}
    return {name: [None if value is None else hidden[value] for value in values] for name, values in slices.items()}

"""Slice columns: additional columns for whose values the metrics are also measured."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from edgeft.cleaning import Cleaning, cleaner
from edgeft.data.formats import BadRow, Kind
from edgeft.data.formats.base import is_unicode, label_name
from edgeft.errors import DataError
from edgeft.recipe import DataConfig, name_option

PREFIX = "slice:"  # prefix of such a column in a data folder, as its name may equal one of the task's columns

# Column -> its values, (n,) each; None is missing.
Slices = dict[str, list[str | None]]


def columns_of(config: DataConfig) -> list[str]:
    """The slice columns of a config."""
    return config.slice_columns or []


def check(kind: Kind, config: DataConfig) -> None:
    """Refuse a column that is one of the task's: its texts would appear in metrics as names of slices.

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
    """The function that names a value: 4, 4.0 and "4.0" are all "4"; None, NaN and an empty text are missing."""

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
    """Anonymise the values as the texts are: they appear in metrics and reports.

    Names of people and places stay: a column of countries is meant to distinguish countries.
    """
    if not slices or not cleaning.anonymise:
        return slices
    hide = cleaner(Cleaning(anonymise=cleaning.anonymise, region=cleaning.region))
    hidden = {value: hide(value) for values in slices.values() for value in set(values) if value is not None}
    return {name: [None if value is None else hidden[value] for value in values] for name, values in slices.items()}

"""Unlabelled texts from separate files, from which a student learns in addition to the rows."""

from __future__ import annotations

import dataclasses

import numpy as np

from edgeft.cleaning import cleaner
from edgeft.data.clean.clean import cleaning_of
from edgeft.data.clean.content import hashes
from edgeft.data.formats import Kind
from edgeft.data.formats.generation import PlainText
from edgeft.data.read import sources
from edgeft.errors import DataError
from edgeft.progress import Bar
from edgeft.recipe import DataConfig, name_option

FIELD = "unlabelled_file"


def check(config: DataConfig, kind: Kind) -> None:
    """Check that a form of rows can use unlabelled texts.

    Raises:
        DataError: it can't.
    """
    if config.unlabelled_file and not kind.form.has_lone_text:
        raise DataError(f"{name_option(f'data.{FIELD}')}: for rows of a text and its label, not for {kind.name} rows")


def read(config: DataConfig) -> list[str]:
    """Read the texts of `unlabelled_file`, cleaned like the rows; empty if no file is named.

    Raises:
        DataError: one line, with row numbers.
    """
    if config.unlabelled_file is None:
        return []
    plain = dataclasses.replace(
        config, task=PlainText.form.task, group_column=None, time_column=None, slice_columns=None
    )
    with Bar("read", None) as bar:
        rows = sources.read_rows(plain, FIELD, bar)
    if not isinstance(rows.kind, PlainText):
        option, column = name_option(f"data.{FIELD}"), name_option("data.text_column")
        raise DataError(f"{option}: these are {rows.kind.name} rows, not texts ({column})")
    cleaned = map(cleaner(cleaning_of(config)), rows.columns["text"])
    return [text for text in cleaned if text.strip()]


def unknown(texts: list[str], known: list[str]) -> list[str]:
    """The texts that aren't among the known ones, without duplicates, so that no test text is trained on.

    Args:
        texts: unlabelled.
        known: those of all splits.
    """
    text_hashes = hashes(texts)
    fresh = ~np.isin(text_hashes, hashes(known))
    _, first = np.unique(text_hashes, return_index=True)
    return [texts[index] for index in sorted(first[fresh[first]].tolist())]

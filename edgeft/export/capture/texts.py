"""Texts without labels, on which the graph of an encoder without a head is checked."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np

from edgeft.data.dataset import Dataset, Split, split_of
from edgeft.data.dataset import load as load_dataset
from edgeft.data.formats import stored_kind
from edgeft.errors import DataError
from edgeft.runtime.texts import texts
from edgeft.tasks import EMBEDDINGS

FEWEST = 2
MOST = 500  # of each half


def texts_of(place: Path) -> Dataset:
    """Texts in two halves: one for the checks, one for the ranges of activations and the golden rows.

    Args:
        place: a data folder, whose splits are kept and whose labels are left alone, or a file of texts as `edgeft
            predict` reads them.

    Raises:
        DataError: fewer than two texts.
        UserError: a file that can't be read.
    """
    if place.is_dir():
        return _of_folder(load_dataset(place))
    found = [text for text in texts(place) if text.strip()][: 2 * MOST]
    if len(found) < FEWEST:
        raise DataError(f"{place}: {len(found)} texts; at least {FEWEST} are needed to check a graph with")
    return _dataset(found[1::2], found[::2], found[1::2])


def _of_folder(dataset: Dataset) -> Dataset:
    kind = stored_kind(dataset.kind)
    splits = (dataset.train, dataset.validation, dataset.test)
    train, validation, test = (kind.inputs(split.columns)[:MOST] for split in splits)
    return dataclasses.replace(_dataset(train, validation, test), cleaning=dataset.cleaning)


def _dataset(train: list[str], validation: list[str], test: list[str]) -> Dataset:
    return Dataset(
        task=EMBEDDINGS.task,
        labels=[],
        train=_split(train),
        validation=_split(validation),
        test=_split(test),
        unlabelled=[],
        kind=EMBEDDINGS.name,
    )


def _split(rows: list[str]) -> Split:
    return split_of({"text": rows}, np.arange(len(rows), dtype=np.int64) + 1, [])

"""The dataset folder: what the data stage writes and every later stage reads.

train.parquet, validation.parquet, test.parquet    columns text, label (its name), row (1-based, in the source)
unlabelled.parquet                                 column text; only where there is unlabelled text
dataset.json                                       task, labels, rows per split, columns and name of the source
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

from edgeft import tasks
from edgeft.cleaning import Cleaning
from edgeft.errors import DataError, RecipeError, require
from edgeft.stage import write_json

INDEX = "dataset.json"
SPLITS = ("train", "validation", "test")
PURPOSE = "to read or write a dataset folder"


@dataclass(frozen=True, eq=False)
class Split:
    """The labelled rows of one split.

    Attributes:
        texts: (n,) as they stand in the source.
        labels: (n,) places in the dataset's list of labels.
        rows: (n,) 1-based row numbers in the source.
    """

    texts: list[str]
    labels: npt.NDArray[np.int64]
    rows: npt.NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.texts)


@dataclass(frozen=True, eq=False)
class Dataset:
    """Checked and split rows of one task.

    Attributes:
        task: the ecosystem's tag.
        labels: (L,) label names; a label's id is its place here.
        unlabelled: texts that may be learnt from without their label.
        source: name of the file or dataset the rows come from, without folders.
        columns: role (text, label) to the column's name in the source.
        cleaning: what was done to the texts.
    """

    task: str
    labels: list[str]
    train: Split
    validation: Split
    test: Split
    unlabelled: list[str]
    source: str = ""
    columns: dict[str, str] = field(default_factory=dict)
    cleaning: Cleaning = field(default_factory=Cleaning)

    def split(self, name: str) -> Split:
        """The split called train, validation or test."""
        return {"train": self.train, "validation": self.validation, "test": self.test}[name]


class _Index(msgspec.Struct):
    """dataset.json."""

    task: str
    labels: list[str]
    rows: dict[str, int]
    columns: dict[str, str]
    source: str


# ------------------------------------------------------------------------------------------------------------- writing


def save(dataset: Dataset, folder: Path) -> None:
    """Write a dataset into a folder, dataset.json last; the same dataset gives the same bytes."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in SPLITS:
        split = dataset.split(name)
        labels = [dataset.labels[label] for label in split.labels]
        _write(folder / f"{name}.parquet", {"text": split.texts, "label": labels, "row": split.rows.tolist()})
    unlabelled = folder / "unlabelled.parquet"
    unlabelled.unlink(missing_ok=True)
    if dataset.unlabelled:
        _write(unlabelled, {"text": dataset.unlabelled})
    write_json(folder / INDEX, _index(dataset))


def _index(dataset: Dataset) -> _Index:
    rows = {name: len(dataset.split(name)) for name in SPLITS}
    rows["unlabelled"] = len(dataset.unlabelled)
    return _Index(dataset.task, dataset.labels, rows, dataset.columns, dataset.source)


def _write(path: Path, columns: dict[str, list[Any]]) -> None:
    arrow, parquet = require("pyarrow", PURPOSE), require("pyarrow.parquet", PURPOSE)
    types = {"text": arrow.large_string(), "label": arrow.string(), "row": arrow.int64()}
    table = arrow.table({name: arrow.array(values, types[name]) for name, values in columns.items()})
    parquet.write_table(table, path, compression="zstd")


# ------------------------------------------------------------------------------------------------------------- reading


def load(folder: Path) -> Dataset:
    """Read a dataset folder.

    Raises:
        DataError: not such a folder, or one whose files don't agree.
    """
    index = _read_index(folder)
    ids = {label: place for place, label in enumerate(index.labels)}
    train, validation, test = (_read_split(folder, name, ids, index.rows.get(name, 0)) for name in SPLITS)
    expected = index.rows.get("unlabelled", 0)
    unlabelled = _read(folder / "unlabelled.parquet", ("text",), expected)["text"] if expected else []
    return Dataset(
        task=index.task,
        labels=index.labels,
        train=train,
        validation=validation,
        test=test,
        unlabelled=unlabelled,
        source=index.source,
        columns=index.columns,
    )


def _read_index(folder: Path) -> _Index:
    path = folder / INDEX
    if not path.is_file():
        raise DataError(f"{folder}: not a dataset folder ({INDEX} is missing); `edgeft data` writes one")
    try:
        index = msgspec.json.decode(path.read_bytes(), type=_Index)
        tasks.get(index.task)
    except (msgspec.DecodeError, RecipeError) as error:
        raise DataError(f"{path}: not the index of a dataset folder: {error}") from None
    return index


def _read_split(folder: Path, name: str, ids: dict[str, int], expected: int) -> Split:
    path = folder / f"{name}.parquet"
    columns = _read(path, ("text", "label", "row"), expected)
    unknown = sorted(set(columns["label"]) - ids.keys(), key=str)
    if unknown:
        raise DataError(f"{path}: label {unknown[0]!r} is not in {INDEX}")
    labels = np.array([ids[label] for label in columns["label"]], dtype=np.int64)
    return Split(columns["text"], labels, np.array(columns["row"], dtype=np.int64))


def _read(path: Path, names: tuple[str, ...], expected: int) -> dict[str, list[Any]]:
    arrow, parquet = require("pyarrow", PURPOSE), require("pyarrow.parquet", PURPOSE)
    if not path.is_file():
        raise DataError(f"{path}: missing, though {INDEX} counts {expected} rows of it")
    try:
        with parquet.ParquetFile(path) as file:
            table = file.read(columns=list(names))
    except (arrow.ArrowException, OSError) as error:
        raise DataError(f"{path}: not a Parquet file: {' '.join(str(error).split())}") from None
    if table.num_rows != expected or table.column_names != list(names):
        raise DataError(
            f"{path}: {table.num_rows} rows of columns {', '.join(table.column_names)}, "
            f"but {INDEX} counts {expected} rows of {', '.join(names)}"
        )
    return {name: table.column(name).to_pylist() for name in names}

"""The dataset folder: what the data stage writes and every later stage reads.

train.parquet, validation.parquet, test.parquet    the task's columns, row (1-based, in its file), file, slice:COLUMN
unlabelled.parquet                                 column text; only where there is unlabelled text
dataset.json                                       task, labels, rows per split, source and its columns, cleaning
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

from edgeft import tasks
from edgeft.cleaning import Cleaning
from edgeft.data.formats import Columns, class_of
from edgeft.data.read.table import describe_locations, where
from edgeft.data.split.slicing import PREFIX, Slices
from edgeft.errors import DataError, RecipeError, require
from edgeft.files import write_json
from edgeft.tasks import RowForm

INDEX = "dataset.json"
SPLITS = ("train", "validation", "test")
PURPOSE = "to read or write a dataset folder"


@dataclass(frozen=True, eq=False)
class Split:
    """The rows of one split.

    Attributes:
        columns: the task's columns to their cells, (n,) each.
        labels: single-label: int64 (n,), indices into the dataset's list of labels; multi-label: float32 (n, L) of 0
            and 1; regression: float32 (n,), the targets; otherwise int64 (0,).
        rows: (n,) 1-based row numbers in the source.
        files: (n,) names of the files if the source has several; else empty.
        slices: columns of the source beside the task's own, for metrics on parts of the rows.
    """

    columns: Columns
    labels: npt.NDArray[Any]
    rows: npt.NDArray[np.int64]
    files: list[str] = field(default_factory=list)
    slices: Slices = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.rows)

    def take(self, indices: Sequence[int]) -> Split:
        """Some of the rows, in the order of `indices`."""
        return Split(
            {name: [cells[index] for index in indices] for name, cells in self.columns.items()},
            self.labels[list(indices)] if len(self.labels) else self.labels,
            self.rows[list(indices)],
            [self.files[index] for index in indices] if self.files else [],
            {name: [values[index] for index in indices] for name, values in self.slices.items()},
        )

    def where(self, indices: Iterable[int]) -> str:
        """The row numbers at these indices in words, each once, with their files if there are several."""
        if not self.files:
            return where(sorted({int(self.rows[index]) for index in indices}))
        return describe_locations(sorted({(self.files[index], int(self.rows[index])) for index in indices}))

    @property
    def texts(self) -> list[str]:
        """(n,) texts, for the tasks that have a column of that name."""
        return self.columns["text"]


@dataclass(frozen=True, eq=False)
class Dataset:
    """Checked and split rows of one task.

    Attributes:
        task: its tag.
        labels: (L,) names of labels or tags; a label's id is its index here. Empty if the task has no closed set.
        unlabelled: texts that can be used in training without a label.
        kind: the form of the rows, as in `single-label`.
        source: name of the file or dataset the rows come from, without folders.
        columns: role (text, label) -> name of the column in the source.
        cleaning: what was done to the texts.
        class_weights: (L,) weight of each label in the loss; empty if all weigh the same.
    """

    task: str
    labels: list[str]
    train: Split
    validation: Split
    test: Split
    unlabelled: list[str]
    kind: str = "single-label"
    source: str = ""
    columns: dict[str, str] = field(default_factory=dict)
    cleaning: Cleaning = field(default_factory=Cleaning)
    class_weights: list[float] = field(default_factory=list)

    @property
    def form(self) -> RowForm:
        """The declaration of the rows' form."""
        return tasks.find_form(self.kind)

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
    kind: str = "single-label"
    cleaning: Cleaning = msgspec.field(default_factory=Cleaning)
    class_weights: list[float] = []
    slices: list[str] = []


def split_of(
    columns: Columns,
    rows: npt.NDArray[np.int64],
    names: list[str],
    files: list[str] | None = None,
    slices: Slices | None = None,
) -> Split:
    """A split whose label ids come from the names in its columns.

    Args:
        columns: the task's columns.
        rows: (n,) row numbers.
        names: (L,) all labels.
        files: (n,) names of the files, where there are several.
        slices: columns beside the task's own.
    """
    return Split(columns, _labels(columns, names), rows, files or [], slices or {})


def _labels(columns: Columns, names: list[str]) -> npt.NDArray[Any]:
    ids = {name: column for column, name in enumerate(names)}
    if "label" in columns:
        return np.array([ids[name] for name in columns["label"]], dtype=np.int64)
    if "labels" in columns:
        matrix = np.zeros((len(columns["labels"]), len(names)), dtype=np.float32)
        for row, of_row in enumerate(columns["labels"]):
            matrix[row, [ids[name] for name in of_row]] = 1
        return matrix
    if "target" in columns and "text" in columns:
        return np.array(columns["target"], dtype=np.float32)
    return np.zeros(0, dtype=np.int64)


# ------------------------------------------------------------------------------------------------------------- writing


def save(dataset: Dataset, folder: Path) -> None:
    """Write a dataset folder, dataset.json last; the same dataset gives the same bytes."""
    folder.mkdir(parents=True, exist_ok=True)
    types = class_of(dataset.form).types
    for name in SPLITS:
        split = dataset.split(name)
        more: dict[str, Any] = {"file": split.files} if split.files else {}
        slices = {PREFIX + column: values for column, values in split.slices.items()}
        of_all = {**types, **dict.fromkeys(slices, "text")}
        _write(folder / f"{name}.parquet", {**split.columns, "row": split.rows, **more, **slices}, of_all)
    unlabelled = folder / "unlabelled.parquet"
    unlabelled.unlink(missing_ok=True)
    if dataset.unlabelled:
        _write(unlabelled, {"text": dataset.unlabelled}, {"text": "text"})
    write_json(folder / INDEX, _index(dataset))


def _index(dataset: Dataset) -> _Index:
    rows = {name: len(dataset.split(name)) for name in SPLITS}
    rows["unlabelled"] = len(dataset.unlabelled)
    return _Index(
        task=dataset.task,
        labels=dataset.labels,
        rows=rows,
        columns=dataset.columns,
        source=dataset.source,
        kind=dataset.kind,
        cleaning=dataset.cleaning,
        class_weights=dataset.class_weights,
        slices=list(dataset.test.slices),
    )


def arrow_types(types: dict[str, str]) -> dict[str, Any]:
    """The Arrow type of each column."""
    arrow = require("pyarrow", PURPOSE)
    texts = arrow.list_(arrow.large_string())
    of = {
        "text": arrow.large_string(),
        "texts": texts,
        "number": arrow.float64(),
        "answers": arrow.struct({"text": texts, "answer_start": arrow.list_(arrow.int64())}),
        "messages": arrow.list_(arrow.struct({"role": arrow.string(), "content": arrow.large_string()})),
    }
    # A column of names has few distinct values.
    named = {name: arrow.string() if name == "label" else of[kind] for name, kind in types.items()}
    return {**named, "row": arrow.int64(), "file": arrow.string()}


def _write(path: Path, columns: dict[str, Any], types: dict[str, str]) -> None:
    arrow, parquet = require("pyarrow", PURPOSE), require("pyarrow.parquet", PURPOSE)
    of = arrow_types(types)
    table = arrow.table({name: arrow.array(values, of[name]) for name, values in columns.items()})
    parquet.write_table(table, path, compression="zstd")


# ------------------------------------------------------------------------------------------------------------- reading


def load(folder: Path) -> Dataset:
    """Read a dataset folder.

    Raises:
        DataError: not a dataset folder, or its files contradict each other.
    """
    index = _read_index(folder)
    train, validation, test = (_read_split(folder, name, index) for name in SPLITS)
    expected = index.rows.get("unlabelled", 0)
    unlabelled = _read(folder / "unlabelled.parquet", ("text",), expected)["text"] if expected else []
    return Dataset(
        task=index.task,
        labels=index.labels,
        train=train,
        validation=validation,
        test=test,
        unlabelled=unlabelled,
        kind=index.kind,
        source=index.source,
        columns=index.columns,
        cleaning=index.cleaning,
        class_weights=index.class_weights,
    )


def _read_index(folder: Path) -> _Index:
    path = folder / INDEX
    if not path.is_file():
        raise DataError(f"{folder}: not a dataset folder ({INDEX} is missing); `edgeft data` writes one")
    try:
        index = msgspec.json.decode(path.read_bytes(), type=_Index)
        tasks.known(index.task)
    except (msgspec.DecodeError, RecipeError) as error:
        raise DataError(f"{path}: not the index of a dataset folder: {error}") from None
    forms = tasks.name_forms(lambda form: form.has_rows)
    if index.kind not in forms:
        raise DataError(f"{path}: {index.kind!r} is no form of rows; the forms are {', '.join(forms)}")
    return index


def _read_split(folder: Path, name: str, index: _Index) -> Split:
    path = folder / f"{name}.parquet"
    kind = class_of(tasks.find_form(index.kind))
    stored = {column: PREFIX + column for column in index.slices}
    cells = _read(path, (*kind.types, "row", *stored.values()), index.rows.get(name, 0), ("file",))
    columns = {column: cells[column] for column in kind.types}
    _known(path, columns, index)
    rows, slices = np.array(cells["row"], dtype=np.int64), {column: cells[name] for column, name in stored.items()}
    return split_of(columns, rows, index.labels, cells.get("file"), slices)


def _known(path: Path, columns: Columns, index: _Index) -> None:
    names = set(columns.get("label", ())) | {name for row in columns.get("labels", ()) for name in row}
    unknown = sorted(names - set(index.labels), key=str)
    if unknown:
        raise DataError(f"{path}: label {unknown[0]!r} is not in {INDEX}")


def _read(path: Path, names: tuple[str, ...], expected: int, maybe: tuple[str, ...] = ()) -> dict[str, list[Any]]:
    arrow, parquet = require("pyarrow", PURPOSE), require("pyarrow.parquet", PURPOSE)
    if not path.is_file():
        raise DataError(f"{path}: missing, though {INDEX} counts {expected} rows of it")
    try:
        with parquet.ParquetFile(path) as file:
            names = (*names, *(name for name in maybe if name in file.schema_arrow.names))
            table = file.read(columns=list(names))
    except (arrow.ArrowException, OSError) as error:
        raise DataError(f"{path}: not a Parquet file: {' '.join(str(error).split())}") from None
    if table.num_rows != expected or table.column_names != list(names):
        raise DataError(
            f"{path}: {table.num_rows} rows of columns {', '.join(table.column_names)}, "
            f"but {INDEX} counts {expected} rows of {', '.join(names)}"
        )
    return {name: table.column(name).to_pylist() for name in names}

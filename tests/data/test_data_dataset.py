from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgeft.data import dataset
from edgeft.data.dataset import Dataset, Split, split_of
from edgeft.errors import DataError


def split(*pairs: tuple[str, int]) -> Split:
    columns = {"text": [text for text, _ in pairs], "label": [("bad", "good")[label] for _, label in pairs]}
    return split_of(columns, np.arange(1, len(pairs) + 1, dtype=np.int64), ["bad", "good"])


@pytest.fixture
def example() -> Dataset:
    return Dataset(
        task="text-classification",
        labels=["bad", "good"],
        train=split(("a\n\x00b", 1), ("é\U0001f600", 0)),
        validation=split(("c", 1)),
        test=split(("d", 0), ("e", 1), ("f", 1)),
        unlabelled=["g", "h"],
        source="reviews.csv",
        columns={"text": "review", "label": "stars"},
    )


def test_round_trip(example: Dataset, tmp_path: Path) -> None:
    dataset.save(example, tmp_path / "d")
    found = dataset.load(tmp_path / "d")
    for name in dataset.SPLITS:
        assert found.split(name).texts == example.split(name).texts
        assert found.split(name).labels.dtype == found.split(name).rows.dtype == np.int64
        np.testing.assert_array_equal(found.split(name).labels, example.split(name).labels)
        np.testing.assert_array_equal(found.split(name).rows, example.split(name).rows)
    assert (found.task, found.labels, found.unlabelled) == (example.task, example.labels, example.unlabelled)
    assert (found.source, found.columns) == (example.source, example.columns)


def test_rows_are_named_once_with_their_file_where_there_are_several() -> None:
    split = dataset.Split({"text": ["x"] * 12}, np.zeros(12, dtype=np.int64), np.array([9, 3, 3, *range(20, 29)]))
    assert split.where([0, 1, 2]) == "rows 3, 9"
    assert split.where(np.array([0])) == "row 9"
    assert split.where(range(12)).endswith(", 27 and 1 more")
    several = dataclasses.replace(split, files=["b.csv", "a.csv", "b.csv", *["a.csv"] * 9])
    assert several.where([0, 1, 2, 2]) == "a.csv row 3, b.csv row 3, b.csv row 9"


def test_the_index(example: Dataset, tmp_path: Path) -> None:
    dataset.save(example, tmp_path)
    assert json.loads((tmp_path / "dataset.json").read_text()) == {
        "task": "text-classification",
        "labels": ["bad", "good"],
        "rows": {"train": 2, "validation": 1, "test": 3, "unlabelled": 2},
        "columns": {"text": "review", "label": "stars"},
        "source": "reviews.csv",
        "kind": "single-label",
        "cleaning": {"steps": [], "anonymise": [], "region": "US", "names_model": None},
        "class_weights": [],
        "slices": [],
    }


def test_the_same_dataset_gives_the_same_bytes(example: Dataset, tmp_path: Path) -> None:
    dataset.save(example, tmp_path / "a")
    dataset.save(dataset.load(tmp_path / "a"), tmp_path / "b")
    first = {path.name: path.read_bytes() for path in (tmp_path / "a").iterdir()}
    assert first == {path.name: path.read_bytes() for path in (tmp_path / "b").iterdir()}
    assert sorted(first) == [
        "dataset.json",
        "test.parquet",
        "train.parquet",
        "unlabelled.parquet",
        "validation.parquet",
    ]


def test_no_unlabelled_text_no_file(example: Dataset, tmp_path: Path) -> None:
    dataset.save(example, tmp_path)
    example.unlabelled.clear()
    dataset.save(example, tmp_path)
    assert not (tmp_path / "unlabelled.parquet").exists()
    assert dataset.load(tmp_path).unlabelled == []


def _truncate(folder: Path) -> None:
    content = (folder / "test.parquet").read_bytes()
    (folder / "test.parquet").write_bytes(content[: len(content) // 2])


def _edit(folder: Path, **changes: Any) -> None:
    index = json.loads((folder / "dataset.json").read_text())
    (folder / "dataset.json").write_text(json.dumps(index | changes))


BROKEN: dict[str, tuple[Callable[[Path], object], str]] = {
    "kind": (lambda d: _edit(d, kind="chess"), "'chess' is no form of rows; the forms are single-label"),
    "no index": (lambda d: (d / "dataset.json").unlink(), r"not a dataset folder \(dataset\.json is missing\)"),
    "not JSON": (lambda d: (d / "dataset.json").write_text("{"), "not the index of a dataset folder"),
    "other JSON": (lambda d: (d / "dataset.json").write_text("{}"), "not the index of a dataset folder"),
    "task": (lambda d: _edit(d, task="chess"), "'chess' is not a task"),
    "no split": (lambda d: (d / "test.parquet").unlink(), r"test\.parquet: missing, though dataset\.json counts 3"),
    "half": (_truncate, r"test\.parquet: not a Parquet file"),
    "rows": (lambda d: _edit(d, rows={"train": 9}), r"train\.parquet: 2 rows of .*counts 9 rows"),
    "labels": (lambda d: _edit(d, labels=["bad"]), r"train\.parquet: label 'good' is not in dataset\.json"),
    "columns": (
        lambda d: (d / "test.parquet").write_bytes((d / "unlabelled.parquet").read_bytes()),
        r"test\.parquet: 2 rows of columns text, but",
    ),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_folder_is_one_line(name: str, example: Dataset, tmp_path: Path) -> None:
    spoil, expected = BROKEN[name]
    dataset.save(example, tmp_path)
    spoil(tmp_path)
    with pytest.raises(DataError, match=expected) as caught:
        dataset.load(tmp_path)
    assert "\n" not in str(caught.value)


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="not a dataset folder"):
        dataset.load(tmp_path / "nowhere")

"""Texts without labels from files of their own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from support import write_csv

from edgeft.data import dataset
from edgeft.data.prepare import run
from edgeft.data.read import sources
from edgeft.data.read.unlabelled import unknown
from edgeft.errors import DataError
from edgeft.recipe import DataConfig

ROWS = [(f"text number {place} of all", ("up", "down")[place % 2]) for place in range(40)]


def prepared(folder: Path, texts: list[str], **options: Any) -> Any:
    file = write_csv(folder / "rows.csv", ROWS, ("text", "label"))
    extra = folder / "more.txt.csv"
    write_csv(extra, [(text,) for text in texts], ("text",))
    config = DataConfig(file=str(file), unlabelled_file=str(extra), seed=0, **options)
    run(config, sources.local_files(config), folder / "data")
    return dataset.load(folder / "data")


def test_texts_are_read_cleaned_and_each_is_there_once(tmp_path: Path) -> None:
    found = prepared(tmp_path, ["A  <b>new</b> one", "a new one", "another"], clean=["html", "whitespace", "lowercase"])
    assert found.unlabelled == ["a new one", "another"]


def test_what_stands_in_a_split_is_taken_out(tmp_path: Path) -> None:
    found = prepared(tmp_path, [ROWS[3][0], " " + ROWS[8][0], "new", ROWS[11][0]])
    assert found.unlabelled == ["new"]


def test_they_follow_the_rows_that_lost_their_label(tmp_path: Path) -> None:
    found = prepared(tmp_path, ["new"], max_train_rows=10)
    assert found.unlabelled[-1] == "new"
    assert len(found.unlabelled) == 1 + len(ROWS) - 10 - len(found.validation) - len(found.test)


def test_unknown_texts_keep_their_order() -> None:
    assert unknown(["b", "a", "b", "c ", "x"], ["x", "c"]) == ["b", "a"]
    assert unknown([], ["x"]) == []


def test_a_missing_file_and_other_rows_are_refused(tmp_path: Path) -> None:
    config = DataConfig(file=str(write_csv(tmp_path / "rows.csv", ROWS, ("text", "label"))), unlabelled_file="none.csv")
    with pytest.raises(DataError, match=r"none\.csv: no such file"):
        sources.local_files(config)
    tags = tmp_path / "tags.jsonl"
    tags.write_text('{"tokens": ["a"], "tags": ["O"]}\n{"tokens": ["b"], "tags": ["X"]}\n' * 20)
    other = DataConfig(task="token-classification", file=str(tags), unlabelled_file=str(tmp_path / "rows.csv"))
    with pytest.raises(DataError, match="not for tokens rows"):
        run(other, sources.local_files(other), tmp_path / "out")

"""Columns beside the task's own: kept through reading, cleaning, splitting, saving, loading and repeating rows."""

from __future__ import annotations

import json
from datetime import date
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet
import pytest

from edgeft.data import dataset
from edgeft.data.dataset import Dataset
from edgeft.data.formats.rows import extras
from edgeft.data.prepare import assemble, prepare
from edgeft.data.prepare import run as stage
from edgeft.data.read import sources
from edgeft.data.split import slicing
from edgeft.errors import DataError, RecipeError
from edgeft.recipe import DataConfig, check_stage

COUNTRIES = ("fr", "de", None, "日本", "us")


def rows(count: int = 100, start: int = 0) -> list[dict[str, Any]]:
    """The country and the age follow from the number in the text."""
    return [
        {"text": f"text number {i}", "label": ("good", "bad")[i % 2], "country": COUNTRIES[i % 5], "age": i % 3}
        for i in range(start, start + count)
    ]


def write(path: Path, content: list[dict[str, Any]]) -> str:
    if path.suffix == ".parquet":
        pyarrow.parquet.write_table(pyarrow.Table.from_pylist(content), path)
    elif path.suffix == ".jsonl":
        path.write_text("".join(json.dumps(row) + "\n" for row in content), encoding="utf-8")
    else:
        lines = [",".join("" if cell is None else str(cell) for cell in row.values()) for row in content]
        path.write_text("\n".join([",".join(content[0]), *lines]) + "\n", encoding="utf-8")
    return str(path)


def read(file: Any, columns: list[str], **options: Any) -> Dataset:
    config = DataConfig(file=file, slice_columns=columns, seed=0, **options)
    return assemble(prepare(config)[0], config)


def expected(text: str) -> tuple[str | None, str]:
    number = int(text.rsplit(" ", 1)[1])
    return COUNTRIES[number % 5], str(number % 3)


def holds(found: Dataset) -> bool:
    splits = [found.split(name) for name in dataset.SPLITS]
    return all(
        list(zip(split.slices["country"], split.slices["age"], strict=True)) == list(map(expected, split.texts))
        for split in splits
    )


@pytest.mark.parametrize("suffix", ["csv", "jsonl", "parquet"])
def test_every_format_keeps_the_values_with_their_rows(suffix: str, tmp_path: Path) -> None:
    file = write(tmp_path / f"a.{suffix}", rows())
    assert holds(read(file, ["country", "age"]))


def test_the_split_is_the_one_without_them(tmp_path: Path) -> None:
    file = write(tmp_path / "a.csv", rows())
    plain = DataConfig(file=file, seed=0)
    without, kept = assemble(prepare(plain)[0], plain), read(file, ["country"])
    for name in dataset.SPLITS:
        assert without.split(name).texts == kept.split(name).texts
        assert without.split(name).slices == {}


def test_several_files_and_own_test_rows(tmp_path: Path) -> None:
    files = [write(tmp_path / "a.csv", rows(60)), write(tmp_path / "b.jsonl", rows(60, 60))]
    own = write(tmp_path / "own.parquet", rows(10, 200))
    found = read(files, ["country", "age"], test_file=own)
    assert holds(found)
    assert len(found.test) == 10


def test_saved_loaded_and_repeated(tmp_path: Path) -> None:
    uneven = [row for row in rows() if row["label"] == "good" or int(row["text"].split()[-1]) % 3]
    found = read(write(tmp_path / "a.csv", uneven), ["country", "age"], balance="oversample")
    dataset.save(found, tmp_path / "d")
    again = dataset.load(tmp_path / "d")
    assert holds(found)
    assert holds(again)
    taken = again.train.take([3, 0])
    assert taken.slices["country"] == [again.train.slices["country"][3], again.train.slices["country"][0]]
    dataset.save(again, tmp_path / "e")
    names = [path.name for path in (tmp_path / "d").iterdir()]
    assert all((tmp_path / "d" / name).read_bytes() == (tmp_path / "e" / name).read_bytes() for name in names)


def test_columns_called_like_the_folders_own(tmp_path: Path) -> None:
    content = [{**row, "row": "r", "file": "f"} for row in rows()]
    found = read(write(tmp_path / "a.csv", content), ["row", "file", "label"])
    dataset.save(found, tmp_path / "d")
    test = dataset.load(tmp_path / "d").test
    assert set(test.slices["row"]) == {"r"}
    assert set(test.slices["file"]) == {"f"}
    assert test.slices["label"] == test.columns["label"]


def test_values_of_every_scalar_type_become_names(tmp_path: Path) -> None:
    values = [True, 4, 4.0, "4", 0.5, "", "  ", None, date(2024, 1, 20), "é\U0001f600"]
    config = DataConfig(file="x", slice_columns=["v"])
    read_value = slicing.reader("v")
    assert [read_value(value) for value in [*values, float("nan"), float("inf")]] == [
        *("True", "4", "4", "4", "0.5", None, None, None, "2024-01-20", "é\U0001f600", None, "inf")
    ]
    assert extras(config) == ["v"]


def test_a_missing_column_names_the_nearest(tmp_path: Path) -> None:
    file = write(tmp_path / "a.csv", rows())
    message = r"column 'contry' is missing \(did you mean 'country'\?\); the columns are 'text', 'label', .*'age'$"
    with pytest.raises(DataError, match=message):
        read(file, ["contry"])
    other = write(tmp_path / "b.csv", [{"text": "x 1", "label": "good"}])
    with pytest.raises(DataError, match=r"b\.csv: column 'country' is missing"):
        read([file, other], ["country"])


def test_what_is_no_scalar_and_what_is_the_text_are_refused(tmp_path: Path) -> None:
    file = write(tmp_path / "a.jsonl", [{**row, "country": ["fr"] if i == 3 else "fr"} for i, row in enumerate(rows())])
    with pytest.raises(DataError, match=r"a value of column 'country' that is no scalar \(list\) in row 4"):
        read(file, ["country"])
    with pytest.raises(DataError, match=r"data\.slice_columns: 'text' is the rows' own text; name a column beside it"):
        read(file, ["text"])


def test_a_column_twice_and_an_empty_list_are_problems_of_the_recipe() -> None:
    for columns, problem in ((["a", "a"], "one column stands there twice"), ([], "the list is empty")):
        with pytest.raises(RecipeError, match=rf"data\.slice_columns: {problem}"):
            check_stage("data", DataConfig(slice_columns=columns))


def test_personal_data_in_the_values_is_replaced(tmp_path: Path) -> None:
    content = [{**row, "author": f"me{i % 2}@example.org", "place": "Paris"} for i, row in enumerate(rows())]
    file = write(tmp_path / "a.csv", content)
    found = read(file, ["author", "place"], anonymise=True, anonymise_kinds=["email"])
    assert set(found.test.slices["author"]) == {"[EMAIL_1]"}
    assert set(found.test.slices["place"]) == {"Paris"}


def test_the_stage_writes_them(tmp_path: Path) -> None:
    config = DataConfig(file=write(tmp_path / "a.csv", rows()), slice_columns=["country", "age"], seed=0)
    stage(config, sources.local_files(config), tmp_path / "out")
    assert holds(dataset.load(tmp_path / "out"))
    assert json.loads((tmp_path / "out" / "dataset.json").read_text())["slices"] == ["country", "age"]

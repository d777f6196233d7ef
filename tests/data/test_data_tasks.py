"""The data stage on a file of every task, and splits by group and by time."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgeft.data import dataset, prepare
from edgeft.data.formats import class_of
from edgeft.data.read import sources
from edgeft.errors import DataError
from edgeft.recipe import DataConfig
from edgeft.stage_folder import StageResult


def run(config: DataConfig, out: Path) -> StageResult:
    return prepare.run(config, sources.local_files(config), out)


def jsonl(path: Path, rows: Iterable[dict[str, Any]]) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def chat(i: int) -> list[dict[str, str]]:
    return [{"role": "user", "content": f"question {i}"}, {"role": "assistant", "content": f"answer {i}"}]


def context(i: int) -> str:
    return f"Number {i} is the answer to it."


TASKS: dict[str, tuple[dict[str, Any], Callable[[int], dict[str, Any]]]] = {
    "multi": ({"multi_label": True}, lambda i: {"text": f"text {i}", "label": ["x", "y", "z"][: i % 4]}),
    "regression": ({"task": "text-regression"}, lambda i: {"text": f"text {i}", "target": i / 7}),
    "tags": (
        {"task": "token-classification"},
        lambda i: {"tokens": ["word", str(i), "."], "tags": ["NOUN", "NUM", "PUNCT"]},
    ),
    "spans": (
        {"task": "token-classification"},
        lambda i: {"text": f"Ann {i}, hi", "spans": [{"start": 0, "end": 3, "label": "PER"}]},
    ),
    "questions": (
        {"task": "question-answering"},
        lambda i: {
            "question": f"which {i}?",
            "context": context(i // 2),
            "answers": {"text": [str(i // 2)], "answer_start": [7]} if i % 3 else {"text": [], "answer_start": []},
        },
    ),
    "text": ({"task": "text-generation"}, lambda i: {"text": f"text {i}"}),
    "prompt": ({"task": "text-generation"}, lambda i: {"prompt": f"p {i}", "completion": f"c {i}"}),
    "chat": ({"task": "text-generation"}, lambda i: {"messages": chat(i)}),
    "pairs": ({"task": "text2text-generation"}, lambda i: {"source": f"s {i}", "target": f"t {i}"}),
}


@pytest.mark.parametrize("name", TASKS)
def test_every_task_from_file_to_folder_and_back(name: str, tmp_path: Path) -> None:
    options, row = TASKS[name]
    config = DataConfig(file=jsonl(tmp_path / "a.jsonl", map(row, range(200))), **options)
    result = run(config, tmp_path / "out")
    data = dataset.load(tmp_path / "out")
    assert sum(result.metrics["rows"].values()) == 200
    assert data.task == (options.get("task") or "text-classification")
    kind = class_of(data.form)(config)
    for split in dataset.SPLITS:
        for number, *cells in zip(data.split(split).rows, *data.split(split).columns.values(), strict=True):
            source = row(int(number) - 1)
            if name != "spans":
                assert tuple(cells) == kind.parse(*(source[column] for column in kind.sources().values()))
    dataset.save(data, tmp_path / "again")
    for path in (tmp_path / "again").iterdir():
        assert path.read_bytes() == (tmp_path / "out" / path.name).read_bytes()


@pytest.mark.parametrize("name", TASKS)
def test_appending_and_shuffling_move_no_row(name: str, tmp_path: Path) -> None:
    options, row = TASKS[name]
    rows = [row(i) for i in range(150)]
    split = {}
    for turn, content in {"before": rows, "after": [row(i) for i in range(150, 200)] + rows[::-1]}.items():
        run(DataConfig(file=jsonl(tmp_path / f"{turn}.jsonl", content), **options), tmp_path / turn)
        data = dataset.load(tmp_path / turn)
        split[turn] = {
            json.dumps(content[int(number) - 1]): part for part in dataset.SPLITS for number in data.split(part).rows
        }
    assert all(split["after"][row] == part for row, part in split["before"].items())


def test_cleaning_a_corpus_of_tags(tmp_path: Path) -> None:
    rows = [{"tokens": [f"W{i}", "<br>", "\u200bx"], "tags": ["A", "B", "C"]} for i in range(60)]
    config = DataConfig(
        file=jsonl(tmp_path / "a.jsonl", rows), task="token-classification", clean=["html", "control", "lowercase"]
    )
    run(config, tmp_path / "out")
    split = dataset.load(tmp_path / "out").train
    assert all(tokens[-1] == "x" and tags[-1] == "C" for tokens, tags in _rows(split))
    assert all(len(tokens) == len(tags) == 2 for tokens, tags in _rows(split))


def _rows(split: Any) -> list[Any]:
    return list(zip(split.columns["tokens"], split.columns["tags"], strict=True))


# ------------------------------------------------------------------------------------------------------ group and time


def members(folder: Path) -> dict[int, str]:
    data = dataset.load(folder)
    return {int(row): part for part in dataset.SPLITS for row in data.split(part).rows}


def test_a_group_stays_in_one_split(tmp_path: Path) -> None:
    rows = [{"text": f"text {i}", "label": "ab"[i % 2], "who": f"user {i % 40}"} for i in range(400)]
    run(DataConfig(file=jsonl(tmp_path / "a.jsonl", rows), group_column="who"), tmp_path / "out")
    of_group: dict[str, set[str]] = {}
    for row, part in members(tmp_path / "out").items():
        of_group.setdefault(rows[row - 1]["who"], set()).add(part)
    assert all(len(parts) == 1 for parts in of_group.values())
    assert set.union(*of_group.values()) == set(dataset.SPLITS)


def test_a_group_of_an_own_test_file_leaves_training(tmp_path: Path) -> None:
    rows = [{"text": f"text {i}", "label": "ab"[i % 2], "who": i % 40} for i in range(400)]
    own = jsonl(tmp_path / "test.jsonl", [{"text": f"new {i}", "label": "ab"[i % 2], "who": 7} for i in range(4)])
    config = DataConfig(file=jsonl(tmp_path / "a.jsonl", rows), test_file=own, group_column="who")
    found = run(config, tmp_path / "out").metrics["leaks"]
    assert found["total"] == 10
    assert all((row - 1) % 40 != 7 for row, part in members(tmp_path / "out").items() if part != "test")


@pytest.mark.parametrize("stamp", ["number", "date"])
def test_the_latest_rows_are_the_test(stamp: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def when(i: int) -> int | str:
        return i if stamp == "number" else f"20{10 + i // 12:02d}-{i % 12 + 1:02d}-01"

    rows = [{"text": f"text {i}", "label": "ab"[i % 2], "at": when(i)} for i in range(200)]
    rows = [rows[i] for i in np.random.default_rng(0).permutation(200)]
    path = jsonl(tmp_path / "a.jsonl", rows)
    found = run(DataConfig(file=path, time_column="at"), tmp_path / "out").metrics
    assert found["rows"] == {"train": 160, "validation": 20, "test": 20, "unlabelled": 0}
    part = {rows[row - 1]["at"]: name for row, name in members(tmp_path / "out").items()}
    in_order = [part[when(i)] for i in range(200)]
    assert in_order == ["train"] * 160 + ["validation"] * 20 + ["test"] * 20
    said = capsys.readouterr().err
    assert "data: test begins at " in said
    assert "data.test_from keeps it there" in said


def test_a_time_that_the_recipe_names_holds_when_rows_come(tmp_path: Path) -> None:
    rows = [{"text": f"text {i}", "label": "ab"[i % 2], "at": f"2024-01-01T00:{i % 60:02d}:00"} for i in range(240)]
    named: dict[str, Any] = {
        "validation_from": "2024-01-01T00:40",
        "test_from": "2024-01-01T00:50",
        "time_column": "at",
    }
    run(DataConfig(file=jsonl(tmp_path / "a.jsonl", rows[:180]), **named), tmp_path / "a")
    run(DataConfig(file=jsonl(tmp_path / "b.jsonl", rows), **named), tmp_path / "b")
    before, after = members(tmp_path / "a"), members(tmp_path / "b")
    assert all(after[row] == part for row, part in before.items())
    assert before[51] == "test"
    assert before[50] == before[41] == "validation"


def test_times_that_cannot_be_read(tmp_path: Path) -> None:
    rows = [{"text": f"text {i}", "label": "ab"[i % 2], "at": "soon" if i == 3 else i} for i in range(60)]
    path = jsonl(tmp_path / "a.jsonl", rows)
    with pytest.raises(DataError, match=r"a time that is neither a number nor ISO 8601 in row 4 \(line 4\)"):
        run(DataConfig(file=path, time_column="at"), tmp_path / "out")
    found = run(DataConfig(file=path, time_column="at", skip_bad_rows=True), tmp_path / "out").metrics
    assert sum(found["rows"].values()) == 59
    with pytest.raises(DataError, match="column 'when' is missing"):
        run(DataConfig(file=path, time_column="when"), tmp_path / "other")
    with pytest.raises(DataError, match=r"data\.test_from=never: a time that is neither"):
        run(DataConfig(file=path, time_column="at", test_from="never", skip_bad_rows=True), tmp_path / "third")
    config = DataConfig(file=path, time_column="at", test_from="40", validation_from="50", skip_bad_rows=True)
    with pytest.raises(DataError, match=r"data\.validation_from 50 is not before data\.test_from 40"):
        run(config, tmp_path / "fourth")


def test_a_border_that_leaves_no_row_or_is_of_another_kind(tmp_path: Path) -> None:
    rows = [{"text": f"text {i}", "label": "ab"[i % 2], "at": f"2024-01-{i % 28 + 1:02d}"} for i in range(60)]
    path = jsonl(tmp_path / "a.jsonl", rows)
    with pytest.raises(DataError, match=r"data\.test_from=2024 is a number, and the times of .* are dates"):
        run(DataConfig(file=path, time_column="at", test_from=2024), tmp_path / "out")
    with pytest.raises(DataError, match="no row lies before the test, which begins at 2020-01-01"):
        run(DataConfig(file=path, time_column="at", test_from="2020-01-01"), tmp_path / "out")

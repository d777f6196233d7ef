"""Rows of an update: old ones first and as they were, new ones behind them and nowhere twice."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support import up_and_down, write_csv

from edgeft.data import merge
from edgeft.data.clean.overlap import leaks
from edgeft.data.dataset import SPLITS, Dataset, load
from edgeft.data.prepare import run as prepare
from edgeft.data.read import sources
from edgeft.errors import DataError
from edgeft.recipe import DataConfig

Pairs = list[tuple[str, str]]
ROWS = up_and_down()
OLD, NEW = ROWS[:216], ROWS[216:]
SHARES: dict[str, Any] = {"validation_fraction": 0.2, "test_fraction": 0.2, "seed": 0}


def config(file: Path, **more: Any) -> DataConfig:
    return DataConfig(file=str(file), **{**SHARES, **more})


@pytest.fixture
def old(tmp_path: Path) -> Path:
    chosen = config(write_csv(tmp_path / "old.csv", OLD, ("text", "label")))
    prepare(chosen, sources.local_files(chosen), tmp_path / "old")
    return tmp_path / "old"


@pytest.fixture
def update(tmp_path: Path, old: Path) -> Callable[..., tuple[Dataset, dict[str, Any]]]:
    """Merge new rows into a folder: the dataset and the metrics."""

    def call(rows: Pairs, name: str = "both", earlier: Path = old, **more: Any) -> tuple[Dataset, dict[str, Any]]:
        chosen = config(write_csv(tmp_path / f"{name}.csv", rows, ("text", "label")), **more)
        inputs = {**sources.local_files(chosen), "earlier": earlier}
        metrics = prepare(chosen, inputs, tmp_path / name).metrics
        return load(tmp_path / name), metrics

    return call


def test_old_rows_stand_first_as_they_were_and_new_ones_behind_them(
    old: Path, update: Callable[..., Any], tmp_path: Path
) -> None:
    before = load(old)
    both, metrics = update(NEW)
    counts = merge.earlier_rows(tmp_path / "both")
    assert counts == {name: len(before.split(name)) for name in SPLITS}
    assert merge.earlier_rows(old) is None
    for name in SPLITS:
        split, own = both.split(name), before.split(name)
        assert split.texts[: len(own)] == own.texts
        assert split.labels[: len(own)].tolist() == own.labels.tolist()
        assert set(split.files[: len(own)]) == {"old.csv"}
        assert set(split.files[len(own) :]) == {"both.csv"}
        new = split.take(range(len(own), len(split)))
        assert [(NEW[row - 1][0]) for row in new.rows] == new.texts
        assert metrics["update"][name] == {"old": len(own), "new": len(new)}
    assert sum(len(both.split(name)) for name in SPLITS) == len(ROWS)
    assert both.labels == before.labels == ["down", "up"]


def test_no_text_stands_in_two_splits(update: Callable[..., Any]) -> None:
    both, _ = update(NEW)
    rows = {name: merge._rows(both, name, DataConfig()) for name in SPLITS}
    for name in SPLITS:
        for other in SPLITS:
            assert name == other or not len(leaks(rows[name], rows[other])[0])


def test_rows_that_the_run_has_are_dropped_whatever_their_label(old: Path, update: Callable[..., Any]) -> None:
    text, label = OLD[0]
    wrong = "up" if label == "down" else "down"
    both, metrics = update([*NEW, OLD[5], (f" {text} ", wrong)])
    assert metrics["removed"] == {merge.KNOWN: 1, merge.OTHER: 1}
    everything = [pair for name in SPLITS for pair in zip(both.split(name).texts, both.split(name).labels, strict=True)]
    assert len(everything) == len(ROWS)
    assert [both.labels[place] for found, place in everything if found == text] == [label]


def test_other_fractions_move_no_old_row_and_leak_none(old: Path, update: Callable[..., Any]) -> None:
    both, _ = update([*NEW, *OLD], test_fraction=0.5)
    texts = [text for name in SPLITS for text in both.split(name).texts]
    assert len(texts) == len(set(texts)) == len(ROWS)
    assert both.test.texts[: len(load(old).test)] == load(old).test.texts


def test_new_rows_of_one_label_are_enough(update: Callable[..., Any]) -> None:
    both, metrics = update([row for row in NEW if row[1] == "up"], balance="class_weights")
    counts = np.bincount(both.train.labels)
    assert counts[1] > counts[0]
    np.testing.assert_allclose(both.class_weights, len(both.train) / (2 * counts))
    assert metrics["labels"]["up"]["train"] == counts[1]


def test_a_second_update_counts_all_rows_of_the_first_as_old(update: Callable[..., Any], tmp_path: Path) -> None:
    first, _ = update(NEW[:100], name="first")
    second, metrics = update(NEW[50:], name="second", earlier=tmp_path / "first")
    assert merge.earlier_rows(tmp_path / "second") == {name: len(first.split(name)) for name in SPLITS}
    assert metrics["removed"] == {merge.KNOWN: 50}
    assert set(second.train.files) == {"old.csv", "first.csv", "second.csv"}


def test_rows_cut_off_stay_as_unlabelled_text_once(old: Path, update: Callable[..., Any], tmp_path: Path) -> None:
    first, _ = update(NEW[:150], name="first", max_train_rows=20)
    assert first.unlabelled
    second, _ = update([(first.unlabelled[0], "up"), *NEW[150:]], name="second", earlier=tmp_path / "first")
    labelled = {text for name in SPLITS for text in second.split(name).texts}
    assert first.unlabelled[0] in labelled
    assert second.unlabelled == first.unlabelled[1:]


def test_near_duplicates_of_old_rows_go_where_the_recipe_says_so(tmp_path: Path) -> None:
    text = "an honest film that takes its time and finds its people with great care and warmth in the rain"
    more: dict[str, Any] = {"clean": ["near_duplicates"], "near_duplicate_similarity": 0.9}
    chosen = config(write_csv(tmp_path / "old.csv", [(f"{text} 1", "up"), *OLD], ("text", "label")), **more)
    prepare(chosen, sources.local_files(chosen), tmp_path / "old")
    new = [(f"{text} 2", "up"), *[(f"{'abcdefghij'[i]}{i} entirely other words {i * 7919}", "up") for i in range(10)]]
    after = config(write_csv(tmp_path / "new.csv", new, ("text", "label")), **more)
    done = prepare(after, {**sources.local_files(after), "earlier": tmp_path / "old"}, tmp_path / "both")
    assert done.metrics["removed"][merge.NEAR] == 1
    made = load(tmp_path / "both")
    assert not any(f"{text} 2" in made.split(name).texts for name in SPLITS)


@pytest.mark.parametrize(
    ("rows", "more", "message"),
    [
        ([*NEW, ("so so", "meh")], {}, r"label 'meh' \(row 217.*\).*those are down, up; an update learns no new label"),
        (OLD[:7], {}, r"new.csv: all 7 rows stand in the earlier run already; there is nothing new"),
        (NEW, {"clean": ["lowercase"]}, r"data.clean, data.anonymise: the new rows would be cleaned in another way"),
        (NEW, {"multi_label": True}, r"new.csv: multi-label rows, but the earlier run has single-label rows"),
    ],
)
def test_rows_that_no_update_can_take(
    rows: Pairs, more: dict[str, Any], message: str, old: Path, update: Callable[..., Any], tmp_path: Path
) -> None:
    with pytest.raises(DataError, match=message) as caught:
        update(rows, name="new", **more)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "new").exists()


def test_counts_that_are_none_are_named(old: Path) -> None:
    (old / merge.EARLIER).write_text("[]")
    with pytest.raises(DataError, match=r"earlier.json: not the counts of an update"):
        merge.earlier_rows(old)


@pytest.mark.parametrize("kind", ["multi-label", "regression", "tokens", "squad"])
def test_rows_of_any_form_are_merged(kind: str, tmp_path: Path) -> None:
    options: dict[str, dict[str, Any]] = {
        "multi-label": {"multi_label": True, "label_column": "labels"},
        "regression": {"task": "text-regression"},
        "tokens": {"task": "token-classification"},
        "squad": {"task": "question-answering"},
    }

    def row(number: int) -> dict[str, Any]:
        text = f"words that say {number * 7919} things of {number}"
        forms: dict[str, dict[str, Any]] = {
            "multi-label": {"text": text, "labels": ["a", "b"][: number % 3]},
            "regression": {"text": text, "target": number / 7},
            "tokens": {"tokens": text.split(), "tags": ["X", "Y", "X", "Y", "X", "X", "Y"]},
            "squad": {"question": "how many?", "context": text, "answers": {"text": ["words"], "answer_start": [0]}},
        }
        return forms[kind]

    files = {}
    for name, numbers in (("old", range(60)), ("new", range(50, 120))):
        files[name] = tmp_path / f"{name}.jsonl"
        files[name].write_text("".join(json.dumps(row(number)) + "\n" for number in numbers))
    before, after = (config(file, **options[kind]) for file in files.values())
    prepare(before, sources.local_files(before), tmp_path / "old")
    done = prepare(after, {**sources.local_files(after), "earlier": tmp_path / "old"}, tmp_path / "both")
    assert sum(done.metrics["rows"].values()) == 120
    made, old = load(tmp_path / "both"), load(tmp_path / "old")
    assert made.kind == old.kind
    for name in SPLITS:
        for column, cells in old.split(name).columns.items():
            assert made.split(name).columns[column][: len(cells)] == cells


def test_a_slice_column_that_one_side_lacks_is_kept(old: Path, tmp_path: Path) -> None:
    rows = [(text, label, "north") for text, label in NEW]
    file = write_csv(tmp_path / "new.csv", rows, ("text", "label", "region"))
    chosen = config(file, slice_columns=["region"])
    prepare(chosen, {**sources.local_files(chosen), "earlier": old}, tmp_path / "both")
    before, both = len(load(old).test), load(tmp_path / "both").test.slices["region"]
    assert both[:before] == [None] * before
    assert set(both[before:]) == {"north"}

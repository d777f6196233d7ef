"""Cleaning as the stage does it: counted, previewed, and rows that stand twice taken out."""

from __future__ import annotations

import json
import random
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow.parquet
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support_rows import Raw, Write, make_rows

from edgeft.cleaning import Cleaning
from edgeft.cleaning.steps import STEPS
from edgeft.data import dataset, prepare
from edgeft.data.clean import clean
from edgeft.data.clean.clean import Counts
from edgeft.data.clean.near import jaccard
from edgeft.data.clean.overlap import Removed
from edgeft.data.read import sources
from edgeft.data.split.splits import LEAKS, Parts
from edgeft.errors import DataError, RecipeError
from edgeft.recipe import DataConfig
from edgeft.stage_folder import StageResult


def run(config: DataConfig, out: Path) -> StageResult:
    return prepare.run(config, sources.local_files(config), out)


def removed_rows(folder: Path) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = pyarrow.parquet.read_table(folder / prepare.REMOVED).to_pylist()
    return rows


LONG = "a sentence with the number {} that is long enough to have many five-grams of its own, and an end"


def texts(count: int) -> list[str]:
    """Texts that are no near duplicates of one another."""
    rng = random.Random(0)
    letters = "abcdefghijklmnopqrstuvwxyz"
    return [" ".join("".join(rng.choices(letters, k=6)) for _ in range(8)) for _ in range(count)]


# --------------------------------------------------------------------------------------------------------------- texts


def test_steps_run_in_one_order_and_are_counted() -> None:
    config = DataConfig(clean=["lowercase", "whitespace", "html"])
    cleaning = clean.cleaning_of(config)
    assert cleaning == Cleaning(steps=["html", "whitespace", "lowercase"])
    rows, counts, removed = (
        make_rows({"text": ["A  <b>b</b>", "fine", "<p>"], "label": list("xyx")}),
        Counts(),
        Removed(),
    )
    found = clean.clean_texts(rows, cleaning, counts, removed)
    assert found.columns["text"] == ["a b", "fine"]
    assert counts.changed["lowercase"] == 1
    assert counts.changed["html"] == 2
    assert (removed.reason, removed.row) == ([clean.EMPTY], [("a.csv", 3)])


def test_personal_data_is_counted_and_not_quoted(
    write: Write, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pairs = [(f"{text} me{i}@example.org", "ab"[i % 2]) for i, text in enumerate(texts(60))]
    out = tmp_path / "out"
    result = run(DataConfig(file=write("a.csv", pairs), anonymise=True), out)
    assert result.metrics["cleaning"]["personal"] == {"email": 60}
    assert all("[EMAIL_1]" in text for text in dataset.load(out).train.texts)
    everything = capsys.readouterr().err + (out / "stage.json").read_text()
    assert "example.org" not in everything
    assert dataset.load(out).cleaning.anonymise == clean.cleaning_of(DataConfig(anonymise=True)).anonymise


def test_a_preview_shows_before_and_after_and_the_step() -> None:
    rows = make_rows({"text": ["fine", "a  b", "<i>"], "label": list("xyx")})
    found = clean.preview(rows, Cleaning(steps=["html", "whitespace"]), 5)
    assert [(change.row, change.before, change.after) for change in found] == [
        (2, "a  b", "a b"),
        (3, "<i>", "(taken out: nothing is left)"),
    ]
    assert [change.steps for change in found] == [["whitespace"], ["html"]]
    assert len(clean.preview(rows, Cleaning(steps=["html", "whitespace"]), 1)) == 1


@settings(max_examples=30, deadline=None)
@given(st.lists(st.text(alphabet=st.characters(exclude_categories=["Cs"]), min_size=1), min_size=1, max_size=8))
def test_cleaning_never_joins_or_splits_rows(found: list[str]) -> None:
    usable = [text for text in found if text.strip()] or ["x"]
    rows = make_rows({"text": usable, "label": ["x"] * len(usable)})
    removed = Removed()
    cleaned = clean.clean_texts(rows, Cleaning(steps=list(STEPS)), Counts(), removed)
    assert sorted([row for _, row in removed.row] + cleaned.rows.tolist()) == list(range(1, len(usable) + 1))


# ---------------------------------------------------------------------------------------------------------------- rows


def test_duplicates_and_conflicts_go_where_the_recipe_says_so(write: Write, tmp_path: Path) -> None:
    base = texts(40)
    pairs = [(text, "ab"[i % 2]) for i, text in enumerate(base)]
    pairs += [(f" {base[0]} ", "a"), (base[2], "b")]
    path = write("a.csv", pairs)
    kept = run(DataConfig(file=path), tmp_path / "kept").metrics
    assert (kept["duplicates"], kept["conflicts"], sum(kept["rows"].values())) == (1, 1, 42)
    assert not (tmp_path / "kept" / prepare.REMOVED).exists()
    taken = run(DataConfig(file=path, clean=["duplicates", "conflicts"]), tmp_path / "taken").metrics
    assert taken["removed"] == {"duplicate": 1, "conflict": 2}
    assert sum(taken["rows"].values()) == 39
    rows = removed_rows(tmp_path / "taken")
    assert rows[-1] == {"file": "a.csv", "row": 41, "reason": "duplicate", "other_file": "a.csv", "other_row": 1}
    assert [row["row"] for row in rows[:-1]] == [3, 42]


def test_near_duplicates_leave_training_and_the_test_wins(write: Write, tmp_path: Path) -> None:
    base = texts(60)
    own = write("test.csv", [(base[0] + " indeed", "a"), ("alone in the world", "b")])
    pairs = [(text, "ab"[i % 2]) for i, text in enumerate([*base, base[1] + "!", base[2].upper()])]
    config = DataConfig(file=write("a.csv", pairs), test_file=own, clean=["near_duplicates"])
    found = run(config, tmp_path / "out").metrics
    assert found["near_duplicates"]["train_in_test"] == 1
    assert sum(found["removed"].values()) == 3
    reasons = {row["reason"]: row for row in removed_rows(tmp_path / "out")}
    leak = reasons["near leak:train_in_test"]
    assert (leak["row"], leak["other_file"]) == (1, "test.csv")
    without = run(DataConfig(file=config.file, test_file=own), tmp_path / "without").metrics
    assert without["near_duplicates"] == found["near_duplicates"]
    assert without["removed"] == {}


def test_every_exact_leak_is_found_with_its_row(write: Write, tmp_path: Path) -> None:
    base = texts(100)
    own = write("test.csv", [(text, "ab"[i % 2]) for i, text in enumerate(base[:50])])
    path = write("a.csv", [(text, "ab"[i % 2]) for i, text in enumerate(base)])
    found = run(DataConfig(file=path, test_file=own), tmp_path / "out").metrics["leaks"]
    assert found["train_in_test"] + found["validation_in_test"] == found["total"] == 50
    rows = removed_rows(tmp_path / "out")
    assert sorted(row["row"] for row in rows) == list(range(1, 51))
    assert all(row["other_row"] == row["row"] for row in rows)


# ------------------------------------------------------------------------------------------------------------- balance


def test_balance(write: Write, tmp_path: Path) -> None:
    pairs = [(text, "a" if i % 4 else "b") for i, text in enumerate(texts(200))]
    path = write("a.csv", pairs)
    plain = run(DataConfig(file=path), tmp_path / "plain").metrics["labels"]
    rare, many = plain["b"]["train"], plain["a"]["train"]
    counts: dict[Literal["oversample", "undersample"], tuple[int, int]]
    counts = {"oversample": (many, many), "undersample": (rare, rare)}
    for balance, expected in counts.items():
        found = run(DataConfig(file=path, balance=balance), tmp_path / balance).metrics["labels"]
        assert (found["a"]["train"], found["b"]["train"]) == expected
        assert found["a"]["test"] == plain["a"]["test"]
    run(DataConfig(file=path, balance="class_weights"), tmp_path / "weights")
    weights = dataset.load(tmp_path / "weights").class_weights
    assert weights == pytest.approx([(rare + many) / (2 * many), (rare + many) / (2 * rare)])


def test_oversampling_repeats_every_rare_row() -> None:
    rows = make_rows({"text": ["a", "b", "c", "d", "e"], "label": list("xxxxy")})
    from edgeft.data.split.balance import resample

    found = resample(rows, "oversample")
    assert sorted(found.columns["text"]) == ["a", "b", "c", "d", "e", "e", "e", "e"]


def test_balance_that_rows_cannot_take(raw: Raw, tmp_path: Path) -> None:
    path = raw("a.csv", b"text,target\n" + b"".join(b"text %d,%d\n" % (i, i) for i in range(60)))
    config = DataConfig(file=path, task="text-regression", balance="oversample")
    with pytest.raises(RecipeError, match=r"data\.balance: oversample is for single-label rows, and these are"):
        run(config, tmp_path / "out")


def test_multi_label_weights_by_hand() -> None:
    from edgeft.data.split.balance import class_weights

    rows = make_rows({"text": list("abcd"), "label": [["x"], ["x", "y"], ["x"], []]}, multi_label=True)
    assert class_weights(rows, ["x", "y"]) == [1 / 3, 3.0]
    every = make_rows({"text": list("ab"), "label": [["x"], ["x"]]}, multi_label=True)
    assert class_weights(every, ["x"]) == [0.5]  # as if one row didn't have it


def test_label_ids_of_several_labels(raw: Raw, tmp_path: Path) -> None:
    lines = b"".join(b'{"text": "text %d", "label": [%s]}\n' % (i, (b'"x"', b'"x", "y"')[i % 2]) for i in range(80))
    config = DataConfig(file=raw("a.jsonl", lines), multi_label=True)
    run(config, tmp_path / "out")
    split = dataset.load(tmp_path / "out").train
    assert split.labels.dtype == np.float32
    assert split.labels.tolist() == [[1.0, float("y" in labels)] for labels in split.columns["labels"]]


# ---------------------------------------------------------------------------------------- rows of several texts, groups


def jsonl(path: Path, rows: Iterable[dict[str, Any]]) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def test_chats_that_begin_with_the_same_instructions_are_no_near_duplicates(tmp_path: Path) -> None:
    system = {"role": "system", "content": "You are a helpful assistant of a shop. " * 5}
    chats = [
        {"messages": [system, {"role": "user", "content": text}, {"role": "assistant", "content": text[::-1]}]}
        for text in texts(120)
    ]
    config = DataConfig(
        file=jsonl(tmp_path / "a.jsonl", chats), task="text-generation", clean=["near_duplicates", "duplicates"]
    )
    found = run(config, tmp_path / "out").metrics
    assert set(found["near_duplicates"].values()) == {0}
    assert sum(found["rows"].values()) == 120


def test_questions_about_nearly_equal_contexts_are_held_apart_between_splits_only(tmp_path: Path) -> None:
    rows = [
        {"question": f"{question}?", "context": f"{context}{more}", "answers": {"text": [], "answer_start": []}}
        for number, context in enumerate(texts(60))
        for more in ("", " indeed")
        for question in texts(300)[number * 5 : number * 5 + 2]
    ]
    path = jsonl(tmp_path / "a.jsonl", rows)
    config = DataConfig(file=path, task="question-answering", clean=["near_duplicates"])
    found = run(config, tmp_path / "out").metrics
    assert "train" not in found["near_duplicates"]
    assert found["near_duplicates"]["train_in_test"] > 0
    assert set(found["removed"]) <= {f"near leak:{leak}" for leak in LEAKS}
    data = dataset.load(tmp_path / "out")
    held_out = {context.removesuffix(" indeed") for context in data.test.columns["context"]}
    assert not held_out & {context.removesuffix(" indeed") for context in data.train.columns["context"]}


@pytest.mark.parametrize("seed", range(3))
def test_duplicates_of_other_groups_move_no_row(seed: int, tmp_path: Path) -> None:
    base = texts(200)
    rows = [{"text": text, "label": "ab"[i % 2], "who": f"g{i % 30}"} for i, text in enumerate(base)]
    rows += [{**row, "who": f"g{29 - i % 30}"} for i, row in enumerate(rows[:80])]
    shuffled = random.Random(seed).sample(rows, len(rows))
    where = {}
    for name, content in {"one": rows, "two": shuffled}.items():
        config = DataConfig(file=jsonl(tmp_path / f"{name}.jsonl", content), group_column="who", clean=["duplicates"])
        run(config, tmp_path / name)
        data = dataset.load(tmp_path / name)
        where[name] = {text: split for split in dataset.SPLITS for text in data.split(split).texts}
    assert where["one"] == where["two"]


def test_a_row_is_not_taken_out_because_of_one_that_is_gone() -> None:
    """T is like V and V like X, but X is not like T: V leaves validation, and X may stay."""
    words = texts(1)[0].split()
    t, v, x = (" ".join(words[i:] + ["different", "endings"][: 1 + i // 2] * i) for i in range(3))
    rows = {name: make_rows({"text": [text], "label": ["a"]}) for name, text in (("t", t), ("v", v), ("x", x))}
    alike = DataConfig(clean=["near_duplicates"], near_duplicate_similarity=0.6)
    assert jaccard(t, v) >= 0.6 <= jaccard(v, x)
    assert jaccard(t, x) < 0.6
    parts = Parts(["a"], rows["x"], rows["v"], rows["t"], rows["t"].pick([]), Removed())
    found = clean.near_duplicates(parts, alike)
    assert found["validation_in_test"] == 1
    assert (len(parts.validation), len(parts.train)) == (0, 1)


def test_what_was_replaced_is_counted_once(tmp_path: Path) -> None:
    rows: list[dict[str, Any]]
    rows = [{"tokens": [f"write{i}", f"me{i}@x.com", "!"], "tags": ["A", "B", "C"]} for i in range(60)]
    config = DataConfig(file=jsonl(tmp_path / "a.jsonl", rows), task="token-classification", anonymise=True)
    assert run(config, tmp_path / "out").metrics["cleaning"]["personal"] == {"email": 60}
    rows = [{"text": f"{text} a&#64;x.com", "label": "ab"[i % 2]} for i, text in enumerate(texts(60))]
    config = DataConfig(file=jsonl(tmp_path / "b.jsonl", rows), anonymise=True, clean=["html", "urls"])
    found = run(config, tmp_path / "hidden").metrics["cleaning"]
    assert found == {"changed": {"html": 60, "urls": 0}, "personal": {"email": 60}}


# ------------------------------------------------------------------------------------------------- nothing left


@pytest.mark.parametrize(
    ("options", "rows", "expected"),
    [
        ({"skip_bad_rows": True}, [(" ", "a"), ("x", "")], "none of 2 rows is left: none can be used"),
        (
            {"clean": ["html"]},
            [("<p>", "a"), ("<b>", "b")],
            "none of 2 rows is left: cleaning left none",
        ),
        ({"clean": ["conflicts"]}, [("x", "a"), ("x", "b")], "none of 2 rows is left: each contradicts another"),
    ],
)
def test_a_file_of_which_nothing_is_left(
    options: dict[str, Any], rows: list[tuple[str, str]], expected: str, write: Write, tmp_path: Path
) -> None:
    with pytest.raises(DataError, match=expected):
        run(DataConfig(file=write("a.csv", rows), **options), tmp_path / "out")


def test_a_label_column_that_is_free_text_is_not_quoted(write: Write, tmp_path: Path) -> None:
    pairs = [("a", f"{text} me{i}@example.org") for i, text in enumerate(texts(90))]
    with pytest.raises(
        DataError, match="90 different labels in 90 rows: the label column looks like free text"
    ) as caught:
        run(DataConfig(file=write("a.csv", pairs)), tmp_path / "out")
    assert "example" not in str(caught.value)


def test_several_labels_in_a_cell_get_a_hint(write: Write, tmp_path: Path) -> None:
    pairs = [(text, f"x{i}|y{i % 3}") for i, text in enumerate(texts(30))]
    with pytest.raises(DataError, match=r"--set data\.multi_label=true --set 'data\.label_delimiter=\"\|\"'"):
        run(DataConfig(file=write("a.csv", pairs)), tmp_path / "out")


def test_a_rare_tag_without_training_row_is_a_warning(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = [{"tokens": [f"w{i}", "x"], "tags": ["A", "B"]} for i in range(60)]
    rare = [{"tokens": ["odd"], "tags": ["RARE"]}]
    path, own = jsonl(tmp_path / "a.jsonl", rows + rare), jsonl(tmp_path / "t.jsonl", rare)
    run(DataConfig(file=path, test_file=own, task="token-classification"), tmp_path / "out")
    assert "data: warning: no training row has the tag 'RARE'" in capsys.readouterr().err

"""The profile: every planted problem is found in its rows, nothing is quoted, bounded work says what it looked at."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgeft.data import cited, prepare
from edgeft.data.formats import stored_kind
from edgeft.data.formats.rows import Rows
from edgeft.data.profile import lengths, profile_report, recommendations, scan, targets
from edgeft.data.profile.lengths import Counting
from edgeft.data.profile.profile import profile
from edgeft.errors import DataError, missing_extra
from edgeft.recipe import DataConfig
from edgeft.report import page

WORDS = {
    "billing": ["invoice", "charge", "refund", "payment", "card", "fee", "amount", "price"],
    "technical": ["crash", "error", "screen", "update", "login", "bug", "device", "slow"],
}
COMMON = ["the", "my", "was", "please", "help", "with", "about", "again", "today", "and", "very", "much"]
SECRETS = ("ada@example.com", "bob@example.com", "555-0132", "cafÃ©")


def sentence(label: str, generator: random.Random) -> str:
    words = [generator.choice(WORDS[label] if generator.random() < 0.5 else COMMON) for _ in range(12)]
    return " ".join(words)


def tickets() -> list[tuple[str, str]]:
    """120 rows with planted problems: rows 101-103 repeat 1-3, 104 contradicts 4, 105 nearly repeats 5."""
    generator = random.Random(0)
    rows = [(sentence(label, generator), label) for _ in range(50) for label in ("billing", "technical")]
    rows += rows[:3]
    rows.append((rows[3][0], "billing" if rows[3][1] == "technical" else "technical"))
    rows.append((rows[4][0] + " ok", rows[4][1]))
    rows.append((sentence("billing", generator) + " cafÃ©", "billing"))
    rows.append((f"<p>{sentence('billing', generator)}</p>", "billing"))
    rows += [(f"{sentence('billing', generator)} {name}@example.com", "billing") for name in ("ada", "bob")]
    rows.append((f"{sentence('technical', generator)} call (415) 555-0132", "technical"))
    rows.append((" ".join(sentence("billing", generator) for _ in range(40)), "billing"))
    rows += [(sentence(label, generator), label) for label in ("billing", "technical")]
    rows += [("", "billing"), ("no label here", "")]
    return rows


def config(write: Callable[..., str], **options: Any) -> DataConfig:
    return DataConfig(file=write("tickets.csv", tickets()), **options)


def numbers(found: dict[str, Any]) -> list[int]:
    return [row["row"] for row in found["rows"]]


@pytest.fixture
def found(write: Callable[..., str]) -> dict[str, Any]:
    return profile(config(write), judged=0)


def test_planted_problems_are_found_in_their_rows(found: dict[str, Any]) -> None:
    assert found["rows"]["total"] == 113
    assert {why: numbers(rows) for why, rows in found["rows"]["skipped"].items()} == {
        "an empty text": [114],
        "no label": [115],
    }
    assert [(row["row"], row["other_row"]) for row in found["duplicates"]["rows"]] == [(101, 1), (102, 2), (103, 3)]
    assert (found["conflicts"]["inputs"], numbers(found["conflicts"])) == (1, [4, 104])
    near = [
        {row["row"], row["other_row"]} for part in found["near_duplicates"]["found"].values() for row in part["rows"]
    ]
    assert near == [{5, 105}]
    texts = found["texts"]
    assert numbers(texts["would_change"]["unicode"]) == [106]
    assert numbers(texts["would_change"]["html"]) == [107]
    assert {kind: numbers(rows) for kind, rows in texts["personal"].items()} == {"email": [108, 109], "phone": [110]}
    assert numbers(texts["far_longer"]) == [111]
    assert found["languages"]["shares"]["en"] > 0.5
    assert sum(found["splits"]["rows"].values()) == 113


def test_nothing_is_quoted(found: dict[str, Any]) -> None:
    document = json.dumps(found, ensure_ascii=False)
    assert not any(secret in document for secret in SECRETS)
    assert "invoice" not in document


def test_what_to_do_names_the_options_that_are_not_set(found: dict[str, Any], write: Callable[..., str]) -> None:
    assert recommendations.settings(found["todo"]) == {
        "data.skip_bad_rows": True,
        "data.clean": ["duplicates", "conflicts", "near_duplicates", "unicode", "html", "whitespace"],
        "data.anonymise": True,
    }
    assert found["todo"][0]["level"] == "must"
    steps: Any = ["duplicates", "conflicts", "near_duplicates", "unicode", "html", "whitespace"]
    cleaned = profile(config(write, skip_bad_rows=True, anonymise=True, clean=steps), judged=0)
    assert recommendations.settings(cleaned["todo"]) == {}
    assert cleaned["cleaning"]["changed"] == {"unicode": 1, "html": 1, "whitespace": 1}
    assert cleaned["cleaning"]["replaced"] == {"email": 2, "phone": 1}
    assert cleaned["texts"]["personal"] == {}


def test_wrong_labels_are_suggested_otherwise(write: Callable[..., str]) -> None:
    generator = random.Random(1)
    rows = [(sentence(label, generator), label) for _ in range(100) for label in ("billing", "technical")]
    rows[10] = (rows[10][0], "technical")
    errors = profile(DataConfig(file=write("a.csv", rows)))["label_errors"]
    assert {"row": 11, "given": "technical", "suggested": "billing"}.items() <= errors["rows"][0].items()
    assert (errors["judged"], errors["of"]) == (200, 200)
    assert sum(kind["rows"] for kind in errors["kinds"]) == errors["count"]
    some = profile(DataConfig(file=write("a.csv", rows)), judged=150)["label_errors"]
    assert (some["judged"], some["of"]) == (150, 200)


def test_leaks_between_the_users_files_are_found(write: Callable[..., str]) -> None:
    rows = [(text, label) for text, label in tickets()[:100]]
    own = write("test.csv", [*rows[6:8], ("a text of its own", "billing"), ("another such text", "technical")])
    found = profile(DataConfig(file=write("a.csv", rows), test_file=own), judged=0)
    assert [(row["row"], row["other_row"]) for row in found["leaks"]["train_in_test"]["rows"]] == [(7, 1), (8, 2)]
    assert [file["field"] for file in found["rows"]["files"]] == ["file", "test_file"]


def test_rows_that_the_data_stage_refuses_are_described_all_the_same(write: Callable[..., str]) -> None:
    found = profile(DataConfig(file=write("a.csv", [*tickets()[:60], ("one of its kind", "rare")])), judged=0)
    assert "'rare' has one row (row 61)" in found["splits"]["refused"]
    assert found["todo"][0]["level"] == "must"
    assert found["targets"]["labels"]["rare"]["rows"] == 1


@pytest.mark.parametrize(
    "options",
    [
        {"max_train_rows": 50},
        {"max_train_rows": 50, "max_eval_rows": 4},
        {"clean": ["duplicates", "conflicts", "near_duplicates"]},
        {"clean": ["conflicts", "html"], "anonymise": True, "test_fraction": 0.3},
    ],
)
def test_the_splits_are_those_of_the_data_stage(options: dict[str, Any], write: Callable[..., str]) -> None:
    chosen = config(write, skip_bad_rows=True, **options)
    found = profile(chosen, judged=0)["splits"]
    parts = prepare.prepare(chosen)[0]
    assert found["refused"] is None
    assert found["rows"] == {name: len(rows) for name, rows in parts.splits().items()}


def test_a_limit_that_is_refused_is_said(write: Callable[..., str]) -> None:
    found = profile(config(write, max_train_rows=1), judged=0)
    assert "max_train_rows 1 is less than the 2 labels" in found["splits"]["refused"]
    assert found["todo"][0]["level"] == "must"


def test_a_file_without_a_usable_row_is_one_line(write: Callable[..., str]) -> None:
    with pytest.raises(DataError, match=r"no row can be used; an empty text \(2 rows\)"):
        profile(DataConfig(file=write("a.csv", [("", "x"), (" ", "y")])))


def test_a_missing_package_is_a_note(write: Callable[..., str], monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(*_: Any) -> None:
        raise missing_extra("phonenumbers", "to find phone numbers")

    monkeypatch.setattr(scan, "check_region", absent)
    found = profile(config(write), judged=0)
    assert list(found["texts"]["personal"]) == ["email"]
    assert any("phonenumbers is not installed" in note for note in found["notes"])


# ------------------------------------------------------------------------------------------------------------- lengths


def test_lengths_by_hand() -> None:
    assert lengths.marks(["Hello, world!", "a"]) == [4, 1]
    assert lengths.smallest(np.array([10] * 98 + [40] * 2)) == 16  # cuts 2 of 100
    assert lengths.smallest(np.array([10] * 97 + [40] * 3)) == 64
    assert lengths.smallest(np.array([10] * 97 + [40] * 3), limit=40) == 40
    assert lengths.smallest(np.array([5000] * 10)) is None
    assert lengths.smallest(np.array([600] * 10), limit=512) is None


def test_a_histogram_counts_every_value() -> None:
    values = np.array([1, 2, 2, 3, 1000])
    made = lengths.histogram(values, bins=4)
    assert sum(made["counts"]) + made["beyond"] == 5
    assert len(made["edges"]) == len(made["counts"]) + 1
    assert sum(lengths.histogram(np.array([0.5]))["counts"]) == 1


@pytest.mark.parametrize("values", [[1e308, -1e308], [1.7e308] * 3, [-1.7e308], [5e-324, 0.0], [3e38, 1.0, -3e38]])
def test_a_histogram_of_any_numbers_counts_them(values: list[float]) -> None:
    made = lengths.histogram(np.array(values))
    assert sum(made["counts"]) + made["beyond"] == len(values)
    assert np.isfinite(made["edges"]).all()
    assert made["edges"] == sorted(made["edges"])


def test_targets_of_any_32_bits_have_a_profile_and_a_page(write: Callable[..., str]) -> None:
    path = write("a.csv", [(f"text {n}", str((-1) ** n * 3.4e38)) for n in range(40)])
    found = profile(DataConfig(file=path, task="text-regression", target_column="label"), judged=0)
    assert sum(found["targets"]["histogram"]["counts"]) == 40
    page.render(profile_report.report(found))


def test_a_tokenizer_counts_in_the_order_of_the_rows(write: Callable[..., str]) -> None:
    texts = [(f"{'a ' * (n + 1)}{n}", ("x", "y")[n % 2]) for n in range(40)]
    counting = Counting(lambda some: [len(text) for text in some], "tokens", "a test", 64)
    measured = profile(DataConfig(file=write("a.csv", texts)), counting, judged=0)["lengths"]
    longest = max(len(text) for text, _ in texts)
    assert (measured["parts"]["text"]["percentiles"]["max"], measured["limit"]) == (longest, 64)
    assert (measured["unit"], measured["counted_by"]) == ("tokens", "a test")


def test_huge_files_are_sampled_by_content(write: Callable[..., str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lengths, "SAMPLED", 20)
    monkeypatch.setattr(scan, "SCANNED", 30)
    found = profile(config(write), judged=0)
    assert (found["lengths"]["rows"], found["lengths"]["of"]) == (20, 113)
    assert (found["texts"]["rows"], found["texts"]["of"]) == (30, 113)


def test_a_sample_depends_on_content_alone() -> None:
    texts = [f"text {n}" for n in range(50)]
    chosen = {texts[i] for i in cited.sample(texts, 10)}
    backwards = texts[::-1]
    assert chosen == {backwards[i] for i in cited.sample(backwards, 10)}
    assert len(chosen) == 10


# ------------------------------------------------------------------------------------------------------------- targets


def rows_of(name: str, **columns: Any) -> Rows:
    count = len(next(iter(columns.values())))
    kind = stored_kind(name)
    return Rows(kind, columns, np.arange(1, count + 1), ["f"], np.zeros(count, dtype=np.int32))


def test_labels_and_their_imbalance() -> None:
    found = targets.describe(rows_of("single-label", text=["a"] * 4, label=["x", "x", "x", "y"]))
    assert found["labels"] == {"x": {"rows": 3, "share": 0.75}, "y": {"rows": 1, "share": 0.25}}
    assert found["imbalance"] == 3.0
    several = targets.describe(rows_of("multi-label", text=["a"] * 3, labels=[["x", "y"], ["x"], []]))
    assert several["labels_per_row"] == {"mean": 1.0, "max": 2}
    assert numbers(several["without_label"]) == [3]


def test_names_of_labels_are_short_without_personal_data_and_stay_apart() -> None:
    names = ["ada@example.com", "bob@example.com", "x" * 50, "x" * 60, "plain", "[EMAIL_1]"]
    rows = rows_of("single-label", text=["a"] * 6, label=names)
    made, many = targets.shown({"file": rows}, ["email"], "US")
    expected = ["[EMAIL_1]", "[EMAIL_1] (2)", "x" * 39 + "…", "x" * 39 + "… (2)", "plain", "[EMAIL_1] (3)"]
    assert (made["file"].columns["label"], many) == (expected, 0)
    tags = rows_of("tokens", tokens=[["a", "b"]], tags=[["B-ada@example.com", "O"]])
    assert targets.shown({"file": tags}, ["email"], "US")[0]["file"].columns["tags"][0][1] == "O"


@pytest.mark.parametrize(("labels", "rows", "many"), [(50, 60, 0), (51, 152, 51), (51, 153, 0), (51, 60, 51)])
def test_free_text_is_more_than_fifty_labels_of_fewer_than_three_rows(labels: int, rows: int, many: int) -> None:
    names = [f"name {n % labels}" for n in range(rows)]
    made, found = targets.shown({"file": rows_of("single-label", text=["a"] * rows, label=names)}, (), "US")
    assert found == many
    assert (made["file"].columns["label"] == names) is (many == 0)
    if many:
        assert targets.describe(made["file"], found) == {"unlisted_labels": labels}


def test_a_long_label_is_quoted_nowhere(write: Callable[..., str], capsys: pytest.CaptureFixture[str]) -> None:
    long = "my name is Ada and this is what I think of your service " * 3
    rows = [(sentence("billing", random.Random(n)), "billing") for n in range(40)]
    rows += [(f"a text of its own {n} {n * 7}", long + "ada@example.com"[: 15 * n]) for n in range(2)]
    document = json.dumps(profile(DataConfig(file=write("a.csv", rows)), judged=0))
    assert "my name is Ada and this" in document
    assert "service" not in document + capsys.readouterr().err


def test_entities_are_runs_of_tags() -> None:
    tags = [["B-PER", "I-PER", "O", "B-PER", "B-PER"], ["O", "O"], ["I-LOC", "I-LOC", "I-PER"]]
    found = targets.describe(rows_of("tokens", tokens=tags, tags=tags))
    assert found["entities"] == {"LOC": 1, "PER": 4}
    assert found["labels"]["O"] == {"tokens": 3, "share": 0.3, "rows": 2}
    assert numbers(found["without_entity"]) == [2]


def test_numbers_and_their_outliers() -> None:
    found = targets.describe(rows_of("regression", text=["a"] * 9, target=[1.0, 2, 3, 4, 5, 6, 7, 8, 99]))
    assert (found["numbers"]["min"], found["numbers"]["median"], found["numbers"]["max"]) == (1.0, 5.0, 99.0)
    assert numbers(found["outliers"]) == [9]


def test_answers_chats_and_pairs() -> None:
    answers = [{"text": ["a b"], "answer_start": [0]}, {"text": [], "answer_start": []}]
    squad = targets.describe(rows_of("squad", question=["q", "r"], context=["a b", "a b"], answers=answers))
    assert (squad["answerable"], squad["contexts"]) == ({"rows": 1, "share": 0.5}, 1)
    assert squad["answer_words"]["median"] == 2.0
    asks, answered = {"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}
    chat = targets.describe(rows_of("messages", messages=[[asks, answered], [asks, answered, asks]]))
    assert chat["roles"] == {"user": 3, "assistant": 2}
    assert numbers(chat["not_ending_with_the_assistant"]) == [2]
    pair = targets.describe(rows_of("pairs", source=["a b", "a b", "a b"], target=["c d", "c d e f g h i", "a b"]))
    assert numbers(pair["odd_ratio"]) == [2]
    assert numbers(pair["copies"]) == [3]


CASES: dict[str, list[dict[str, Any]]] = {
    "token-classification": [{"tokens": ["a", str(n)], "tags": ["O", "B-X"]} for n in range(40)],
    "question-answering": [
        {"question": f"q{n}", "context": f"it is {n}", "answers": {"text": ["it"], "answer_start": [0]}}
        for n in range(40)
    ],
    "text-regression": [{"text": f"text {n}", "target": n / 7} for n in range(40)],
    "text2text-generation": [{"source": f"a {n}", "target": f"b {n}"} for n in range(40)],
    "text-generation": [
        {"messages": [{"role": "user", "content": f"q {n}"}, {"role": "assistant", "content": "a"}]} for n in range(40)
    ],
}


@pytest.mark.parametrize("task", CASES)
def test_every_task_has_a_profile(task: str, tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text("\n".join(map(json.dumps, CASES[task])), encoding="utf-8")
    found = profile(DataConfig(file=str(path), task=task))
    assert (found["rows"]["total"], found["task"], found["schema_version"]) == (40, task, 1)
    assert found["targets"]
    json.dumps(found)

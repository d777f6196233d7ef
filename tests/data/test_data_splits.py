from __future__ import annotations

import unicodedata
from collections import Counter
from random import Random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgeft.data.clean.content import content, hashes, uniform
from edgeft.data.formats.classification import SingleLabel
from edgeft.data.formats.rows import Rows
from edgeft.data.split import splits
from edgeft.recipe import DataConfig

TEXTS = st.text(alphabet=st.characters(exclude_categories=["Cs"]))


def make_rows(pairs: list[tuple[str, str]], name: str = "a.csv") -> Rows:
    columns = {"text": [text for text, _ in pairs], "label": [label for _, label in pairs]}
    return Rows(
        kind=SingleLabel(DataConfig()),
        columns=columns,
        rows=np.arange(1, len(pairs) + 1),
        files=[name],
        file=np.zeros(len(pairs), dtype=np.int32),
    )


def divide(rows: Rows, validation: Rows | None, test: Rows | None, config: DataConfig) -> splits.Parts:
    """Divide, limit and check, as the stage does."""
    parts = splits.divide(rows, validation, test, config)
    splits.limit(parts, config)
    splits.check(parts, len(rows), rows.name)
    return parts


def assign(text: str, validation: float, test: float) -> str:
    return str(splits.assign(hashes([text]), validation, test)[0])


def texts(rows: Rows) -> list[str]:
    return rows.columns["text"]


def leaks(parts: splits.Parts) -> dict[str, int]:
    return {leak: parts.removed.count(splits.LEAK + leak) for leak in splits.LEAKS}


def many(count: int = 400, labels: str = "aab") -> list[tuple[str, str]]:
    return [(f"text {i}", labels[i % len(labels)]) for i in range(count)]


def membership(parts: splits.Parts) -> dict[str, str]:
    """Text to the place it went to."""
    named = {"train": parts.train, "validation": parts.validation, "test": parts.test, "rest": parts.rest}
    return {text: name for name, rows in named.items() for text in texts(rows)}


# ----------------------------------------------------------------------------------------------------- one text


def test_a_text_stays_where_it_was_in_the_first_release() -> None:
    # blake2b(key=b"edgeft split 1", digest_size=8) of b"hello", top 53 bits, worked out by hashlib alone
    assert uniform("hello", b"edgeft split 1") == pytest.approx(0.12476952755083581, abs=1e-15)


@given(TEXTS)
def test_same_content_same_split(text: str) -> None:
    here = assign(text, 0.2, 0.3)
    assert here == assign(f" \t{text}\n", 0.2, 0.3)
    assert here == assign(unicodedata.normalize("NFD", text), 0.2, 0.3)


@given(TEXTS, st.floats(0, 0.5), st.floats(0, 0.5), st.floats(0, 0.5))
def test_one_fraction_moves_no_row_of_the_other(text: str, validation: float, test: float, other: float) -> None:
    now, later = assign(text, validation, test), assign(text, validation, other)
    assert (now == "validation") == (later == "validation")


def test_the_shares_are_the_fractions_for_each_label() -> None:
    counts = Counter((label, assign(text, 0.1, 0.2)) for text, label in many(30_000, "ab"))
    for label in "ab":
        assert counts[label, "test"] / 15_000 == pytest.approx(0.2, abs=0.01)
        assert counts[label, "validation"] / 15_000 == pytest.approx(0.1, abs=0.01)


# --------------------------------------------------------------------------------------------------- a whole file


@settings(max_examples=30, deadline=None)
@given(st.randoms(use_true_random=False), st.integers(0, 200))
def test_shuffling_appending_and_renaming_move_no_row(random: Random, appended: int) -> None:
    config, pairs = DataConfig(validation_fraction=0.2, test_fraction=0.2), many()
    before = membership(divide(make_rows(pairs), None, None, config))
    changed = pairs + [(f"new {i}", "ab"[i % 2]) for i in range(appended)]
    random.shuffle(changed)
    after = membership(divide(make_rows(changed, "other name.csv"), None, None, config))
    assert before == {text: after[text] for text in before}


@settings(max_examples=30, deadline=None)
@given(st.randoms(use_true_random=False))
def test_the_choice_of_rows_does_not_depend_on_their_order(random: Random) -> None:
    config = DataConfig(max_train_rows=50, max_eval_rows=10)
    before = membership(divide(make_rows(many()), None, None, config))
    shuffled = many()
    random.shuffle(shuffled)
    assert before == membership(divide(make_rows(shuffled), None, None, config))


def test_appending_rows_keeps_most_of_the_chosen_ones() -> None:
    config = DataConfig(max_train_rows=100)
    before = set(texts(divide(make_rows(many(2000)), None, None, config).train))
    after = set(texts(divide(make_rows(many(2200)), None, None, config).train))
    assert len(before & after) >= 80  # a tenth more rows push out about a tenth


def test_chosen_rows_keep_the_labels_shares_and_the_rest_is_unlabelled() -> None:
    whole = divide(make_rows(many(900)), None, None, DataConfig())
    parts = divide(make_rows(many(900)), None, None, DataConfig(max_train_rows=90, max_eval_rows=30))
    assert len(parts.train) == 90
    assert Counter(parts.train.columns["label"])["a"] == pytest.approx(60, abs=2)
    assert set(texts(parts.train)) | set(texts(parts.rest)) == set(texts(whole.train))
    assert not set(texts(parts.train)) & set(texts(parts.rest))
    assert (len(parts.validation), len(parts.test)) == (30, 30)
    assert set(texts(parts.test)) < set(texts(whole.test))
    assert parts.train.rows.tolist() == sorted(parts.train.rows)


@given(st.lists(st.integers(1, 50), min_size=1, max_size=8), st.data())
def test_quotas(counts: list[int], data: st.DataObject) -> None:
    total = data.draw(st.integers(len(counts), sum(counts)))
    taken = splits.quotas(counts, total)
    assert sum(taken) == total
    assert all(1 <= took <= count for took, count in zip(taken, counts, strict=True))


def test_quotas_by_hand() -> None:
    assert splits.quotas([60, 30, 10], 10) == [6, 3, 1]
    assert splits.quotas([98, 1, 1], 4) == [2, 1, 1]
    assert splits.quotas([1, 1, 10], 12) == [1, 1, 10]


def test_one_text_always_lands_in_one_split() -> None:
    pairs = many() + [(f" text {i} ", "b") for i in range(400)]
    parts = divide(make_rows(pairs), None, None, DataConfig())
    contents = [{content(text) for text in texts(part)} for part in (parts.train, parts.validation, parts.test)]
    assert sum(map(len, contents)) == len(set.union(*contents)) == 400


# ------------------------------------------------------------------------------------------------ files of one's own


def test_an_own_test_file_takes_its_texts_out_of_the_others() -> None:
    own = make_rows([("text 1 ", "a"), ("text 3", "a"), ("elsewhere", "b")], "test.csv")
    parts = divide(make_rows(many()), None, own, DataConfig())
    assert parts.test is own
    found = membership(parts)
    assert len(found) == 400 - 2 + 3  # "text 1" and "text 3" left, three came
    assert "text 1" not in found
    assert leaks(parts)["train_in_test"] + leaks(parts)["validation_in_test"] == 2


def test_test_rows_win_over_an_own_validation_file() -> None:
    validation = make_rows([("text 1", "a"), ("text 2", "b"), ("alone", "b")], "validation.csv")
    test = make_rows([("text 2", "b"), ("text 3", "a")], "test.csv")
    parts = divide(make_rows(many()), validation, test, DataConfig())
    assert texts(parts.validation) == ["text 1", "alone"]
    assert leaks(parts) == {"train_in_test": 2, "train_in_validation": 1, "validation_in_test": 1}
    assert len(parts.train) == 397


def test_an_own_validation_file_that_repeats_split_off_test_rows() -> None:
    split_off = texts(divide(make_rows(many()), None, None, DataConfig()).test)[0]
    validation = make_rows([(split_off, "a"), ("alone", "b"), ("other", "a")], "validation.csv")
    parts = divide(make_rows(many()), validation, None, DataConfig())
    assert texts(parts.validation) == ["alone", "other"]
    assert leaks(parts)["validation_in_test"] == 1


def test_leaks_go_before_rows_are_cut_off() -> None:
    test = make_rows([(text, label) for text, label in many(60)], "test.csv")
    parts = divide(make_rows(many()), None, test, DataConfig(max_eval_rows=5, max_train_rows=50))
    seen = set(texts(parts.train)) | set(texts(parts.rest)) | set(texts(parts.validation))
    assert len(parts.test) == 5
    assert not seen & set(texts(test))


def test_a_label_that_an_evaluation_split_lacks_is_a_warning(capsys: pytest.CaptureFixture[str]) -> None:
    test = make_rows([("x", "a"), ("y", "a")], "test.csv")
    divide(make_rows(many()), None, test, DataConfig())
    assert capsys.readouterr().err == "data: warning: the test split has no row with label 'b'\n"

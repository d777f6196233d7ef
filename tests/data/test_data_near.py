from __future__ import annotations

import random
import time
from typing import cast

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgeft.data.clean import near
from edgeft.progress import Bar

TEXTS = st.text(alphabet=st.characters(exclude_categories=["Cs"]), max_size=40)


def edited(text: str, rng: random.Random, words: list[str]) -> str:
    """One word replaced, left out or added."""
    parts = text.split()
    at = rng.randrange(len(parts))
    way = rng.randrange(3)
    if way == 0:
        parts[at] = rng.choice(words)
    elif way == 1:
        del parts[at]
    else:
        parts.insert(at, rng.choice(words))
    return " ".join(parts)


@pytest.fixture(scope="module")
def reviews(movie_rows: list[tuple[str, str]]) -> list[str]:
    return [text for text, _ in movie_rows]


@pytest.fixture(scope="module")
def planted(reviews: list[str]) -> list[str]:
    """300 real texts of some length, and an edited copy of every third."""
    rng = random.Random(0)
    texts = [text for text in reviews if len(text) > 60][:300]
    words = " ".join(texts).split()
    return texts + [edited(text, rng, words) for text in texts[::3]]


# ----------------------------------------------------------------------------------------------------------- similarity


def test_jaccard_by_hand() -> None:
    # abcdef: abcde bcdef; abcdeg: abcde bcdeg
    assert near.jaccard("abcdef", "abcdeg") == pytest.approx(1 / 3)
    # 7 5-grams each; two have the changed letter: "at sa" and "t sat"
    assert near.jaccard("the cat sat", "the cat sit") == pytest.approx(5 / 9)


@pytest.mark.parametrize(
    ("first", "second", "similarity"),
    [("  The\tCAT \n sat", "the cat sat", 1), ("straße", "STRASSE", 1), ("cafe\u0301", "café", 1), ("abc", "abd", 0)],
)
def test_what_makes_no_difference(first: str, second: str, similarity: float) -> None:
    assert near.jaccard(first, second) == similarity
    assert near.earlier_similar([first, second], 1.0).tolist() == [-1, 0 if similarity else -1]


@given(st.lists(st.tuples(TEXTS, TEXTS), min_size=1, max_size=8))
def test_hashed_similarity_is_that_of_sets(pairs: list[tuple[str, str]]) -> None:
    first, second = zip(*pairs, strict=True)
    expected = [near.jaccard(one, two) for one, two in pairs]
    assert near._jaccards(first, second).tolist() == pytest.approx(expected)


# --------------------------------------------------------------------------------------------------------------- search


def slow(texts: list[str], similarity: float) -> list[bool]:
    """All pairs: which texts have an earlier near duplicate."""
    sets = [near._gram_set(text) for text in texts]

    def close(one: set[str], two: set[str]) -> bool:
        return len(one & two) / len(one | two) >= similarity

    return [any(close(sets[j], sets[i]) for j in range(i)) for i in range(len(texts))]


@pytest.mark.parametrize("similarity", [0.5, 0.7, 0.85])
def test_finds_what_all_pairs_find(planted: list[str], similarity: float) -> None:
    found, expected = near.earlier_similar(planted, similarity) >= 0, slow(planted, similarity)
    assert sum(expected) >= 25
    assert found.tolist() == expected


def test_what_is_reported_is_true_and_earlier(planted: list[str]) -> None:
    found = near.earlier_similar(planted, 0.6)
    for place, earlier in enumerate(found.tolist()):
        assert earlier < place
        assert earlier == -1 or near.jaccard(planted[place], planted[earlier]) >= 0.6


def test_finds_the_variants_of_a_cluster(reviews: list[str]) -> None:
    rng, words = random.Random(1), " ".join(reviews).split()
    seeds = [text for text in reviews if len(text) > 90][:300]
    texts = seeds + [edited(text, rng, words) for text in seeds for _ in range(6)]
    rng.shuffle(texts)
    found = near.earlier_similar(texts, 0.7) >= 0
    assert np.mean(found[slow(texts[:600], 0.7) + [False] * (len(texts) - 600)]) > 0.99


def test_clean_reviews_have_one_near_duplicate(reviews: list[str]) -> None:
    found = near.earlier_similar(reviews, 0.7)
    assert np.count_nonzero(found >= 0) == 1
    assert "silver bullets" in reviews[int(found.argmax())]


def test_the_earliest_of_equal_texts_is_named() -> None:
    assert near.earlier_similar(
        ["same old text", "another thing", "same old text", "Same  old text"], 0.9
    ).tolist() == [*(-1, -1, 0, 0)]


def test_chunks_change_nothing(planted: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    whole = near.earlier_similar(planted, 0.7)
    monkeypatch.setattr(near, "CHUNK_CHARACTERS", 1000)
    np.testing.assert_array_equal(near.earlier_similar(planted, 0.7), whole)


def test_twenty_thousand_texts_of_one_template_take_seconds(reviews: list[str]) -> None:
    rng, words = random.Random(2), " ".join(reviews[:500]).split()
    start = "dear customer, your order number"
    texts = [
        f"{start} {rng.randrange(10**9)} of {rng.choice(words)} goes to {rng.choice(words)}" for _ in range(20_000)
    ]
    copies = [f"{text} street" for text in texts[:200]]
    begin = time.process_time()
    found = near.earlier_similar(texts + copies, 0.8)
    assert time.process_time() - begin < 20
    assert np.mean(found[20_000:] >= 0) > 0.97


def test_small_cases() -> None:
    assert near.earlier_similar([], 0.7).tolist() == []
    assert near.earlier_similar(["alone"], 0.7).tolist() == [-1]
    assert near.earlier_similar(["a", "b", "a", "", " ", "aaaaaa"], 0.7).tolist() == [-1, -1, 0, -1, 3, -1]


@settings(max_examples=50)
@given(st.lists(TEXTS, max_size=20))
def test_any_text_has_its_repetition_found(texts: list[str]) -> None:
    found = near.earlier_similar([*texts, *texts], 0.7)
    assert (found[len(texts) :] >= 0).all()


def test_a_very_long_text_among_short_ones(reviews: list[str]) -> None:
    long = " ".join(reviews[:4000])
    assert near.earlier_similar(["short", long, "other", long + " more"], 0.7).tolist() == [-1, -1, -1, 1]


# -------------------------------------------------------------------------------------------------------------- banding


def test_banding_by_hand() -> None:
    assert near.banding(0.7) == (32, 4)  # 1 - (1 - 0.2401)^32 = 0.9998; five slots: 1 - (1 - 0.1681)^25 = 0.9899
    assert near.banding(1.0) == (8, 16)
    assert near.banding(0.01) == (128, 1)


@pytest.mark.parametrize("similarity", [0.3, 0.5, 0.7, 0.8, 0.9, 0.99])
def test_banding_finds_enough_and_uses_the_slots(similarity: float) -> None:
    bands, rows = near.banding(similarity)
    assert 1 - (1 - similarity**rows) ** bands >= near.RECALL
    assert near.SLOTS * 0.8 <= bands * rows <= near.SLOTS


def test_unrelated_signatures_agree_by_chance_alone(reviews: list[str]) -> None:
    signatures = near._signatures(reviews[:2000], 128, None)
    agree = np.mean(signatures[:1000] == signatures[1000:])
    assert 1 / 256 < agree < 0.02  # real texts share a little
    strange = ["".join(map(chr, np.random.default_rng(i).integers(0x4E00, 0x9FA0, 60))) for i in range(2000)]
    signatures = near._signatures(strange, 128, None)
    assert np.mean(signatures[:1000] == signatures[1000:]) == pytest.approx(1 / 256, rel=0.1)


def test_the_bar_counts_the_texts(planted: list[str]) -> None:
    class Counted:
        done = 0

        def advance(self, steps: int = 1) -> None:
            self.done += steps

    bar = Counted()
    near.earlier_similar(planted, 0.7, cast(Bar, bar))
    assert bar.done == len(planted)

from __future__ import annotations

import random

import pytest

from edgeft.data.profile import languages
from edgeft.data.profile.languages import languages as shares

GERMAN = "Der Film war leider viel zu lang und die Handlung ergab am Ende keinen Sinn, Nummer {}."
FRENCH = "Ce film était vraiment magnifique et je le recommande à tout le monde, numéro {}."


def test_reviews_are_english(movie_rows: list[tuple[str, str]]) -> None:
    found = shares([text for text, _ in movie_rows])
    assert found["en"] > 0.97
    assert set(found) <= {"en", "other", "short", "unsure"}
    assert found["en"] + found.get("other", 0) == pytest.approx(1)


def test_two_languages_the_larger_first() -> None:
    texts = [GERMAN.format(i) for i in range(30)] + [FRENCH.format(i) for i in range(10)]
    assert list(shares(texts).items()) == [("de", 0.75), ("fr", 0.25)]


def test_rare_languages_are_one(movie_rows: list[tuple[str, str]]) -> None:
    texts = [GERMAN.format(i) for i in range(299)] + [FRENCH.format(0)]
    assert shares(texts) == {"de": pytest.approx(299 / 300), "other": pytest.approx(1 / 300)}


def test_short_texts_are_counted_and_left_out() -> None:
    texts = [GERMAN.format(i) for i in range(3)] + ["gut", "12345 67890 12345 67890 12345"]
    assert shares(texts) == {"de": 1.0, "short": pytest.approx(0.4)}
    assert shares(["ok"]) == {"short": 1.0}
    assert shares([]) == {}


def test_a_script_without_spaces() -> None:
    assert shares(["这部电影非常好看,我真的很喜欢它,推荐给所有的朋友们一起去看"] * 2) == {"zh": 1.0}


def test_the_order_of_rows_changes_nothing(movie_rows: list[tuple[str, str]]) -> None:
    texts = [text for text, _ in movie_rows[:300]] + [GERMAN.format(i) for i in range(100)]
    mixed = random.Random(0).sample(texts, len(texts))
    assert shares(texts, max_texts=50) == shares(mixed, max_texts=50)


def test_at_most_so_many_are_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[str] = []

    def note(texts: list[str]) -> dict[str, float]:
        seen.extend(texts)
        return {}

    monkeypatch.setattr(languages, "_shares", note)
    shares([GERMAN.format(i) for i in range(100)], max_texts=7)
    assert len(seen) == 7

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from edgeft.errors import DataError
from edgeft.train.metrics import counterfactual
from edgeft.train.metrics.counterfactual import Copy, Flip

TERMS = counterfactual.load_terms()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("He is a man.", "She is a woman."),
        ("HE and his wife", "SHE and her husband"),
        ("saw him", "saw her"),
        ("the book is hers", "the book is his"),
        ("he's here", "she's here"),
        ("the theme, a manly man-made helmet", "the theme, a manly man-made helmet"),
        ("a she-wolf", "a she-wolf"),
        ("Ms Smith met Mr. Jones", "Mr Smith met Mrs. Jones"),
    ],
)
def test_gender_keeps_words_whole_and_case(text: str, expected: str) -> None:
    assert counterfactual.swap(text, TERMS["gender"]) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("I saw her.", "I saw him."),
        ("I saw her", "I saw him"),
        ("they told her that", "they told him that"),
        ("put her on hold", "put him on hold"),
        ("her book", "his book"),
        ("Her own book", "His own book"),
        ("HER", "HIM"),
        ("her very old car", "him very old car"),  # wrong, and written down
    ],
)
def test_her_is_him_or_his(text: str, expected: str) -> None:
    assert counterfactual.swap(text, TERMS["gender"]) == expected


@pytest.mark.parametrize(
    ("kind", "text", "expected"),
    [
        ("religion", "a Muslim and a christian", "a Jewish and a muslim"),
        ("nationality", "Turkish, british", "British, chinese"),
        ("orientation", "a gay couple", "a lesbian couple"),
    ],
)
def test_cycles(kind: str, text: str, expected: str) -> None:
    assert counterfactual.swap(text, TERMS[kind]) == expected


def test_a_pair_swapped_twice_is_itself() -> None:
    text = "the man, a father, told the boys what women and aunts said"
    swapped = counterfactual.swap(text, TERMS["gender"])
    assert swapped == "the woman, a mother, told the girls what men and uncles said"
    assert counterfactual.swap(swapped, TERMS["gender"]) == text


def test_every_shipped_term_becomes_another_one() -> None:
    for swaps in TERMS.values():
        for term in swaps.to:
            assert counterfactual.swap(term, swaps).lower() != term


def test_copies_know_their_row_and_kind() -> None:
    texts = ["a plain text", "He is Muslim"]
    assert counterfactual.swap_texts(texts) == [
        Copy(1, "gender", "She is Muslim"),
        Copy(1, "religion", "He is Jewish"),
    ]


class Predictor:
    """Negative where a text says "she"; counts its calls."""

    def __init__(self) -> None:
        self.calls: list[list[str]] = []

    def __call__(self, texts: Sequence[str]) -> list[str]:
        self.calls.append(list(texts))
        return ["negative" if "she" in text.lower().split() else "positive" for text in texts]


def test_flips_by_hand() -> None:
    predict = Predictor()
    texts = ["a plain text", "he runs", "his dog", "She is Muslim", "a Hindu"]
    result = counterfactual.measure_flips(texts, predict)
    # Four texts have a term; "he runs" and "She is Muslim" change with the gender, none with the religion.
    assert (result.texts, result.flip_rate) == (4, 0.5)
    assert result.by_kind == {
        "gender": {"texts": 3, "flip_rate": pytest.approx(2 / 3)},
        "religion": {"texts": 2, "flip_rate": 0.0},
    }
    assert result.examples == [
        Flip("gender", "he runs", "she runs", "positive", "negative"),
        Flip("gender", "She is Muslim", "He is Muslim", "negative", "positive"),
    ]
    assert predict.calls[0] == texts[1:]
    assert len(predict.calls) == 2


def test_examples_are_limited() -> None:
    result = counterfactual.measure_flips(["he"] * 5, Predictor(), examples=2)
    assert (result.flip_rate, len(result.examples)) == (1.0, 2)


@pytest.mark.parametrize("texts", [[], ["a plain text"], [""]])
def test_without_terms_there_is_no_share(texts: list[str]) -> None:
    predict = Predictor()
    result = counterfactual.measure_flips(texts, predict)
    assert (result.texts, result.flip_rate, result.by_kind, result.examples) == (0, None, {}, [])
    assert predict.calls == []


def test_a_list_of_ones_own(tmp_path: Path) -> None:
    path = tmp_path / "terms.yaml"
    path.write_text("region:\n  cycles:\n    - [Ruhr, Saar area]\n", encoding="utf-8")
    terms = counterfactual.load_terms(path)
    assert [copy.text for copy in counterfactual.swap_texts(["the saar area, he said"], terms)] == ["the ruhr, he said"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: {pairs: [[he, she], [he, they]]}", "a: 'he' has two replacements"),
        ("a: {pair: [[he, she]]}", "pair"),
        ("a: {ambiguous: {her: {before: him, otherwise: his, words: [on]}}}", "Expected `str`, got `bool`"),
        ("a: {}", "a: there are none"),
        ("[", "identity terms in"),
    ],
)
def test_a_list_that_does_not_hold(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "terms.yaml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(DataError, match=message):
        counterfactual.load_terms(path)
    with pytest.raises(DataError, match="identity terms in"):
        counterfactual.load_terms(tmp_path / "none.yaml")

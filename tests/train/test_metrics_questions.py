from __future__ import annotations

import pytest

from edgeft.errors import TrainingError
from edgeft.train import metrics
from edgeft.train.metrics import questions


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("The  Eiffel Tower!", "eiffel tower"),
        ("an U.S. theatre", "us theatre"),
        ("well-known", "wellknown"),
        ("The", ""),
        ("Über", "über"),
    ],
)
def test_normalization(text: str, expected: str) -> None:
    assert questions.normalize(text) == expected


@pytest.mark.parametrize(
    ("predicted", "answer", "expected"),
    [
        ("in the Eiffel Tower", "Eiffel tower", 2 * (2 / 3 * 1) / (2 / 3 + 1)),
        ("dog dog cat", "dog", 2 * (1 / 3 * 1) / (1 / 3 + 1)),
        ("cat", "dog", 0.0),
        ("", "", 1.0),
        ("the", "", 1.0),
        ("dog", "", 0.0),
        ("", "dog", 0.0),
    ],
)
def test_token_f1_by_hand(predicted: str, answer: str, expected: float) -> None:
    assert questions.token_f1(predicted, answer) == pytest.approx(expected)


def test_the_best_answer_counts() -> None:
    figures = metrics.question_answering(["in Paris"], [["London", "paris", "In Paris, France"]])
    assert figures == pytest.approx({"exact_match": 0.0, "token_f1": 0.8})


def test_questions_that_cannot_be_answered() -> None:
    figures = metrics.question_answering(["", "Rome", "", "Rome"], [[], [], ["Rome"], ["rome"]])
    assert figures == {"exact_match": 0.5, "token_f1": 0.5, "answerable_f1": 0.5, "unanswerable_accuracy": 0.5}


def test_an_answer_without_words_is_no_answer() -> None:
    assert metrics.question_answering([""], [["The"]]) == {"exact_match": 1.0, "token_f1": 1.0}


def test_scores_of_rows() -> None:
    answers = [["dog"], ["a cat"]]
    assert questions.exact_matches(["dog", "big cat"], answers).tolist() == [1.0, 0.0]
    assert questions.token_f1s(["dog", "big cat"], answers).tolist() == pytest.approx([1.0, 2 / 3])


def test_no_rows() -> None:
    with pytest.raises(TrainingError, match="no rows"):
        metrics.question_answering([], [])

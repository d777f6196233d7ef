"""Metrics of extractive question answering: exact match and token F1, as SQuAD's official script computes them.

Source: evaluate-v2.0.py of Rajpurkar, Jia, Liang, "Know What You Don't Know: Unanswerable Questions for SQuAD" (2018).
None of the libraries that edgeft depends on has them. The articles are English: in other languages only case, ASCII
punctuation and spaces are normalised.
"""

from __future__ import annotations

import re
import string
from collections import Counter
from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt

from edgeft.train.metrics.checks import Figures, check_rows

ARTICLES = re.compile(r"\b(a|an|the)\b")
NO_PUNCTUATION = str.maketrans("", "", string.punctuation)

Scores = npt.NDArray[np.float64]


def normalize(text: str) -> str:
    """Lower case, without punctuation, articles and surplus spaces."""
    return " ".join(ARTICLES.sub(" ", text.lower().translate(NO_PUNCTUATION)).split())


def exact_match(predicted: str, answer: str) -> float:
    """1 if the normalised texts are equal, else 0."""
    return float(normalize(predicted) == normalize(answer))


def token_f1(predicted: str, answer: str) -> float:
    """Harmonic mean of precision and recall over the words of the normalised texts, as bags.

    If one of them has no words: 1 if the other has none either, else 0.
    """
    guess, truth = normalize(predicted).split(), normalize(answer).split()
    if not guess or not truth:
        return float(guess == truth)
    common = (Counter(guess) & Counter(truth)).total()
    return 2 * common / (len(guess) + len(truth))


def exact_matches(predicted: Sequence[str], answers: Sequence[Sequence[str]]) -> Scores:
    """(n,) exact match of each row, the best over its right answers; arguments as of `question_answering`."""
    return _best_scores(exact_match, predicted, answers)


def token_f1s(predicted: Sequence[str], answers: Sequence[Sequence[str]]) -> Scores:
    """(n,) token F1 of each row, the best over its right answers; arguments as of `question_answering`."""
    return _best_scores(token_f1, predicted, answers)


def question_answering(predicted: Sequence[str], answers: Sequence[Sequence[str]]) -> Figures:
    """Metrics averaged over the questions.

    Args:
        predicted: (n,) answers of the model; empty where it finds none.
        answers: (n,) the right answers of each question; none if it can't be answered.

    Returns:
        `exact_match` and `token_f1`, 0 to 1 (the official script prints percent), and, if there are both answerable and
        unanswerable questions, `answerable_f1` and `unanswerable_accuracy`.

    Raises:
        TrainingError: no rows.
    """
    f1 = token_f1s(predicted, answers)
    figures = {"exact_match": float(exact_matches(predicted, answers).mean()), "token_f1": float(f1.mean())}
    answerable = np.array([_gold_answers(row) != [""] for row in answers])
    if 0 < answerable.sum() < len(answerable):
        figures["answerable_f1"] = float(f1[answerable].mean())
        figures["unanswerable_accuracy"] = float(f1[~answerable].mean())
    return figures


def _gold_answers(answers: Sequence[str]) -> list[str]:
    """The answers that have words; the empty answer if there are none, as in the official script."""
    return [answer for answer in answers if normalize(answer)] or [""]


def _best_scores(
    score: Callable[[str, str], float], predicted: Sequence[str], answers: Sequence[Sequence[str]]
) -> Scores:
    check_rows(predicted, answers)
    rows = zip(predicted, answers, strict=True)
    return np.array([max(score(guess, answer) for answer in _gold_answers(row)) for guess, row in rows])

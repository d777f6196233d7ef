"""Spans and their scores against the algorithm of transformers 4's question-answering pipeline."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeft.errors import UserError
from edgeft.runtime.answers.questions import Reader, best_spans, trim_span
from edgeft.runtime.answers.windows import Window

CONTEXT = "ab cd ef gh"
OFFSETS = [(0, 2), (3, 5), (6, 8), (9, 11)]
logits = st.lists(st.integers(-8, 8), min_size=4, max_size=4)


def reader(longest: int = 30, no_answer: bool = False) -> Any:
    """A reader without a graph."""
    made: Any = Reader.__new__(Reader)
    decoding = {"max_answer_tokens": longest, "no_answer": no_answer}
    made.manifest = SimpleNamespace(decoding=decoding, task="question-answering", kind="squad")
    return made


def of_transformers(start: Any, end: Any, own: list[bool], longest: int, impossible: bool) -> tuple[float, int, int]:
    """select_starts_ends and decode_spans of transformers 4.57: score, first and last token; -1 for no answer.

    Args:
        start: (T,) logits.
        end: (T,) logits.
        own: (T,) which tokens are the context's, or the first.
        longest: tokens of an answer.
        impossible: whether there may be none.
    """
    shares = []
    for side in (start, end):
        masked = np.where(own, np.asarray(side, dtype=np.float64), -10000.0)
        powers = np.exp(masked - masked.max())
        shares.append(powers / powers.sum())
    null = float(shares[0][0] * shares[1][0])
    shares[0][0] = shares[1][0] = 0.0
    outer = np.tril(np.triu(shares[0][:, None] * shares[1][None, :]), longest - 1)
    first, last = np.unravel_index(int(outer.argmax()), outer.shape)
    score = float(outer[first, last])
    return (null, -1, -1) if impossible and null > score else (score, int(first), int(last))


@given(start=logits, end=logits, first=logits, longest=st.integers(1, 4), impossible=st.booleans())
def test_one_window_is_decoded_as_transformers_does(
    start: list[int], end: list[int], first: list[int], longest: int, impossible: bool
) -> None:
    """[CLS] question [SEP] and four tokens of context."""
    sides = [np.array([first[place], first[2], first[3], *of_context], np.float32) for place, of_context in
             enumerate((start, end))]  # fmt: skip
    window = Window(ids=[0] * 7, text=CONTEXT, first=3, offsets=OFFSETS)
    found = reader(longest, impossible).decode([window], [tuple(sides)])
    own = [True, False, False, True, True, True, True]
    score, begins, ends = of_transformers(sides[0], sides[1], own, longest, impossible)
    assert found["score"] == pytest.approx(score, rel=1e-6)
    sums = sums_of(sides, longest)
    if impossible and max(sums) == sides[0][0] + sides[1][0]:  # as good as no answer: either of them is right
        return
    if begins < 0:
        assert (found["answer"], found["start"], found["end"]) == ("", 0, 0)
    elif sums.count(max(sums)) > 1:  # any of them is right
        return
    else:
        assert (found["start"], found["end"]) == (OFFSETS[begins - 3][0], OFFSETS[ends - 3][1])
        assert found["answer"] == CONTEXT[found["start"] : found["end"]]


def sums_of(sides: list[Any], longest: int) -> list[float]:
    """Of each span's two logits."""
    return [float(sides[0][3 + a] + sides[1][3 + b]) for a in range(4) for b in range(a, min(4, a + longest))]


@given(start=logits, end=logits, longest=st.integers(1, 6), count=st.integers(1, 12))
def test_spans_against_every_pair(start: list[int], end: list[int], longest: int, count: int) -> None:
    pairs = [(a, b, float(start[a] + end[b])) for a in range(4) for b in range(a, min(4, a + longest))]
    expected = sorted(pairs, key=lambda span: (-span[2], span[0], span[1]))[:count]
    assert best_spans(np.array(start, np.float32), np.array(end, np.float32), longest, count) == expected


def test_the_best_of_all_windows_answers_and_its_places_are_those_of_the_whole_context() -> None:
    windows = [
        Window(ids=[0] * 4, text=CONTEXT, first=2, offsets=OFFSETS[:2]),
        Window(ids=[0] * 4, text=CONTEXT, first=2, start=2, offsets=OFFSETS[2:]),
    ]
    low, high = np.array([0, 0, 1, 0], np.float32), np.array([0, 0, 0, 5], np.float32)
    assert reader().decode(windows, [(low, low), (high, high)])["answer"] == "gh"
    best = reader().decode(windows, [(low, low), (high, high)], top_k=3)
    assert [answer["answer"] for answer in best] == ["gh", "ef gh", "ab"]
    sure = np.array([9, 0, 0, 0], np.float32)
    assert reader(no_answer=True).decode(windows, [(sure, sure), (high, high)])["answer"] == "gh"
    assert reader(no_answer=True).decode(windows, [(sure, sure), (sure, sure)])["answer"] == ""


def test_white_space_around_an_answer_is_left_out() -> None:
    assert trim_span("a  so it \n", 1, 10) == ("so it", 3)


@pytest.mark.parametrize("wrong", ["a text", {"question": "a"}, {"question": "a", "context": None}, 3])
def test_what_is_no_question_is_named(wrong: Any) -> None:
    with pytest.raises(UserError, match=r'^question 4: expected \{"question": str, "context": str\}$'):
        reader()._clean_pair(wrong, 4)


def test_an_option_that_a_kind_has_not_is_named() -> None:
    line = r"^aggregation_strategy is no option of question-answering \(squad\); it takes top_k$"
    with pytest.raises(UserError, match=line):
        reader().check(aggregation_strategy="first")
    with pytest.raises(UserError, match="top_k is 0"):
        reader().check(top_k=0)

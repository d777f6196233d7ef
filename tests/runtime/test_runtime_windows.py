"""Windows by hand, and what every cut of a text must hold."""

from __future__ import annotations

import copy
import itertools
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeft.runtime.answers.windows import window_bounds, windows_of


@pytest.mark.parametrize(
    ("total", "room", "shared", "expected"),
    [
        (0, 4, 1, [(0, 0)]),
        (4, 4, 1, [(0, 4)]),
        (5, 4, 1, [(0, 4), (3, 5)]),
        (9, 4, 3, [(0, 4), (2, 6), (4, 8), (6, 9)]),  # of 4 at most 2 are shared
        (3, 1, 1, [(0, 1), (1, 2), (2, 3)]),
    ],
)
def test_cuts_by_hand(total: int, room: int, shared: int, expected: list[tuple[int, int]]) -> None:
    assert list(window_bounds(total, room, shared)) == expected


@given(total=st.integers(0, 300), room=st.integers(1, 60), shared=st.integers(0, 40))
def test_every_token_stands_in_a_window_and_none_is_too_long(total: int, room: int, shared: int) -> None:
    found = list(window_bounds(total, room, shared))
    assert {token for start, end in found for token in range(start, end)} == set(range(total))
    assert all(end - start <= room for start, end in found)
    assert all(before[1] >= after[0] for before, after in itertools.pairwise(found))


@pytest.fixture
def tokenizer(tiny_tokenizer: Any) -> Any:
    """One of its own: a call of the shared one in another test leaves its truncation behind."""
    own = copy.deepcopy(tiny_tokenizer)
    own.backend_tokenizer.no_truncation()
    return own


def pieces(tokenizer: Any, windows: Any) -> list[str]:
    return [" ".join(tokenizer.convert_ids_to_tokens(window.ids)) for window in windows]


def test_a_long_text_keeps_its_special_tokens_in_every_window(tokenizer: Any) -> None:
    text = "the film is films so a plot"
    encoding = tokenizer.backend_tokenizer.encode(text)
    windows = windows_of(encoding, text, 0, 6, 2)
    assert pieces(tokenizer, windows) == [
        "[CLS] the film is film [SEP]",
        "[CLS] is film ##s so [SEP]",
        "[CLS] ##s so a plot [SEP]",
    ]
    assert [(window.first, window.start) for window in windows] == [(1, 0), (1, 2), (1, 4)]
    assert [text[start:end] for start, end in windows[1].offsets] == ["is", "film", "s", "so"]


def test_the_question_stands_in_every_window_and_loses_its_end_where_it_is_too_long(tokenizer: Any) -> None:
    context = "the film is so bad"
    for question, expected in (
        ("was it", ["[CLS] was i ##t [SEP] the film is so [SEP]", "[CLS] was i ##t [SEP] is so bad [SEP]"]),
        ("a plot so good so bad so fine", ["[CLS] a plot so good so [SEP] the film [SEP]"]),
    ):
        encoding = tokenizer.backend_tokenizer.encode(question, context)
        windows = windows_of(encoding, context, 1, 10, 2)
        assert pieces(tokenizer, windows)[: len(expected)] == expected
        assert all(len(window.ids) <= 10 for window in windows)
        first = windows[0]
        assert first.types == [0] * first.first + [1] * (len(first.ids) - first.first)
        assert {start for window in windows for start, _ in window.offsets} == {0, 4, 9, 12, 15}


def test_an_empty_text_is_one_window(tokenizer: Any) -> None:
    (window,) = windows_of(tokenizer.backend_tokenizer.encode(""), "", 0, 8, 2)
    assert pieces(tokenizer, [window]) == ["[CLS] [SEP]"]
    assert window.offsets == []

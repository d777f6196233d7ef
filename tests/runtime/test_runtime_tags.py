"""Tokens of overlapping windows, words and groups by hand."""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from edgeft.runtime.answers.tags import _by_type, _by_word, join_windows
from edgeft.runtime.answers.windows import Window, window_bounds


def windows(total: int, room: int, shared: int) -> list[Window]:
    """Windows of a text of one-letter tokens, whose ids are their places, between two special tokens."""
    return [
        Window(
            ids=[900, *range(start, end), 901],
            text="x" * total,
            first=1,
            start=start,
            offsets=[(place, place + 1) for place in range(start, end)],
        )
        for start, end in window_bounds(total, room, shared)
    ]


@given(total=st.integers(0, 60), room=st.integers(2, 12), shared=st.integers(0, 6))
def test_every_token_once_from_the_window_with_most_text_around_it(total: int, room: int, shared: int) -> None:
    own = windows(total, room, shared)
    numbers = [np.full((len(window.ids), 2), number, np.float32) for number, window in enumerate(own)]
    found = join_windows(own, numbers)
    assert found.ids == list(range(total))
    assert found.offsets == [(place, place + 1) for place in range(total)]
    for place in range(total):
        chosen = int(found.values[place, 0])
        assert around(own[chosen], place, total) == max(around(window, place, total) for window in own)


def around(window: Window, place: int, total: int) -> int:
    """Tokens to the nearer cut; the ends of the text are none. -1 outside the window."""
    end = window.start + len(window.offsets)
    if not window.start <= place < end:
        return -1
    left = total if window.start == 0 else place - window.start
    return min(left, total if end == total else end - 1 - place)


def test_two_windows_by_hand() -> None:
    own = windows(6, 4, 2)  # 0 to 3, 2 to 5
    found = join_windows(own, [np.full((6, 1), number, np.float32) for number in range(2)])
    assert found.values[:, 0].tolist() == [0, 0, 0, 1, 1, 1]


def entities(*tags: str) -> list[dict[str, Any]]:
    return [{"entity": tag, "is_subword": tag.startswith("##")} for tag in tags]


def names(groups: list[list[dict[str, Any]]]) -> list[list[str]]:
    return [[entity["entity"] for entity in group] for group in groups]


def test_groups_by_hand() -> None:
    tags = entities("B-A", "I-A", "B-A", "I-B", "O", "O", "A", "NOUN")
    assert names(_by_type(tags)) == [["B-A", "I-A"], ["B-A"], ["I-B"], ["O", "O"], ["A"], ["NOUN"]]
    assert names(_by_word(entities("un", "##be", "##lie", "so", "##so"))) == [["un", "##be", "##lie"], ["so", "##so"]]
    assert names(_by_word(entities("##be", "so"))) == [["##be"], ["so"]]

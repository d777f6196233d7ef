"""Tokens of one forward pass, and how a text that is too long becomes several that overlap."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from tokenizers import Encoding

CONTEXT = 4  # at least one token in so many of a window is the long text's own


class Window(NamedTuple):
    """The tokens of one pass of the engine.

    Attributes:
        ids: (T,) token ids, special ones included.
        types: (T,) token type ids; empty where the kind has one text.
        text: that the offsets point into, as cleaned; empty where nobody asks for places in it.
        first: place in `ids` of the first token of that text.
        start: how many of the text's tokens stand before this window.
        offsets: (m,) of each of its tokens here, the first character and the one after the last.
    """

    ids: list[int]
    types: Sequence[int] = ()
    text: str = ""
    first: int = 0
    start: int = 0
    offsets: Sequence[tuple[int, int]] = ()


def window_bounds(total: int, room: int, shared: int) -> Iterator[tuple[int, int]]:
    """Yield the first token of each window and the one after its last.

    Args:
        total: tokens of the text.
        room: tokens of a window.
        shared: tokens that a window shares with the next one, half of it at most.
    """
    step = max(1, room - min(shared, room // 2))
    start = 0
    while start + room < total:
        yield start, start + room
        start += step
    yield start, total


def windows_of(encoding: Encoding, text: str, part: int, max_length: int, shared: int) -> list[Window]:
    """The windows of an encoded text, or pair of texts, of which one may be too long.

    Args:
        encoding: of any length.
        text: the one that is cut.
        part: 0: it stands alone; 1: it is the second of two, and the first stands in every window.
        max_length: tokens of a window, special ones included.
        shared: tokens that windows share.
    """
    owners = encoding.sequence_ids
    indices = [index for index, owner in enumerate(owners) if owner == part]
    first = indices[0] if indices else len(owners)
    after = first + len(indices)
    before = _indices_before(owners[:first], max_length - max_length // CONTEXT - (len(owners) - after))
    windows = []
    for start, end in window_bounds(len(indices), max_length - len(before) - (len(owners) - after), shared):
        chosen = [*before, *range(first + start, first + end), *range(after, len(owners))]
        offsets = encoding.offsets[first + start : first + end]
        ids, types = ([values[index] for index in chosen] for values in (encoding.ids, encoding.type_ids))
        windows.append(Window(ids, types, text, len(before), start, offsets))
    return windows


def _indices_before(owners: Sequence[int | None], most: int) -> list[int]:
    """Indices before the long text, without the first text's last tokens if there are more than `most`."""
    of_text = [index for index, owner in enumerate(owners) if owner is not None]
    gone = set(of_text[len(of_text) - max(0, len(owners) - most) :]) if len(owners) > most else set()
    return [index for index in range(len(owners)) if index not in gone]

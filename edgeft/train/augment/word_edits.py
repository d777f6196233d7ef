"""Changing the words of a text: random swap and random deletion, two of the four operations of EDA (Wei & Zou 2019).

A word is what is between white space. Unlike EDA, a deletion removes a fixed number of words, so that every text of two
words or more changes, and the white space between words is preserved.
"""

from __future__ import annotations

import hashlib
import random
import re
import unicodedata
from collections.abc import Callable

Change = Callable[[str, float, random.Random], str]


def seed_of(text: str, method: str, seed: int, copy: int) -> int:
    """The seed of one changed copy: it depends on the text, method, seed and copy, never on the row's index."""
    made_of = f"{method}\0{seed}\0{copy}\0{text}".encode()
    return int.from_bytes(hashlib.sha256(made_of).digest()[:8], "big") >> 1  # 63 bits: what torch's generators take


def normalize(text: str) -> str:
    """The text as it is compared: NFC, case-folded, with single spaces between words."""
    return " ".join(unicodedata.normalize("NFC", text).casefold().split())


def words_to_change(words: int, share: float) -> int:
    """How many of a text's words to change: at least one."""
    return max(1, round(share * words))


def swap_words(text: str, share: float, generator: random.Random) -> str:
    """Exchange two different words, once for each word to change.

    Args:
        text: returned unchanged unless it has two different words.
        share: of the words.
        generator: chooses the words.
    """
    pieces, words = _pieces(text)
    if len({pieces[index] for index in words}) < 2:
        return text
    for _ in range(words_to_change(len(words), share)):
        first = generator.choice(words)
        second = generator.choice([index for index in words if pieces[index] != pieces[first]])
        pieces[first], pieces[second] = pieces[second], pieces[first]
    return "".join(pieces)


def delete_words(text: str, share: float, generator: random.Random) -> str:
    """Delete words, and leave at least one.

    Args:
        text: returned unchanged unless it has two words.
        share: of the words.
        generator: chooses the words.
    """
    pieces, words = _pieces(text)
    if len(words) < 2:
        return text
    for index in generator.sample(words, min(words_to_change(len(words), share), len(words) - 1)):
        pieces[index : index + 2] = ["", ""][: len(pieces) - index]  # the word and the white space after it
    return "".join(pieces).strip()


def _pieces(text: str) -> tuple[list[str], list[int]]:
    """Words and white space alternating, and the indices of the words."""
    pieces = re.split(r"(\s+)", text)
    return pieces, [index for index in range(0, len(pieces), 2) if pieces[index]]


CHANGES: dict[str, Change] = {"swap": swap_words, "deletion": delete_words}

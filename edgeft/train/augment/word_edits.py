"""Changing the words of a text: random swap and random deletion, two of the four operations of EDA (Wei & Zou 2019).

A word is what stands between white space. Unlike in EDA a deletion takes a fixed number of words, so that every text of
two words or more is changed, and the white space between words stays as it is.
"""

from __future__ import annotations

import hashlib
import random
import re
import unicodedata
from collections.abc import Callable

Change = Callable[[str, float, random.Random], str]


def seed_of(text: str, method: str, seed: int, copy: int) -> int:
    """The seed of one changed copy: it depends on what the copy is made of, never on the row's place in the file."""
    made_of = f"{method}\0{seed}\0{copy}\0{text}".encode()
    return int.from_bytes(hashlib.sha256(made_of).digest()[:8], "big") >> 1  # 63 bits: what torch's generators take


def sameness(text: str) -> str:
    """What makes two texts the same here: NFC, without case and without white space around words or more than one."""
    return " ".join(unicodedata.normalize("NFC", text).casefold().split())


def how_many(words: int, share: float) -> int:
    """How many of a text's words to change, at least one."""
    return max(1, round(share * words))


def swap(text: str, share: float, generator: random.Random) -> str:
    """Exchange two different words, once for each word to change.

    Args:
        text: any; one without two different words stays as it is.
        share: of the words.
        generator: draws the words.
    """
    pieces, words = _pieces(text)
    if len({pieces[place] for place in words}) < 2:
        return text
    for _ in range(how_many(len(words), share)):
        first = generator.choice(words)
        second = generator.choice([place for place in words if pieces[place] != pieces[first]])
        pieces[first], pieces[second] = pieces[second], pieces[first]
    return "".join(pieces)


def deletion(text: str, share: float, generator: random.Random) -> str:
    """Take words out, and leave at least one.

    Args:
        text: any; one without two words stays as it is.
        share: of the words.
        generator: draws the words.
    """
    pieces, words = _pieces(text)
    if len(words) < 2:
        return text
    for place in generator.sample(words, min(how_many(len(words), share), len(words) - 1)):
        pieces[place : place + 2] = ["", ""][: len(pieces) - place]  # the word and the white space after it
    return "".join(pieces).strip()


def _pieces(text: str) -> tuple[list[str], list[int]]:
    """Words and white space in turn, and the places of the words."""
    pieces = re.split(r"(\s+)", text)
    return pieces, [place for place in range(0, len(pieces), 2) if pieces[place]]


CHANGES: dict[str, Change] = {"swap": swap, "deletion": deletion}

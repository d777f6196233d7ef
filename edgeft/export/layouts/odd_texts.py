"""Texts that tokenizers are likely to take differently, the same ones every time."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence

from tokenizers import Tokenizer

COUNT = 10_000
SURROGATES = range(0xD800, 0xE000)
# First and last code point of each range.
POOLS: dict[str, tuple[tuple[int, int], ...]] = {
    "ascii": ((0x20, 0x7E),),
    "latin": ((0xA1, 0x24F), (0x1E00, 0x1EFF)),
    "combining": ((0x300, 0x36F), (0x1AB0, 0x1ACE), (0x1DC0, 0x1DFF), (0x20D0, 0x20F0), (0x302A, 0x302F)),
    "alphabets": ((0x370, 0x58F), (0x10A0, 0x10FF), (0x13A0, 0x13FD), (0x1F00, 0x1FFF), (0x10400, 0x104FF)),
    "semitic": ((0x590, 0x74F),),
    "indic": ((0x900, 0xDFF), (0xE00, 0xFFF)),
    "hangul": ((0xAC00, 0xD7A3), (0x1100, 0x11FF)),
    "cjk": ((0x3040, 0x30FF), (0x3400, 0x4DBF), (0x4E00, 0x9FFF), (0xF900, 0xFAFF), (0x20000, 0x2A6DF)),
    "emoji": ((0x1F300, 0x1FAFF), (0x2600, 0x27BF), (0x1F1E6, 0x1F1FF), (0x200D, 0x200D), (0xFE0F, 0xFE0F)),
    "control": ((0, 0x1F), (0x7F, 0x9F), (0xAD, 0xAD), (0x200B, 0x200F), (0x202A, 0x202E), (0x2060, 0x206F)),
    "space": (
        *((9, 13), (0x20, 0x20), (0x85, 0x85), (0xA0, 0xA0), (0x1680, 0x1680), (0x180E, 0x180E), (0x2000, 0x200B)),
        *((0x2028, 0x2029), (0x202F, 0x202F), (0x205F, 0x205F), (0x3000, 0x3000), (0xFEFF, 0xFEFF)),
    ),
    "signs": (
        *((0x2010, 0x206F), (0x20A0, 0x20BF), (0x2100, 0x23FF), (0x3000, 0x303F), (0xFE10, 0xFE6F)),
        *((0xFF00, 0xFFEF), (0x1D400, 0x1D7FF)),
    ),
    "any": ((0, 0xD7FF), (0xE000, 0x10FFFF)),
}
LONG_WORD = (90, 260)  # characters; WordPiece gives up above 100
LONG_TEXT = (60, 700)  # words


def words_of(tokenizer: Tokenizer) -> list[str]:
    """The vocabulary as plain text, in the order of the ids, without marks of word starts and endings."""
    decoded = (tokenizer.decode([index], skip_special_tokens=False) for index in range(tokenizer.get_vocab_size()))
    return [word for text in decoded if (word := text.strip().removeprefix("##"))] or ["a"]


def odd_texts(words: Sequence[str], added: Sequence[str], count: int = COUNT) -> list[str]:
    """Short and long texts of words and of characters of every kind; no halves of surrogate pairs.

    Args:
        words: that the tokenizer knows.
        added: its added tokens, which texts may contain as well.
        count: so many texts.
    """
    source = random.Random(count)
    fixed = [*_fixed(added), *_every_word(source, words)][: count // 2]
    kinds: tuple[Callable[[], str], ...] = (
        lambda: " ".join(_words(source, words, source.randint(1, 40))),
        lambda: "".join(_characters(source, source.choice(list(POOLS)), source.randint(1, 40))),
        lambda: "".join(_mixed(source, source.randint(1, 60))),
        lambda: _spoilt(source, " ".join(_words(source, words, source.randint(1, 12)))),
        lambda: _glued(source, words, added),
        lambda: _long(source, words),
    )
    weights = (2, 2, 2, 3, 1 if added else 0, 0.2)
    return fixed + [kind() for kind in source.choices(kinds, weights, k=count - len(fixed))]


def _fixed(added: Sequence[str]) -> list[str]:
    """Texts that nobody should have to draw by luck."""
    small = [chr(code) for code in range(0x180)]
    spaces = [chr(code) for first, last in POOLS["space"] for code in range(first, last + 1)]
    inside = [f"a{character}b" for character in (*small, *spaces)]
    return [
        "",
        " ",
        "\0",
        "a\0b\0\0c",
        "  a  b  ",
        *small,
        *spaces,
        *inside,
        *added,
        *(token.lower() for token in added),
    ]


def _every_word(source: random.Random, words: Sequence[str]) -> list[str]:
    """Every word once, twenty to a text."""
    order = source.sample(list(words), len(words))
    return [" ".join(order[start : start + 20]) for start in range(0, len(order), 20)]


def _words(source: random.Random, words: Sequence[str], count: int) -> list[str]:
    cases = (str, str, str, str.capitalize, str.upper, str.swapcase)
    return [source.choice(cases)(word) for word in source.choices(words, k=count)]


def _characters(source: random.Random, pool: str, count: int) -> list[str]:
    ranges = POOLS[pool]
    sizes = [last - first + 1 for first, last in ranges]
    chosen = source.choices(ranges, sizes, k=count)
    return [chr(source.randint(first, last)) for first, last in chosen]


def _mixed(source: random.Random, count: int) -> list[str]:
    return [_characters(source, pool, 1)[0] for pool in source.choices(list(POOLS), k=count)]


def _spoilt(source: random.Random, text: str) -> str:
    """One to six characters of any pool put into a text."""
    for character in _mixed(source, source.randint(1, 6)):
        place = source.randint(0, len(text))
        text = text[:place] + character + text[place:]
    return text


def _glued(source: random.Random, words: Sequence[str], added: Sequence[str]) -> str:
    """Added tokens among words, with and without space around them, and some of them broken."""
    parts = _words(source, words, source.randint(0, 6)) + source.choices(added, k=source.randint(1, 3))
    source.shuffle(parts)
    text = source.choice(("", " ", "\t", "\u00a0 ")).join(parts)
    return _spoilt(source, text) if source.random() < 0.5 else text


def _long(source: random.Random, words: Sequence[str]) -> str:
    if source.random() < 0.5:
        return " ".join(_words(source, words, source.randint(*LONG_TEXT)))
    return "".join(_characters(source, source.choice(("ascii", "latin", "hangul", "any")), source.randint(*LONG_WORD)))

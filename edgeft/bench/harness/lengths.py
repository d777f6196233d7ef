"""Texts of one length, made of the words of real ones."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from edgeft import artifact
from edgeft.bench.harness.subjects.adapters import load_cutting_tokenizer
from edgeft.bench.harness.subjects.subject import Subject
from edgeft.errors import UserError
from edgeft.runtime import load
from edgeft.runtime.tokenization import load_tokenizer

TEXTS = 100
TRIES = 200  # words that may not fit before we give up


def token_counter(subject: Subject) -> Callable[[str], int]:
    """Return a function that counts the tokens of a text for a subject, special ones included.

    Raises:
        UserError: a subject whose tokenizer isn't at hand.
    """
    if subject.kind == "artifact":
        folder = Path(subject.place)
        inputs = load(folder, threads=1).manifest.inputs
        tokenizer = load_tokenizer(folder / artifact.TOKENIZER, None if inputs.stride else inputs.max_length)
    elif subject.kind == "onnx":
        tokenizer = load_cutting_tokenizer(Path(subject.options["tokenizer"]), subject.options["max_length"])
    else:
        raise UserError("bench: --tokens counts by the first subject's tokenizer, an artifact's or an .onnx file's")
    return lambda text: len(tokenizer.encode(text).ids)


def make_texts(texts: Sequence[str], tokens: int, count: Callable[[str], int]) -> list[str]:
    """Make `TEXTS` texts of exactly `tokens` tokens.

    Args:
        texts: whose words are taken, in order.
        tokens: special ones included.
        count: tokens of a text.

    Raises:
        UserError: no text reaches exactly this length.
    """
    words = itertools.cycle([word for text in texts for word in text.split()] or [""])
    return [_make_text(words, tokens, count) for _ in range(TEXTS)]


def _make_text(words: Iterator[str], tokens: int, count: Callable[[str], int]) -> str:
    text, missed, length = "", 0, count("")
    while length < tokens and missed < TRIES:
        longer = f"{text} {next(words)}".strip()
        # A tokenizer that truncates stops counting at its limit, hence the first comparison.
        if length < (longer_length := count(longer)) <= tokens:
            text, length = longer, longer_length
        else:
            missed += 1
    if length != tokens:
        raise UserError(
            f"bench: --tokens {tokens}: no text of exactly this length could be made; the nearest has {length} tokens"
        )
    return text

"""Texts of one length, made of the words of real ones."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from edgeft import artifact
from edgeft.bench.harness.subjects.adapters import cutting
from edgeft.bench.harness.subjects.subject import Subject
from edgeft.errors import UserError
from edgeft.runtime import load
from edgeft.runtime.tokenization import load_tokenizer

TEXTS = 100
TRIES = 200  # words that may not fit before it is given up


def counter(subject: Subject) -> Callable[[str], int]:
    """How many tokens a text has for a subject, special ones included.

    Raises:
        UserError: a subject whose tokenizer isn't at hand.
    """
    if subject.kind == "artifact":
        folder = Path(subject.place)
        inputs = load(folder, threads=1).manifest.inputs
        tokenizer = load_tokenizer(folder / artifact.TOKENIZER, None if inputs.stride else inputs.max_length)
    elif subject.kind == "onnx":
        tokenizer = cutting(Path(subject.options["tokenizer"]), subject.options["max_length"])
    else:
        raise UserError("bench: --tokens counts by the first subject's tokenizer, an artifact's or an .onnx file's")
    return lambda text: len(tokenizer.encode(text).ids)


def of_length(texts: Sequence[str], tokens: int, count: Callable[[str], int]) -> list[str]:
    """`TEXTS` texts of exactly so many tokens.

    Args:
        texts: whose words are taken, in order.
        tokens: special ones included.
        count: tokens of a text.

    Raises:
        UserError: no text comes to so many tokens.
    """
    words = itertools.cycle([word for text in texts for word in text.split()] or [""])
    return [_one(words, tokens, count) for _ in range(TEXTS)]


def _one(words: Iterator[str], tokens: int, count: Callable[[str], int]) -> str:
    made, missed, length = "", 0, count("")
    while length < tokens and missed < TRIES:
        longer = f"{made} {next(words)}".strip()
        if length < (found := count(longer)) <= tokens:  # of a tokenizer that cuts, nothing is longer from there on
            made, length = longer, found
        else:
            missed += 1
    if length != tokens:
        raise UserError(f"bench: --tokens {tokens}: no text of so many tokens; the tokenizer gives {length}")
    return made

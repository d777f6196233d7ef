"""tokenizer.json from elsewhere: parsed from bytes, bounded, and tried before it is trusted with a text."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
from tokenizers import Tokenizer

from edgeft.errors import ArtifactError
from edgeft.files import open_regular
from edgeft.listed_files import describe_problem

MAX_BYTES = 2**27
MAX_PARTS = 200  # of normalizer, pre-tokenizer, post-processor and decoder together
MAX_PATTERN = 4_000  # characters of a regular expression
MAX_GROWTH = 100  # so many characters may become of one
# What a pattern that goes back and forth is slow on: long runs of one character, and of few.
TRIAL_TEXTS = tuple(
    text[:200] for text in ("a" * 200, " " * 200, "0" * 200, "A" * 200, "_" * 200, "." * 200, "\n" * 200, "aA0. " * 40)
)
TRIAL_SECONDS = 5.0

REPEATED = re.compile(r"[*+]|\{\d*,\}|\{\d{3,}|\{\d*,\d{3,}")  # repeated without bound, or as good as


@dataclass(frozen=True, kw_only=True)
class _Words:
    """Of the model in tokenizer.json: the vocabulary alone."""

    vocab: Any = None


@dataclass(frozen=True, kw_only=True)
class _AddedToken:
    id: int = 0


@dataclass(frozen=True, kw_only=True)
class _Parts:
    """What is read of a tokenizer.json beside what the library makes of it."""

    model: _Words = field(default_factory=_Words)
    added_tokens: list[_AddedToken] | None = None
    normalizer: Any = None
    pre_tokenizer: Any = None
    post_processor: Any = None
    decoder: Any = None


def load_tokenizer(path: Path, max_length: int | None) -> Tokenizer:
    """The fast tokenizer of a file, without padding.

    Args:
        path: tokenizer.json.
        max_length: texts are truncated to so many tokens, as in training; None: they are not.

    Raises:
        ArtifactError: the file is not a tokenizer.
    """
    try:
        with open_regular(path) as file:
            content = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise ArtifactError(f"{path} {describe_problem(error)}") from None
    return parse_tokenizer(content, path, max_length)


def parse_tokenizer(content: bytes, path: Path, max_length: int | None) -> Tokenizer:
    """The fast tokenizer of some bytes, without padding.

    Args:
        content: of tokenizer.json.
        path: for messages.
        max_length: as of `load_tokenizer`.

    Raises:
        ArtifactError: they are no tokenizer.
    """
    if len(content) > MAX_BYTES:
        raise ArtifactError(f"{path} has more than {MAX_BYTES:,} bytes, which no tokenizer has")
    try:
        tokenizer = Tokenizer.from_buffer(content)
        tokenizer.no_padding()
        if max_length is None:
            tokenizer.no_truncation()
        else:
            tokenizer.enable_truncation(max_length)
    except BaseException as error:  # noqa: BLE001 - a panic of the Rust side is no Exception; others are raised again
        raise _refusal(error, path) from None
    return tokenizer


def check_parts(content: bytes, path: Path) -> int:
    """Refuse a tokenizer that would take forever or grow without bound, before anything is built of it.

    Args:
        content: of tokenizer.json.
        path: for messages.

    Returns:
        The largest id of any of its tokens.

    Raises:
        ArtifactError: it would.
    """
    try:
        parts = msgspec.json.decode(content, type=_Parts)
        _check_parts([parts.normalizer, parts.pre_tokenizer, parts.post_processor, parts.decoder])
        return _largest_id(parts)
    except (msgspec.DecodeError, RecursionError, ValueError, TypeError) as error:
        raise ArtifactError(f"{path} is not a tokenizer that can be trusted: {_line(error)}") from None


def _largest_id(parts: _Parts) -> int:
    words = parts.model.vocab
    if isinstance(words, dict):
        ids = max(words.values(), default=0)
    else:
        ids = len(words or ()) - 1
    return max(0, ids, max((token.id for token in parts.added_tokens or ()), default=0))


def _check_parts(roots: Sequence[Any]) -> None:
    """Whether all parts of a tokenizer are bounded.

    Raises:
        ValueError: names the first that isn't.
    """
    growth = 1.0
    for number, part in enumerate(_objects(roots)):
        if number >= MAX_PARTS:
            raise ValueError(f"it has more than {MAX_PARTS} parts")
        pattern = part.get("pattern")
        if isinstance(pattern, dict):
            check_pattern(str(pattern.get("Regex", "")))
        if part.get("type") == "Replace":
            growth *= _growth(pattern, str(part.get("content", "")))
        elif part.get("type") == "Prepend" and len(str(part.get("prepend", ""))) > MAX_GROWTH:
            growth = float("inf")
    if growth > MAX_GROWTH:
        raise ValueError(f"one character could become more than {MAX_GROWTH}")


def _growth(pattern: Any, content: str) -> float:
    """Into how many characters `Replace` makes one at most."""
    if isinstance(pattern, dict) and "String" in pattern:
        if not pattern["String"]:
            raise ValueError("it replaces what is between characters")
        return max(1.0, len(content) / len(str(pattern["String"])))
    return float(max(1, len(content)))


def _objects(roots: Sequence[Any]) -> Iterator[dict[str, Any]]:
    """Every part of a tokenizer, and the parts of sequences."""
    waiting = list(roots)
    while waiting:
        item = waiting.pop()
        if isinstance(item, dict):
            yield item
            waiting += [value for value in item.values() if isinstance(value, dict | list)]
        elif isinstance(item, list):
            waiting += [value for value in item if isinstance(value, dict | list)]


def check_pattern(pattern: str) -> None:
    """Refuse a regular expression that repeats what repeats, whose time grows with a power of the text's length.

    Raises:
        ValueError: says which part does.
    """
    if len(pattern) > MAX_PATTERN:
        raise ValueError(f"a regular expression has {len(pattern)} characters, at most {MAX_PATTERN} are read")
    bare = re.sub(r"\\.|\[(?:\\.|[^\]\\])*\]", "x", pattern, flags=re.DOTALL)  # sets and escapes are one character
    opened: list[int] = []
    for index, letter in enumerate(bare):
        if letter == "(":
            opened.append(index)
        elif letter == ")" and opened:
            inside = bare[opened.pop() + 1 : index]
            if REPEATED.match(bare, index + 1) and REPEATED.search(inside):
                raise ValueError(f"a regular expression repeats what repeats: {inside[:40]!a}")


def try_tokenizer(tokenizer: Tokenizer, path: Path) -> None:
    """Encode texts that a careless pattern is slow on, for a bounded time.

    Raises:
        ArtifactError: it takes longer, or stops on harmless texts.
    """
    ended: list[BaseException | None] = []

    def encode() -> None:
        try:
            for text in TRIAL_TEXTS:
                tokenizer.encode(text)
            ended.append(None)
        except BaseException as error:  # noqa: BLE001 - raised below, in the thread that asked
            ended.append(error)

    thread = threading.Thread(target=encode, daemon=True, name="tokenizer trial")
    thread.start()
    thread.join(TRIAL_SECONDS)
    if not ended:
        raise ArtifactError(f"{path} takes more than {TRIAL_SECONDS:g} s for {len(TRIAL_TEXTS)} short texts")
    if ended[0] is not None:
        raise _refusal(ended[0], path)


def is_panic(error: BaseException) -> bool:
    """Whether the Rust side gave up: its exception derives from BaseException, and no module exports it."""
    return type(error).__name__ == "PanicException"


def _refusal(error: BaseException, path: Path) -> BaseException:
    """What to raise for an exception of the tokenizer."""
    if isinstance(error, Exception) or is_panic(error):
        return ArtifactError(f"{path} is not a tokenizer: {_line(error)}")
    return error


def _line(error: BaseException) -> str:
    return " ".join(str(error).split())[:200]

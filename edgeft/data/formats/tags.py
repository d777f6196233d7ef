"""Rows of `token-classification`: tagged tokens, or spans of a text, which are converted to tagged tokens."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from difflib import SequenceMatcher
from itertools import pairwise
from typing import Any, ClassVar

from edgeft import tasks
from edgeft.data.formats.base import (
    BadRow,
    Cleaner,
    Columns,
    Kind,
    is_unicode,
    label_name,
    label_problem,
    names,
    need,
    structure,
    text_problem,
)
from edgeft.recipe import DataConfig

OUTSIDE = "O"
WORD = re.compile(r"\w+|[^\w\s]")


class Tokens(Kind):
    """Tokens, and the tag of each."""

    form = tasks.TOKENS
    roles = ("tokens", "tags")
    types: ClassVar = {"tokens": "texts", "tags": "texts"}
    label_column = "tags"

    @classmethod
    def of_source(cls, config: DataConfig, present: Sequence[str]) -> Tokens:
        spans = config.spans_column in present and config.tokens_column not in present
        return Spans(config) if spans else Tokens(config)

    def parse(self, *values: Any) -> tuple[Any, ...]:
        tokens, tags = (names(value, what, None, self.limits) for value, what in zip(values, self.roles, strict=True))
        if len(tokens) != len(tags):
            raise BadRow(f"another number of tags than of tokens ({len(tags)} and {len(tokens)})")
        if not tokens:
            raise BadRow("no tokens")
        need(*dict.fromkeys(map(_token_problem, tokens)), *dict.fromkeys(label_problem(tag, "tag") for tag in tags))
        return tokens, [label_name(tag) for tag in tags]

    def inputs(self, columns: Columns) -> list[str]:
        return [" ".join(tokens) for tokens in columns["tokens"]]

    def targets(self, columns: Columns) -> list[str]:
        return [" ".join(tags) for tags in columns["tags"]]

    def labels_of(self, columns: Columns) -> Iterator[Sequence[str]]:
        return iter(columns["tags"])

    def texts_of(self, columns: Columns, index: int) -> list[str]:
        return [" ".join(columns["tokens"][index])]

    def clean(self, columns: Columns, clean: Cleaner) -> tuple[Columns, list[int]]:
        """Clean a row as the runtime cleans its text; a tag stays with its token or is dropped with it."""
        tokens: list[list[str]] = []
        tags: list[list[str]] = []
        for row, of_row in zip(columns["tokens"], columns["tags"], strict=True):
            cleaned_row = _clean_tokens(row, of_row, clean)
            tokens.append(cleaned_row[0])
            tags.append(cleaned_row[1])
        return {"tokens": tokens, "tags": tags}, [i for i, row in enumerate(tokens) if not row]


def _clean_tokens(tokens: list[str], tags: list[str], clean: Cleaner) -> tuple[list[str], list[str]]:
    """Tokens of the cleaned row with their tags.

    Tokens are cleaned one at a time where that gives the same result. Where a step replaces several tokens together (a
    phone number with spaces), the replacement gets the tag of the first.
    """
    joined = clean(" ".join(tokens))
    alone = [clean(token) for token in tokens]
    kept_tokens = [i for i, token in enumerate(alone) if token.strip()]
    tokens, tags, words = [alone[i] for i in kept_tokens], [tags[i] for i in kept_tokens], joined.split()
    if " ".join(tokens).split() == words or not tokens:
        return tokens, tags
    pieces = list[str]()
    for change, i, _, a, b in SequenceMatcher(None, tokens, words, autojunk=False).get_opcodes():
        pieces += tags[i : i + b - a] if change == "equal" else [tags[min(i, len(tags) - 1)]] * (b - a)
    return words, pieces


def _token_problem(value: Any) -> str | None:
    if not isinstance(value, str):
        return f"a token of type {type(value).__name__} instead of a string"
    if not value.strip():
        return "an empty token"
    return None if is_unicode(value) else "a token that is not valid Unicode"


class Spans(Tokens):
    """A text and spans over it, each with start, end (characters, end not included) and label.

    They are stored as tagged tokens.
    """

    roles = ("text", "spans")

    def parse(self, *values: Any) -> tuple[Any, ...]:
        text, value = values
        need(text_problem(text))
        spans = structure(value, "spans", self.limits)
        if spans is None:
            raise BadRow("no spans (a text without any has an empty list)")
        if not isinstance(spans, list | tuple):
            raise BadRow(f"spans of type {type(spans).__name__} instead of a list")
        ordered = sorted(_span(span, len(text)) for span in spans)
        for (_, end, _), (start, _, _) in pairwise(ordered):
            if start < end:
                raise BadRow("spans that overlap")
        return tag_tokens(text, ordered)


def _span(span: Any, length: int) -> tuple[int, int, str]:
    if not isinstance(span, dict) or not {"start", "end", "label"} <= span.keys():
        raise BadRow("a span without start, end and label")
    start, end = span["start"], span["end"]
    need(label_problem(span["label"], "span label"))
    has_offsets = all(isinstance(offset, int) and not isinstance(offset, bool) for offset in (start, end))
    if not has_offsets or not 0 <= start < end <= length:
        raise BadRow(f"a span outside its text ({start} to {end} of {length} characters)")
    return start, end, label_name(span["label"]) or ""


def tag_tokens(text: str, spans: Sequence[tuple[int, int, str]]) -> tuple[list[str], list[str]]:
    """Tokens and BIO tags of a text; a token never crosses the border of a span.

    Args:
        text: any text.
        spans: (start, end, label), sorted, without overlap.
    """
    tokens: list[str] = []
    tags: list[str] = []
    position = 0
    for start, end, label in [*spans, (len(text), len(text), "")]:
        outside, inside = WORD.findall(text[position:start]), WORD.findall(text[start:end])
        tokens += outside + inside
        tags += [OUTSIDE] * len(outside)
        tags += [f"{'I' if i else 'B'}-{label}" for i in range(len(inside))]
        position = end
    if not tokens:
        raise BadRow("a text without words")
    return tokens, tags

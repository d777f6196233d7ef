"""Placeholders for removed values: `[URL]`, and `[KIND_1]`, `[KIND_2]` for the values of a kind.

Within one text, and within the texts of one row, the same value has the same number, in order of first appearance.
No detector of personal data matches a placeholder, and `lowercase` leaves them as they are, so cleaning is idempotent.
"""

from __future__ import annotations

import contextlib
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextvars import ContextVar
from dataclasses import dataclass
from itertools import chain

URL = "[URL]"
PLACEHOLDER = re.compile(
    r"\[(?:URL|(EMAIL|PHONE|CREDIT_CARD|IBAN|IP_ADDRESS|SSN|SECRET|NAME|PLACE)_([1-9][0-9]{0,6}))\]"
)
WRITTEN_WITH_GAPS = ("phone", "credit_card", "iban", "ssn")


@dataclass(frozen=True)
class Found:
    """One piece of personal data in a text.

    Attributes:
        kind: as in `email`.
        start: of the value in the text.
        end: of the value, exclusive.
    """

    kind: str
    start: int
    end: int


def spans(text: str) -> Iterator[tuple[int, int]]:
    """The spans of a text's placeholders."""
    return (match.span() for match in PLACEHOLDER.finditer(text)) if "[" in text else iter(())


def apart(text: str, candidates: Sequence[Found]) -> list[Found]:
    """Drop candidates that overlap a better one or a placeholder.

    Args:
        text: may contain placeholders.
        candidates: the longest wins; among equally long ones the first.

    Returns:
        In the order of the text.
    """
    taken = bytearray(len(text))
    for start, end in spans(text):
        taken[start:end] = b"\1" * (end - start)
    disjoint = []
    for item in sorted(candidates, key=lambda item: item.start - item.end):
        if taken.find(1, item.start, item.end) < 0:
            taken[item.start : item.end] = b"\1" * (item.end - item.start)
            disjoint.append(item)
    return sorted(disjoint, key=lambda item: item.start)


class Numbering:
    """The numbering of placeholders: which value has which.

    Args:
        texts: may contain placeholders already; their numbers are not used again.
    """

    def __init__(self, texts: Iterable[str]) -> None:
        self._names: dict[tuple[str, str], str] = {}
        self._last: dict[str, int] = {}
        for match in chain.from_iterable(PLACEHOLDER.finditer(text) for text in texts if "[" in text):
            if match[1]:
                self._last[match[1].lower()] = max(self._last.get(match[1].lower(), 0), int(match[2]))

    def name(self, kind: str, written: str) -> str:
        """The placeholder of a value; equal values have the same."""
        key = (kind, _value(kind, written))
        if key not in self._names:
            self._last[kind] = self._last.get(kind, 0) + 1
            self._names[key] = f"[{kind.upper()}_{self._last[kind]}]"
        return self._names[key]


_of_row: ContextVar[Numbering | None] = ContextVar("numbering of the placeholders of a row", default=None)


@contextlib.contextmanager
def one_row(texts: Sequence[str]) -> Iterator[None]:
    """A context in which all cleaned texts share one numbering, as they belong to one row."""
    token = _of_row.set(Numbering(texts))
    try:
        yield
    finally:
        _of_row.reset(token)


def replace(text: str, items: Sequence[Found]) -> str:
    """Replace values by placeholders.

    Args:
        text: may contain placeholders already; their numbers are not used again.
        items: in order, without overlaps.
    """
    numbering = _of_row.get() or Numbering([text])
    pieces, end = [], 0
    for item in items:
        pieces += [text[end : item.start], numbering.name(item.kind, text[item.start : item.end])]
        end = item.end
    return "".join([*pieces, text[end:]])


def count(text: str) -> Counter[str]:
    """Count a text's placeholders of each kind of personal data."""
    matches = PLACEHOLDER.finditer(text) if "[" in text else ()
    return Counter(match[1].lower() for match in matches if match[1])


def _value(kind: str, written: str) -> str:
    """The normal form of a value, equal for its spellings."""
    if kind == "secret":
        return written
    if kind in WRITTEN_WITH_GAPS:
        return "".join(filter(str.isalnum, written)).casefold()
    return " ".join(written.split()).casefold()

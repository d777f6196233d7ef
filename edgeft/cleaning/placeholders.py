"""What stands where something was taken out: `[URL]`, and `[KIND_1]`, `[KIND_2]` for the values of a kind.

Within one text the same value has the same number, in order of first appearance. Placeholders are never matched by
anything that looks for personal data, and `lowercase` leaves them as they are, so that cleaning twice is cleaning once.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

URL = "[URL]"
PLACEHOLDER = re.compile(
    r"\[(?:URL|(EMAIL|PHONE|CREDIT_CARD|IBAN|IP_ADDRESS|SSN|SECRET|NAME|PLACE)_([1-9][0-9]{0,6}))\]"
)
WRITTEN_WITH_GAPS = ("phone", "credit_card", "iban", "ssn")


@dataclass(frozen=True)
class Found:
    """One place with personal data.

    Attributes:
        kind: as in `email`.
        start: of the value in the text.
        end: behind it.
    """

    kind: str
    start: int
    end: int


def spans(text: str) -> Iterator[tuple[int, int]]:
    """Where the placeholders of a text stand."""
    return (match.span() for match in PLACEHOLDER.finditer(text)) if "[" in text else iter(())


def apart(text: str, candidates: Sequence[Found]) -> list[Found]:
    """What is left when no two overlap, and none overlaps a placeholder.

    Args:
        text: may have placeholders.
        candidates: the longest wins; among equally long ones the first.

    Returns:
        In the order of the text.
    """
    taken = bytearray(len(text))
    for start, end in spans(text):
        taken[start:end] = b"\1" * (end - start)
    kept = []
    for item in sorted(candidates, key=lambda item: item.start - item.end):
        if taken.find(1, item.start, item.end) < 0:
            taken[item.start : item.end] = b"\1" * (item.end - item.start)
            kept.append(item)
    return sorted(kept, key=lambda item: item.start)


def replace(text: str, found: Sequence[Found]) -> str:
    """Put placeholders in the place of values.

    Args:
        text: may have placeholders already; their numbers are not used again.
        found: in order, without overlaps.
    """
    last = _last_numbers(text)
    names: dict[tuple[str, str], str] = {}
    pieces, end = [], 0
    for item in found:
        key = (item.kind, _value(item.kind, text[item.start : item.end]))
        if key not in names:
            last[item.kind] = last.get(item.kind, 0) + 1
            names[key] = f"[{item.kind.upper()}_{last[item.kind]}]"
        pieces += [text[end : item.start], names[key]]
        end = item.end
    return "".join([*pieces, text[end:]])


def _last_numbers(text: str) -> dict[str, int]:
    """The highest number of each kind that the text has already."""
    last: dict[str, int] = {}
    for match in PLACEHOLDER.finditer(text) if "[" in text else ():
        if match[1]:
            last[match[1].lower()] = max(last.get(match[1].lower(), 0), int(match[2]))
    return last


def _value(kind: str, written: str) -> str:
    """What makes two spellings of a value the same value."""
    if kind == "secret":
        return written
    if kind in WRITTEN_WITH_GAPS:
        return "".join(filter(str.isalnum, written)).casefold()
    return " ".join(written.split()).casefold()

"""Detectors of card numbers, IBANs and US social security numbers; each yields (start, end) of valid numbers."""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator

from stdnum import luhn, numdb
from stdnum.iso7064 import mod_97_10

# --------------------------------------------------------------------------------------------------------------- cards

_GAP = "[ \u00a0\u2011\u2013-]"
# Groups of digits as on cards, with one gap between two; not a decimal fraction, not part of a word.
GROUPS = re.compile(rf"(?<![A-Za-z0-9_])(?<![0-9][.,])[0-9]{{3,19}}(?:{_GAP}[0-9]{{3,19}})*+(?![A-Za-z0-9_]|[.,][0-9])")
GROUP = re.compile("[0-9]+")
MAX_GROUP = 7
# Issuer: first and last prefix, and the lengths of its numbers.
ISSUERS = (
    ("4", "4", (13, 16, 19)),  # Visa
    ("51", "55", (16,)),  # Mastercard
    ("2221", "2720", (16,)),
    ("34", "34", (15,)),  # American Express
    ("37", "37", (15,)),
    ("300", "305", (14, 16, 19)),  # Diners Club
    ("36", "36", (14, 16, 19)),
    ("38", "39", (14, 16, 19)),
    ("6011", "6011", (16, 19)),  # Discover
    ("644", "659", (16, 19)),
    ("3528", "3589", (16, 19)),  # JCB
    ("62", "62", (16, 17, 18, 19)),  # UnionPay
    ("81", "82", (16, 17, 18, 19)),  # UnionPay, RuPay
    ("2200", "2204", (16, 17, 18, 19)),  # Mir
    ("60", "60", (16,)),  # RuPay
    ("5018", "5018", (13, 14, 15, 16, 17, 18, 19)),  # Maestro
    ("5020", "5020", (13, 14, 15, 16, 17, 18, 19)),
    ("5038", "5038", (13, 14, 15, 16, 17, 18, 19)),
    ("5893", "5893", (13, 14, 15, 16, 17, 18, 19)),
    ("6304", "6304", (13, 14, 15, 16, 17, 18, 19)),
    ("6759", "6763", (13, 14, 15, 16, 17, 18, 19)),
)


def credit_cards(text: str) -> Iterator[tuple[int, int]]:
    """Card numbers of 13 to 19 digits with an issuer's prefix and a valid check digit (ISO/IEC 7812, Luhn)."""
    for run in GROUPS.finditer(text):
        if len(run[0]) >= 13:
            yield from _cards_in(run)


def _cards_in(run: re.Match[str]) -> Iterator[tuple[int, int]]:
    """Card numbers that begin and end at groups, the longest first; other numbers may precede or follow."""
    groups = list(GROUP.finditer(run.string, run.start(), run.end()))
    first = 0
    while first < len(groups):
        last = _card_from(groups, first)
        if last is not None:
            yield groups[first].start(), groups[last].end()
        first = first + 1 if last is None else last + 1


def _card_from(groups: list[re.Match[str]], first: int) -> int | None:
    digits, longest = "", None
    for last in range(first, min(len(groups), first + 7)):
        digits += groups[last][0]
        if len(digits) > 19 or (last > first and max(len(groups[first][0]), len(groups[last][0])) > MAX_GROUP):
            break
        if len(digits) >= 13 and _is_card(digits):
            longest = last
    return longest


def _is_card(digits: str) -> bool:
    issued = any(first <= digits[: len(first)] <= last and len(digits) in lengths for first, last, lengths in ISSUERS)
    return issued and luhn.is_valid(digits)


# --------------------------------------------------------------------------------------------------------------- ibans

IBAN_HEAD = re.compile(r"(?<![A-Za-z0-9])[A-Za-z]{2}[0-9]{2}(?=[ \u00a0.-]?[A-Za-z0-9])")
PART_LENGTH = re.compile("[0-9]+(?=!)")  # in the registry of ISO 13616, as in 4!a6!n8!n


def ibans(text: str) -> Iterator[tuple[int, int]]:
    """IBANs with the country's length and valid check digits (ISO 13616: modulo 97), spaced or not."""
    for head in IBAN_HEAD.finditer(text):
        length = iban_length(head[0][:2].upper())
        end = _iban_end(text, head.start(), length) if length else None
        if end is not None:
            yield head.start(), end


@functools.cache
def iban_length(country: str) -> int | None:
    """The length of a country's IBANs; None if the country has none."""
    _, entry = numdb.get("iban").info(country)[0]
    return 4 + sum(map(int, PART_LENGTH.findall(entry["bban"]))) if "bban" in entry else None


def _iban_end(text: str, start: int, length: int) -> int | None:
    """The end of this many letters and digits, with single gaps skipped; None if the check digits are wrong."""
    letters: list[str] = []
    position = start
    while len(letters) < length:
        if position < len(text) and text[position] in " \u00a0.-" and text[position - 1].isalnum():
            position += 1
        if position >= len(text) or not (text[position].isascii() and text[position].isalnum()):
            return None
        letters.append(text[position])
        position += 1
    follows = text[position : position + 1]
    ends = not (follows.isascii() and follows.isalnum())
    return position if ends and mod_97_10.is_valid("".join(letters[4:] + letters[:4])) else None


# ---------------------------------------------------------------------------------------------------------------- ssns

# With spaces, no other number may be next to it.
SSN = re.compile(
    r"(?<![\w-])(?<![0-9][.,/])(?!000|666|9)[0-9]{3}"
    r"(?:-(?!00)[0-9]{2}-|(?<![0-9] ...) (?!00)[0-9]{2} (?!0000)(?![0-9]{4} [0-9]))(?!0000)[0-9]{4}(?![\w-]|[.,/][0-9])"
)


def ssns(text: str) -> Iterator[tuple[int, int]]:
    """US social security numbers, hyphenated or spaced, in the ranges that are issued."""
    return (match.span() for match in SSN.finditer(text))

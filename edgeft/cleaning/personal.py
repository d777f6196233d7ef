"""Personal data: detected by kind, and replaced by typed placeholders that are stable within a text.

Values are counted and never shown: no error and no report quotes one.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Sequence
from functools import partial

from edgeft.cleaning import credentials, placeholders
from edgeft.cleaning.contacts import check_region, emails, ip_addresses, phones
from edgeft.cleaning.money import credit_cards, ibans, ssns
from edgeft.cleaning.placeholders import Found
from edgeft.cleaning.settle import Step, settle

Detector = Callable[[str, str], Iterator[tuple[int, int]]]

KINDS = ("email", "phone", "credit_card", "iban", "ip_address", "ssn", "secret")
# The most specific kind first: it wins if two kinds match equally long values.
DETECTORS: dict[str, Detector] = {
    "secret": lambda text, region: credentials.find(text),
    "email": lambda text, region: emails(text),
}
IN_DIGITS: dict[str, Detector] = {
    "iban": lambda text, region: ibans(text),
    "credit_card": lambda text, region: credit_cards(text),
    "ssn": lambda text, region: ssns(text),
    "ip_address": lambda text, region: ip_addresses(text),
    "phone": phones,
}
DIGIT = re.compile(r"\d")


def find(text: str, kinds: Collection[str] = KINDS, region: str = "US") -> list[Found]:
    """The personal data of a text, in order and without overlaps; the longest value wins.

    Args:
        text: any string; its placeholders are skipped.
        kinds: of `KINDS`.
        region: country whose phone numbers need no prefix.
    """
    # Most texts have no digit, and then most kinds take no time.
    detectors = DETECTORS | IN_DIGITS if DIGIT.search(text) else DETECTORS
    candidates = [
        Found(kind, start, end)
        for kind, detector in detectors.items()
        if kind in kinds
        for start, end in detector(text, region)
    ]
    return placeholders.apart(text, candidates) if candidates else []


def anonymise(text: str, kinds: Collection[str] = KINDS, region: str = "US") -> str:
    """The text with personal data replaced by `[EMAIL_1]`, `[PHONE_1]`, ..."""
    return settle(partial(_replace_once, kinds=kinds, region=region), text, lambda text: text)


def _replace_once(text: str, kinds: Collection[str], region: str) -> str:
    items = find(text, kinds, region)
    return placeholders.replace(text, items) if items else text


def anonymiser(kinds: Sequence[str], region: str) -> Step:
    """A function that anonymises a text for a fixed choice of kinds.

    Raises:
        MissingExtraError: kind `phone` is chosen and phonenumbers isn't installed.
        RecipeError: an unknown region.
    """
    if "phone" in kinds:
        check_region(region)
    return partial(anonymise, kinds=frozenset(kinds), region=region)


def count(items: Sequence[Found]) -> dict[str, int]:
    """The number of items of each kind that occurs."""
    return dict(Counter(item.kind for item in items))

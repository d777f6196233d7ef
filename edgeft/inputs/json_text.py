"""Untrusted JSON: decoded only if its nesting and its numbers are within limits."""

from __future__ import annotations

import re
from typing import Any

import msgspec

from edgeft.inputs.limits import LIMITS, Limits

MARKS = re.compile(r'"(?:[^"\\]++|\\.)*+"?|[\[\]{}]', re.DOTALL)  # a whole string, or a bracket
STRINGS = re.compile(r'"(?:[^"\\]++|\\.)*+"?', re.DOTALL)


class BadJson(ValueError):
    """A text that isn't JSON, or JSON beyond a limit; phrased to follow "row 3", with details in brackets."""


def decode(text: str, limits: Limits = LIMITS) -> Any:
    """The value of a JSON text.

    Args:
        text: from anywhere.
        limits: of nesting and digits.

    Raises:
        BadJson: not JSON, or beyond a limit.
        UnicodeEncodeError: an unpaired surrogate.
    """
    if text.count("[") + text.count("{") > limits.max_nesting and depth(text, limits.max_nesting) > limits.max_nesting:
        nests = f"lists or objects nest more than {limits.max_nesting} deep"
        raise BadJson(f"is not JSON within limits ({nests}: {limits.flag('max_nesting', 'N')})")
    if len(text) > limits.max_digits and _has_long_number(text, limits.max_digits):
        long = f"a number has more than {limits.max_digits} digits"
        raise BadJson(f"is not JSON within limits ({long}: {limits.flag('max_digits', 'N')})")
    try:
        return msgspec.json.decode(text)
    except (msgspec.DecodeError, RecursionError) as error:
        raise BadJson(f"is not JSON ({error})") from None


def depth(text: str, enough: int) -> int:
    """The nesting depth of lists and objects, counted up to `enough` + 1; brackets in strings don't count."""
    level = deepest = 0
    for mark in MARKS.finditer(text):
        sign = mark.group()
        if sign in ("[", "{"):
            level += 1
            deepest = max(deepest, level)
            if deepest > enough:
                break
        elif sign in ("]", "}"):
            level -= 1
    return deepest


def _has_long_number(text: str, digits: int) -> bool:
    # Any longer run of digits covers one of these positions: a cheap test before the search.
    if not any(map(str.isdigit, text[digits :: digits + 1])):
        return False
    run = re.compile(rf"[0-9]{{{digits + 1}}}")
    return bool(run.search(text)) and bool(run.search(STRINGS.sub('""', text)))

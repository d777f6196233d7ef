"""Detectors of e-mail addresses, phone numbers and IP addresses; each yields (start, end)."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterator
from typing import Any

from edgeft.errors import RecipeError, require

# -------------------------------------------------------------------------------------------------------------- emails

# In scripts without spaces a sentence would become part of an address.
_NO_SPACES = "\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af"
LOCAL_BACKWARDS = re.compile(rf"(?:[^\W{_NO_SPACES}]|[.%+'\-])+")
DOMAIN = re.compile(rf"(?:[^\W_{_NO_SPACES}]|-)++(?:\.(?:[^\W_{_NO_SPACES}]|-)++)++")
MAX_LOCAL, MAX_DOMAIN = 64, 253


def emails(text: str) -> Iterator[tuple[int, int]]:
    """E-mail addresses, matched from each @ outwards, so that a long word takes no time."""
    at_sign = text.find("@")
    while at_sign >= 0:
        local = LOCAL_BACKWARDS.match(text[max(0, at_sign - MAX_LOCAL) : at_sign][::-1])
        domain = DOMAIN.match(text, at_sign + 1, at_sign + 1 + MAX_DOMAIN)
        start = at_sign - len(local[0][::-1].lstrip("._%+'-")) if local else at_sign
        end = at_sign + 1 + (_domain_length(domain[0]) if domain else 0)
        if start < at_sign < end - 1:
            yield start, end
        at_sign = text.find("@", at_sign + 1)


def _domain_length(written: str) -> int:
    """Length up to the last label that can be a top-level domain; 0 if none can."""
    labels = written.rstrip("-").split(".")
    while len(labels) > 1 and not _top_level(labels[-1]):
        labels.pop()
    return len(".".join(labels)) if len(labels) > 1 else 0


def _top_level(label: str) -> bool:
    return len(label) > 1 and (label.isalpha() or label.lower().startswith("xn--"))


# -------------------------------------------------------------------------------------------------------------- phones

PURPOSE = "to find phone numbers"
CONTEXT = 20  # characters before a number in which a word may say what it is
DIGIT_RUN = re.compile(r"[+\uff0b(]{0,2}\d[\d \t\u00a0().+/\-\u2010-\u2015\u2212]*+")
MIN_DIGITS = 7
MAX_BLOCK = re.compile(r"\d{18,}")  # no phone number has this many consecutive digits
_YEAR, _MONTH_OR_DAY = r"(?:19|20)\d\d", r"[0-3]?\d"
# A date, also with the hours of a time after it.
DATE = re.compile(
    rf"(?<!\d)(?:{_YEAR}([-/.]){_MONTH_OR_DAY}\1{_MONTH_OR_DAY}|{_MONTH_OR_DAY}([-/.]){_MONTH_OR_DAY}\2{_YEAR})"
    r"(?:[ T]+\d\d(?=:))?(?!\d)"
)
# Ten consecutive digits are as often an order number, so a word before them must say that they are a phone's.
CALLED = re.compile(
    r"\b(?:phones?|tel|telephone|mobile|cell|call|ring|dial|fax|sms|text|whatsapp|contact|reach)\b[^\d\n]*\Z", re.I
)


def phones(text: str, region: str) -> Iterator[tuple[int, int]]:
    """Valid phone numbers with a country's prefix, and those of the region without one.

    A cheap search for digits comes first: texts without seven digits close together take no more time.
    """
    for run in DIGIT_RUN.finditer(text):
        if sum(map(str.isdigit, run[0])) >= MIN_DIGITS:
            yield from _valid_phones(text, run.start(), run.end(), region)


def _valid_phones(text: str, start: int, end: int, region: str) -> Iterator[tuple[int, int]]:
    phonenumbers: Any = require("phonenumbers", PURPOSE)
    # Letters next to a number decide whether it is a phone number.
    first = max(0, start - 2)
    window = text[first : end + 2]
    for other in (MAX_BLOCK, DATE):
        window = other.sub(lambda block: "x" * len(block[0]), window)
    for match in phonenumbers.PhoneNumberMatcher(window, region.upper()):
        position = first + match.start
        if not match.raw_string.isdigit() or CALLED.search(text, max(0, position - CONTEXT), position):
            yield position, first + match.end


def check_region(region: str) -> None:
    """Check that phone numbers of a region can be found.

    Raises:
        MissingExtraError: phonenumbers is not installed.
        RecipeError: no such region.
    """
    regions = require("phonenumbers", PURPOSE).SUPPORTED_REGIONS
    if region.upper() not in regions:
        raise RecipeError(f"cleaning: unknown region {region!r} for phone numbers; use a country's two letters, as US")


# -------------------------------------------------------------------------------------------------------- ip addresses

IPV4 = re.compile(r"(?<![\w.])(?:[0-9]{1,3}\.){3}[0-9]{1,3}(?!\w|\.[0-9])")
IPV6_RUN = re.compile(r"[0-9A-Fa-f:.]{3,}+")
VERSION_BEFORE = re.compile(
    r"(?:\b(?:version|ver|v|release|build|firmware|revision|rev|section|sec|chapter|clause|paragraph|figure|table)\.?"
    r"|§)\W{0,2}\Z",
    re.I,
)
ADDRESS_BEFORE = re.compile(r"\b(?:ip|ipv4|address|addr|host|server|dns|ping|gateway|from)\W{0,3}(?:is\s)?\Z", re.I)


def ip_addresses(text: str) -> Iterator[tuple[int, int]]:
    """IPv4 and IPv6 addresses; numbers of versions and sections aren't matched."""
    if text.count(".") >= 3:
        yield from (match.span() for match in IPV4.finditer(text) if _is_ipv4(text, match))
    if text.count(":") >= 2:
        for run in IPV6_RUN.finditer(text):
            yield from _ipv6(text, run.start(), run.end())


def _is_ipv4(text: str, match: re.Match[str]) -> bool:
    try:
        address = ipaddress.IPv4Address(match[0])
    except ValueError:
        return False
    before = text[max(0, match.start() - CONTEXT) : match.start()]
    if VERSION_BEFORE.search(before) or (address.packed[0] == 0 and match[0] != "0.0.0.0"):
        return False
    # Four single digits are an address only if the context says so.
    return len(match[0]) > 7 or bool(ADDRESS_BEFORE.search(before)) or text[match.end() : match.end() + 1] in (":", "/")


def _ipv6(text: str, start: int, end: int) -> Iterator[tuple[int, int]]:
    """The IPv6 address in a run of hexadecimal digits, colons and dots; None if there is none."""
    if text[start] == ":" and text[start : start + 2] != "::":
        start += 1
    elif start and (text[start - 1].isalnum() or text[start - 1] == "_"):
        return
    end = start + len(text[start:end].rstrip("."))
    if text[end - 1] == ":" and text[end - 2 : end] != "::":
        end -= 1
    follows = text[end : end + 1]
    if text.count(":", start, end) >= 2 and not (follows.isalnum() or follows == "_") and _is_ipv6(text[start:end]):
        yield start, end


def _is_ipv6(written: str) -> bool:
    """Whether it is an address, not a time, a verse or a name in a programming language."""
    groups = [group for group in written.split(":") if group]
    if len(written) > 45 or not any(map(str.isdigit, written)) or not groups:
        return False
    if len(groups) < 3 and written != "::1" and max(map(len, groups)) < 3:
        return False
    try:
        ipaddress.IPv6Address(written)
    except ValueError:
        return False
    return True

"""Detector of secrets: keys and tokens by their issuers' prefixes, private keys, and values named as secrets.

Patterns ignore case, as a text may have been lowercased before.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterator

DIGIT = re.compile("[0-9]")
_KEY = "[A-Za-z0-9]"
_KEY_ = r"[\w-]"
SHORTEST = 20  # characters of the shortest token below
# Each pattern with a word that a text must contain before the pattern is tried.
TOKENS = {
    word: re.compile(rf"(?<![\w-])(?:{pattern})(?![A-Za-z0-9])", re.I | re.ASCII)
    for words, pattern in (
        ("akia asia", f"(?:akia|asia)(?=[A-Z]*[0-9]){_KEY}{{16}}"),
        ("ghp_ gho_ ghu_ ghs_ ghr_", f"gh[pousr]_{_KEY}{{30,}}+"),
        ("github_pat_", r"github_pat_\w{22,}+"),
        ("glpat-", f"glpat-{_KEY_}{{20,}}+"),
        ("xoxa- xoxb- xoxe- xoxp- xoxr- xoxs-", f"xox[abeprs]-(?=[a-z-]*[0-9]){_KEY_}{{15,}}+"),
        ("xapp-", f"xapp-(?=[a-z-]*[0-9]){_KEY_}{{15,}}+"),
        ("hooks.slack.com", r"hooks\.slack\.com/services/[\w/]{20,120}"),
        ("aiza", f"AIza{_KEY_}{{35}}"),
        ("gocspx-", f"gocspx-{_KEY_}{{28}}"),
        ("ya29.", rf"ya29\.{_KEY_}{{20,}}+"),
        ("sk_live_ sk_test_ rk_live_ rk_test_", f"[rs]k_(?:live|test)_{_KEY}{{16,}}+"),
        ("whsec_", f"whsec_{_KEY}{{24,}}+"),
        ("sk-", f"sk-(?=[a-z_-]*[0-9]){_KEY_}{{20,}}+"),
        ("hf_", f"hf_{_KEY}{{30,64}}"),
        ("npm_", f"npm_{_KEY}{{36}}"),
        ("pypi-", f"pypi-{_KEY_}{{50,}}+"),
        ("sg.", rf"sg\.{_KEY_}{{16,64}}\.{_KEY_}{{16,64}}"),
        ("dop_v1_", "dop_v1_[0-9a-f]{64}"),
        ("eyj", rf"eyJ{_KEY_}{{10,}}+\.eyJ{_KEY_}{{2,}}+\.{_KEY_}*+"),
    )
    for word in words.split()
}
PRIVATE_KEY = re.compile(
    r"-----BEGIN [A-Z0-9 ]{0,40}PRIVATE KEY(?: BLOCK)?-----"
    r"(?:(?:[^-]|-(?!----))*+-----END [A-Z0-9 ]{0,40}PRIVATE KEY(?: BLOCK)?-----|(?:\s*+[A-Za-z0-9+/=]{30,})*+)",
    re.I,
)
# User and password before a host.
IN_ADDRESS = re.compile(r"://[^\s:/@]{1,64}:([^\s:/@]{3,128})@")
CALLED = re.compile(
    r"(?:password|passwd|passphrase|pwd|secret|token|credential|(?:api|access|secret|private|auth|account)[_ -]?key)"
    r"""["']?[ \t]{0,3}(?::=|=>|[:=])[ \t]{0,3}["']?([^\s"'<>\[\]{},;]{8,})""",
    re.I,
)
BEARER = re.compile(r"\bbearer[ \t]+([\w.~+/=-]{20,})", re.I)
CALLS = ("passw", "passphrase", "pwd", "secret", "token", "credential", "key", "bearer")
MIN_BITS = 2.75


def find(text: str) -> Iterator[tuple[int, int]]:
    """Secrets, as (start, end) of the value alone."""
    if "-----" in text:
        yield from (match.span() for match in PRIVATE_KEY.finditer(text))
    if "://" in text and "@" in text:
        yield from (match.span(1) for match in IN_ADDRESS.finditer(text))
    lower = text.lower()
    for word, pattern in TOKENS.items() if max(map(len, text.split()), default=0) >= SHORTEST else ():
        if word in lower:
            yield from (match.span() for match in pattern.finditer(text))
    if DIGIT.search(text):
        for pattern in (CALLED, BEARER) if any(map(lower.__contains__, CALLS)) else ():
            yield from _find_named_values(pattern, text)


def _find_named_values(pattern: re.Pattern[str], text: str) -> Iterator[tuple[int, int]]:
    for match in pattern.finditer(text):
        value = match[1].rstrip(".!?:)")
        if looks_random(value):
            yield match.start(1), match.start(1) + len(value)


def looks_random(value: str) -> bool:
    """Whether letters and digits are mixed as in no word: at least 8 characters with an entropy of 2.75 bits each."""
    mixed = any(map(str.isdigit, value)) and any(map(str.isalpha, value))
    return len(value) >= 8 and mixed and bits(value) >= MIN_BITS


def bits(value: str) -> float:
    """Shannon entropy of the characters [bits per character]: sum of -p log2 p."""
    shares = [number / len(value) for number in Counter(value).values()]
    return -sum(share * math.log2(share) for share in shares)

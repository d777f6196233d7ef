"""Words from elsewhere on a terminal: labels, texts, file names and other machines' lines are shown, never obeyed."""

from __future__ import annotations

import sys
import unicodedata

from edgeft import ranks

# Control codes, marks that reorder or hide what follows, halves of a pair, separators of lines.
ACTING = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})
HARMLESS = frozenset("\n\t\u200c\u200d")  # lines, columns, and how some scripts join their letters


def printable(text: str) -> str:
    """A text whose control sequences are written as escapes, as in \\x1b[31m."""
    return text if text.isprintable() else "".join(map(_shown, text))


def _shown(mark: str) -> str:
    if mark in HARMLESS or unicodedata.category(mark) not in ACTING:
        return mark
    return ascii(mark)[1:-1]


def visible(text: str) -> str:
    """A text as one line whose every mark is seen: what would be acted on or not be seen is written as an escape."""
    return "".join(mark if mark.isprintable() else ascii(mark)[1:-1] for mark in text)


def say(text: str) -> None:
    """One plain line on stderr; of several processes that train together the first one talks."""
    if ranks.is_main():
        sys.stderr.write(f"{printable(text)}\n")  # one write: two threads' prints can share a line
        sys.stderr.flush()

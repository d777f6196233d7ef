"""Words from elsewhere on a terminal: labels, texts, file names and other machines' lines are shown, never obeyed."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable

from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment

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


class WordConsole(Console):
    """A console that takes words for words: no markup such as [red], no emoji by name, no control sequences in them."""

    def __init__(self, stderr: bool = False) -> None:
        super().__init__(stderr=stderr, highlight=False, markup=False, emoji=False)

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        """As `Console.render`; colours are not part of a segment's text."""
        for segment in super().render(renderable, options):
            yield segment if segment.control else segment._replace(text=printable(segment.text))

"""Progress of long work: a live bar on a terminal, plain lines otherwise, always on stderr."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Iterator, Sized
from types import TracebackType
from typing import TypeVar

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from edgeft import ranks
from edgeft.printing import WordConsole, printable

T = TypeVar("T")

PLAIN_SECONDS = 10.0  # between two plain lines of one bar


def console() -> Console:
    """A console on today's stderr (looked up late, so that a test's capture sees it)."""
    return WordConsole(stderr=True)


def say(text: str) -> None:
    """One plain line on stderr; of several processes that train together the first one talks."""
    if ranks.is_main():
        sys.stderr.write(f"{printable(text)}\n")  # one write: two threads' prints can share a line
        sys.stderr.flush()


class Bar:
    """A progress bar with the metric that matters.

    Used as a context manager; `advance` counts steps, `show` changes the text at its end.

    Args:
        title: what is going on, as in "distill".
        total: the number of steps, None where unknown.
    """

    def __init__(self, title: str, total: int | None) -> None:
        self.title = title
        self.total = total
        self.done = 0
        self.note = ""
        self._console = console()
        self._live: Progress | None = None
        self._last_line = time.monotonic()
        if self._console.is_terminal and ranks.is_main():
            self._live = Progress(
                TextColumn("{task.description}", style="bold", markup=False),
                BarColumn(),
                MofNCompleteColumn(),
                TimeElapsedColumn(),
                TimeRemainingColumn(),
                TextColumn("{task.fields[note]}", markup=False),
                console=self._console,
            )
            self._task = self._live.add_task(title, total=total, note="")

    def __enter__(self) -> Bar:
        if self._live:
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live:
            self._live.stop()
        elif error is None:
            self._line()

    def advance(self, steps: int = 1) -> None:
        """Count `steps` more steps."""
        self.done += steps
        if self._live:
            self._live.update(self._task, completed=self.done)
        elif time.monotonic() - self._last_line > PLAIN_SECONDS:
            self._line()

    def show(self, note: str) -> None:
        """Change the text at the end of the bar, as in "loss 0.31"."""
        self.note = note
        if self._live:
            self._live.update(self._task, note=note)

    def _line(self) -> None:
        self._last_line = time.monotonic()
        of = f"/{self.total}" if self.total is not None else ""
        say(f"{self.title}: {self.done}{of} {self.note}".rstrip())


def track(items: Iterable[T], title: str, total: int | None = None) -> Iterator[T]:
    """Yield the items and count them on a bar."""
    if total is None and isinstance(items, Sized):
        total = len(items)
    with Bar(title, total) as bar:
        for item in items:
            yield item
            bar.advance()

"""Progress of long work: a live bar on a terminal, plain lines otherwise, always on stderr."""

from __future__ import annotations

import contextlib
import time
from abc import ABC, abstractmethod
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
from edgeft.terminal.console import WordConsole
from edgeft.terminal.printing import say

__all__ = ["Bar", "Whole", "about", "console", "part_of", "say", "track"]

T = TypeVar("T")

PLAIN_SECONDS = 10.0  # between two plain lines of one bar
WHOLE_SECONDS = 1.0  # between two looks at how long a whole run takes


def console() -> Console:
    """A console on today's stderr (looked up late, so that a test's capture sees it)."""
    return WordConsole(stderr=True)


def about(seconds: float) -> str:
    """A length of time as one would say it, as in "about 12 min"."""
    if seconds < 60:
        return "less than a minute"
    minutes = round(seconds / 60)
    return f"about {minutes} min" if minutes < 90 else f"about {minutes / 60:.1f} h"


class Whole(ABC):
    """A run of several stages, of which bars show a part."""

    name: str = ""
    started: float = 0.0

    @property
    @abstractmethod
    def where(self) -> str:
        """As "stage 3 of 10"."""

    @abstractmethod
    def left(self, title: str, done: int, total: int | None, seconds: float) -> str:
        """As "about 12 min left"; empty where nobody can know.

        Args:
            title: of a bar that moves.
            done: of its steps, since it began.
            total: steps that it had to do then.
            seconds: since it began.
        """


_wholes: list[Whole] = []


@contextlib.contextmanager
def part_of(whole: Whole) -> Iterator[None]:
    """The bars inside say where the whole run stands."""
    _wholes.append(whole)
    try:
        yield
    finally:
        _wholes.remove(whole)


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
        self._begun, self._first, self._paced = time.monotonic(), 0, False
        self._whole, self._looked = "", -WHOLE_SECONDS
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
                TextColumn("{task.fields[whole]}", style="dim", markup=False),
                console=self._console,
            )
            self._task = self._live.add_task(title, total=total, note="", whole="")

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
        if not self._paced:  # the first step also loads and warms up
            self._paced, self._first, self._begun = True, self.done, time.monotonic()
        if self._live:
            self._live.update(self._task, completed=self.done, whole=self._of_whole())
        elif time.monotonic() - self._last_line > PLAIN_SECONDS:
            self._line()

    def resume(self, done: int) -> None:
        """Begin after steps that an earlier process did; they say nothing about the pace."""
        if done:
            self.advance(done)
            self._paced = False

    def _of_whole(self) -> str:
        """Where the whole run stands, looked at now and then."""
        now = time.monotonic()
        if _wholes and now - self._looked >= WHOLE_SECONDS:
            self._looked = now
            total = None if self.total is None else self.total - self._first
            left = _wholes[-1].left(self.title, self.done - self._first, total, now - self._begun)
            self._whole = f"{_wholes[-1].where}, {left}" if left else _wholes[-1].where
        return self._whole

    def show(self, note: str) -> None:
        """Change the text at the end of the bar, as in "loss 0.31"."""
        self.note = note
        if self._live:
            self._live.update(self._task, note=note)

    def _line(self) -> None:
        self._last_line = time.monotonic()
        of = f"/{self.total}" if self.total is not None else ""
        ended = self.total is not None and self.done >= self.total
        run_text = "" if ended else self._of_whole()
        say(f"{self.title}: {self.done}{of} {self.note}".rstrip() + (f" ({run_text})" if run_text else ""))


def track(items: Iterable[T], title: str, total: int | None = None) -> Iterator[T]:
    """Yield the items and count them on a bar."""
    if total is None and isinstance(items, Sized):
        total = len(items)
    with Bar(title, total) as bar:
        for item in items:
            yield item
            bar.advance()

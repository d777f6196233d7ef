"""Subjects for the harness's tests: functions that take a known time."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from typing import Any


class Waits:
    """Answers after so many seconds; every so often, by the clock, it stalls."""

    def __init__(self, seconds: float, stall: float = 0.0, every: float = 0.0) -> None:
        self.seconds, self.stall, self.every = seconds, stall, every
        self.next = time.perf_counter() + every

    def __call__(self, text: str) -> dict[str, Any]:
        end = time.perf_counter() + self.seconds
        if self.stall and time.perf_counter() >= self.next:
            self.next += self.every
            end += self.stall
        while time.perf_counter() < end:
            pass
        return {"label": "positive" if len(text) > 3 else "negative", "score": 0.75}

    def labelled(self, answer: dict[str, Any]) -> tuple[str, float]:
        return answer["label"], answer["score"]


class Together(Waits):
    """Several texts a call, each as long as one."""

    def many(self, texts: list[str]) -> list[dict[str, Any]]:
        return [self(text) for text in texts]


def together(seconds: float) -> Together:
    """Several texts a call."""
    return Together(seconds)


def waits(seconds: float = 0.001, stall: float = 0.0, every: float = 0.0, threads: int = 1) -> Waits:
    """As the command line opens it, and as tests do."""
    return Waits(seconds, stall, every)


class Named(Waits):
    """Says something under `labels`."""

    def __init__(self, labels: Any) -> None:
        super().__init__(0.0)
        self.own = labels

    def facts(self) -> dict[str, Any]:
        return {"labels": self.own}


def named(labels: Any) -> Named:
    """As a function of a user's."""
    return Named(labels)


def sleeps(seconds: float) -> Callable[[str], None]:
    """Waits without the interpreter."""
    return lambda text: time.sleep(seconds)


def third(threads: int = 1) -> Callable[[str], None]:
    """Fails at the third text."""
    asked: list[str] = []

    def answer(text: str) -> None:
        asked.append(text)
        if len(asked) == 3:
            raise ValueError("the third")

    return answer


def talks(threads: int = 1) -> Callable[[str], int]:
    """Prints where answers go."""
    print("loading on standard output")
    return lambda text: print(text) or len(text)


def breaks(threads: int = 1) -> Callable[[str], None]:
    """Can't be opened."""
    raise ValueError("no weights\nin this folder")


def dies(threads: int = 1) -> Callable[[str], None]:
    """Ends its process at the second text."""
    asked: list[str] = []

    def answer(text: str) -> None:
        asked.append(text)
        if len(asked) > 1:
            print("out of memory", file=sys.stderr, flush=True)
            os._exit(9)

    return answer

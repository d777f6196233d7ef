"""Who follows a training: trackers that keep its figures, a search that ends it early."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path

from edgeft.recipe import TrainingConfig


@dataclass(frozen=True)
class Training:
    """What is known of a training when it starts.

    Attributes:
        title: the stage, as in `finetune`.
        config: its options.
        steps: optimizer steps of the whole training.
        steps_per_epoch: of a whole epoch.
        evaluate_every: steps between two looks at the validation split.
        done: steps done already; more than 0 where it goes on from a checkpoint.
        out_dir: its stage's folder.
    """

    title: str
    config: TrainingConfig
    steps: int
    steps_per_epoch: int
    evaluate_every: int
    done: int
    out_dir: Path

    def look(self, step: int) -> int:
        """The number, from 1, of the look after a step."""
        return -(-step // self.evaluate_every)


class Watcher:
    """Somebody who follows; every method may be left out, and may raise to end the training.

    A training that goes on from a checkpoint tells the steps after the checkpoint once more.
    """

    def start(self, training: Training) -> None:
        """The training starts, or goes on."""

    def logged(self, step: int, values: Mapping[str, float]) -> None:
        """A step is done: its loss and learning rate."""

    def looked(self, step: int, metrics: Mapping[str, float]) -> None:
        """The validation split was looked at; `score` leads."""

    def ended(self) -> None:
        """The training ended, however it did."""


_watchers: ContextVar[tuple[Watcher, ...]] = ContextVar("watchers", default=())


@contextlib.contextmanager
def watching(*watchers: Watcher) -> Iterator[None]:
    """Whatever trains inside is followed by these watchers too."""
    token = _watchers.set((*_watchers.get(), *watchers))
    try:
        yield
    finally:
        _watchers.reset(token)


@contextlib.contextmanager
def following(training: Training) -> Iterator[None]:
    """Tell all watchers of the start, and those who heard of it of the end."""
    with contextlib.ExitStack() as stack:
        for watcher in _watchers.get():
            watcher.start(training)
            stack.callback(watcher.ended)
        yield


def logged(step: int, values: Mapping[str, float]) -> None:
    """Tell all watchers of a step."""
    for watcher in _watchers.get():
        watcher.logged(step, values)


def looked(step: int, metrics: Mapping[str, float]) -> None:
    """Tell all watchers of a look."""
    for watcher in _watchers.get():
        watcher.looked(step, metrics)

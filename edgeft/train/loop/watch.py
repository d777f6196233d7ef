"""Watchers of a training: trackers that record its figures, a search that ends it early."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path

from edgeft.recipe import TrainingConfig


@dataclass(frozen=True)
class Training:
    """The facts of a training when it starts.

    Attributes:
        title: the stage, such as `finetune`.
        config: its options.
        steps: optimizer steps of the full training.
        steps_per_epoch: of a full epoch.
        evaluate_every: steps between two evaluations on the validation split.
        done: steps done already; more than 0 if it resumes from a checkpoint.
        out_dir: the folder of its stage.
    """

    title: str
    config: TrainingConfig
    steps: int
    steps_per_epoch: int
    evaluate_every: int
    done: int
    out_dir: Path

    def evaluation_number(self, step: int) -> int:
        """The number, from 1, of the evaluation after a step."""
        return -(-step // self.evaluate_every)


class Watcher:
    """Gets the events of a training; every method is optional, and may raise to end the training.

    A training that resumes from a checkpoint repeats the events of the steps after the checkpoint.
    """

    def on_start(self, training: Training) -> None:
        """The training starts or resumes."""

    def on_step(self, step: int, values: Mapping[str, float]) -> None:
        """A step is done: its loss and learning rate."""

    def on_evaluation(self, step: int, metrics: Mapping[str, float]) -> None:
        """The model was evaluated on the validation split; `score` decides which is best."""

    def on_end(self) -> None:
        """The training ended, by success or failure."""


_watchers: ContextVar[tuple[Watcher, ...]] = ContextVar("watchers", default=())


@contextlib.contextmanager
def watch_with(*watchers: Watcher) -> Iterator[None]:
    """Add watchers to every training inside the context."""
    token = _watchers.set((*_watchers.get(), *watchers))
    try:
        yield
    finally:
        _watchers.reset(token)


@contextlib.contextmanager
def notify_watchers(training: Training) -> Iterator[None]:
    """Tell all watchers of the start, and those that were told of the end."""
    with contextlib.ExitStack() as stack:
        for watcher in _watchers.get():
            watcher.on_start(training)
            stack.callback(watcher.on_end)
        yield


def report_step(step: int, values: Mapping[str, float]) -> None:
    """Tell all watchers of a step."""
    for watcher in _watchers.get():
        watcher.on_step(step, values)


def report_evaluation(step: int, metrics: Mapping[str, float]) -> None:
    """Tell all watchers of an evaluation."""
    for watcher in _watchers.get():
        watcher.on_evaluation(step, metrics)

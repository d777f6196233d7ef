"""Who follows a training hears of every step and look, and may end it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from edgeft.recipe import FinetuneConfig, TrainingConfig
from edgeft.train.finetune import run as finetune
from edgeft.train.loop import watch
from edgeft.train.loop.watch import Training, Watcher, watch_with

QUICK: dict[str, Any] = {"epochs": 0.5, "batch_size": 16, "max_length": 16, "seed": 1, "method": "full"}


class Diary(Watcher):
    def __init__(self, stop_at: int | None = None) -> None:
        self.stop_at, self.lines = stop_at, []

    lines: list[tuple[Any, ...]]

    def on_start(self, training: Training) -> None:
        self.lines.append(("start", training.done, training.steps))

    def on_step(self, step: int, values: Mapping[str, float]) -> None:
        self.lines.append(("step", step, sorted(values)))
        if step == self.stop_at:
            raise InterruptedError

    def on_evaluation(self, step: int, metrics: Mapping[str, float]) -> None:
        self.lines.append(("look", step, metrics["score"]))

    def on_end(self) -> None:
        self.lines.append(("ended",))


def test_a_watcher_hears_of_every_step_and_look_in_order(data: Path, tiny_model: Path, tmp_path: Path) -> None:
    diary = Diary()
    inputs = {"data": data, "model": tiny_model}
    config = FinetuneConfig(model=str(tiny_model), **QUICK)
    with watch_with(diary):
        done = finetune(config, inputs, tmp_path / "one")
    steps = done.metrics["steps"]
    assert diary.lines[0] == ("start", 0, steps)
    assert diary.lines[-1] == ("ended",)
    assert [line[1] for line in diary.lines if line[0] == "step"] == list(range(1, steps + 1))
    assert diary.lines[1][2] == ["learning_rate", "loss", "step"]
    assert diary.lines[-2][:2] == ("look", steps)
    # Whoever watched no longer does, and watching changed nothing of the result.
    heard = len(diary.lines)
    assert finetune(config, inputs, tmp_path / "two").digest == done.digest
    assert len(diary.lines) == heard


def test_a_watcher_ends_a_training_which_then_goes_on_from_its_checkpoint(
    data: Path, tiny_model: Path, tmp_path: Path
) -> None:
    inputs = {"data": data, "model": tiny_model}
    config = FinetuneConfig(model=str(tiny_model), checkpoint_steps=3, **QUICK)
    first, second, other = Diary(stop_at=5), Diary(), Diary()
    with watch_with(other), watch_with(first), pytest.raises(InterruptedError):
        finetune(config, inputs, tmp_path / "one")
    assert first.lines[-1] == other.lines[-1] == ("ended",)
    assert not (tmp_path / "one" / "stage.json").exists()
    with watch_with(second):
        resumed = finetune(config, inputs, tmp_path / "one")
    assert second.lines[0] == ("start", 3, resumed.metrics["steps"])
    assert second.lines[1][:2] == ("step", 4)
    assert resumed.digest == finetune(config, inputs, tmp_path / "two").digest


def test_a_watcher_that_refuses_to_start_leaves_the_others_told_of_the_end(tmp_path: Path) -> None:
    class Refuses(Watcher):
        def on_start(self, training: Training) -> None:
            raise InterruptedError

    diary, never = Diary(), Diary()
    training = Training("test", TrainingConfig(), 10, 5, 2, 0, tmp_path)
    with watch_with(diary, Refuses(), never), pytest.raises(InterruptedError), watch.notify_watchers(training):
        pytest.fail("started")
    assert diary.lines == [("start", 0, 10), ("ended",)]
    assert never.lines == []


def test_looks_are_counted_from_one_and_the_last_may_come_early(tmp_path: Path) -> None:
    training = Training("test", TrainingConfig(), 11, 5, 4, 0, tmp_path)
    assert [training.evaluation_number(step) for step in (4, 8, 11)] == [1, 2, 3]

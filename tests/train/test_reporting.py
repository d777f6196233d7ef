"""`report_to`: what trackers get, across a kill, and that the result doesn't change by it."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from edgeft.errors import RecipeError
from edgeft.recipe import DistillConfig, FinetuneConfig, PruneConfig, TrainingConfig
from edgeft.train.finetune import run as finetune
from edgeft.train.loop import reporting, watch
from edgeft.train.loop.watch import Training, Watcher, watch_with

QUICK: dict[str, Any] = {"epochs": 0.5, "batch_size": 16, "max_length": 16, "seed": 1, "method": "full"}


class DiesAt(Watcher):
    def __init__(self, step: int) -> None:
        self.step = step

    def on_step(self, step: int, values: Any) -> None:
        if step == self.step:
            raise KeyboardInterrupt


def read(folder: Path) -> EventAccumulator:
    found = EventAccumulator(str(folder), size_guidance={"scalars": 0})
    found.Reload()
    return found


def curve(events: EventAccumulator, name: str) -> list[tuple[int, float]]:
    return [(event.step, event.value) for event in events.Scalars(name)]


def history(folder: Path, key: str) -> list[tuple[int, Any]]:
    rows = [json.loads(line) for line in (folder / "history.jsonl").read_text().splitlines()]
    return [(row["step"], pytest.approx(row[key], rel=1e-6)) for row in rows if key in row]


@pytest.fixture(scope="module")
def inputs(data: Path, tiny_model: Path) -> dict[str, Path]:
    return {"data": data, "model": tiny_model}


@pytest.fixture(scope="module")
def config(tiny_model: Path) -> FinetuneConfig:
    return FinetuneConfig(model=str(tiny_model), checkpoint_steps=3, report_to=["tensorboard"], **QUICK)


def test_tensorboard_gets_every_figure_under_the_trainers_names_and_the_result_stays_the_same(
    inputs: dict[str, Path], config: FinetuneConfig, tmp_path: Path
) -> None:
    done = finetune(config, inputs, tmp_path / "out")
    events = read(tmp_path / "out" / "logs" / "tensorboard")
    assert curve(events, "train/loss") == history(tmp_path / "out", "loss")
    assert curve(events, "train/learning_rate") == history(tmp_path / "out", "learning_rate")
    assert curve(events, "eval/accuracy") == history(tmp_path / "out", "validation_accuracy")
    assert curve(events, "train/epoch")[-1] == pytest.approx((done.metrics["steps"], 0.5), abs=0.05)
    shown = events.Tensors("args/text_summary")[0].tensor_proto.string_val[0]
    options = json.loads(shown)
    assert options["method"] == "full"
    assert options["stage"] == "finetune"

    silent = finetune(replace(config, report_to=None), inputs, tmp_path / "silent")
    assert silent.digest == done.digest
    assert silent.key == done.key
    assert not (tmp_path / "silent" / "logs").exists()


def test_a_killed_training_goes_on_in_the_same_curve(
    inputs: dict[str, Path], config: FinetuneConfig, tmp_path: Path
) -> None:
    for step in (2, 5):  # before any checkpoint, and two steps after one
        with watch_with(DiesAt(step)), pytest.raises(KeyboardInterrupt):
            finetune(config, inputs, tmp_path / "out")
    finetune(config, inputs, tmp_path / "out")
    events = read(tmp_path / "out" / "logs" / "tensorboard")
    assert curve(events, "train/loss") == history(tmp_path / "out", "loss")
    assert curve(events, "eval/accuracy") == history(tmp_path / "out", "validation_accuracy")


def test_where_to_report_is_no_reason_to_train_again(
    inputs: dict[str, Path], config: FinetuneConfig, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    silent = replace(config, report_to=None)
    assert finetune.key(config, inputs) == finetune.key(silent, inputs)
    finetune(config, inputs, tmp_path / "out")
    capsys.readouterr()
    finetune(silent, inputs, tmp_path / "out")
    assert "complete, kept" in capsys.readouterr().err
    assert (tmp_path / "out" / "logs" / "tensorboard").is_dir()


@pytest.mark.parametrize(
    ("name", "line"),
    [
        ("tensorbord", "finetune.report_to: accelerate has no tracker 'tensorbord'; did you mean tensorboard?"),
        ("codecarbon", "finetune.report_to: accelerate has no tracker 'codecarbon'; one of aim, "),
        ("swanlab", "finetune.report_to: the package of swanlab is not installed: pip install swanlab, or remove"),
    ],
)
def test_a_tracker_that_is_not_there_is_one_line_before_anything_is_loaded(
    name: str, line: str, inputs: dict[str, Path], config: FinetuneConfig, tmp_path: Path
) -> None:
    with pytest.raises(RecipeError) as caught:
        finetune(replace(config, report_to=["tensorboard", name]), inputs, tmp_path / "out")
    assert str(caught.value).startswith(line)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "out").exists()


def test_all_are_those_that_are_installed_and_none_are_none() -> None:
    assert "tensorboard" in reporting.tracker_names(["all"])
    assert reporting.tracker_names(["tensorboard", "all"]).count("tensorboard") == 1
    assert reporting.tracker_names(["none"]) == reporting.tracker_names([]) == reporting.tracker_names(None) == []


def test_a_recovery_of_pruning_logs_where_its_checkpoints_are_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def trained(folder: Path, title: str, config: TrainingConfig) -> None:
        with reporting.report_training(Training(title, config, 4, 2, 2, 0, folder)):
            watch.report_step(1, {"step": 1, "loss": 0.5})

    config = PruneConfig(report_to=["tensorboard"])
    trained(tmp_path / "run" / "prune" / "checkpoints" / "attempt-0", "prune: recovery", config)
    logs = tmp_path / "run" / "prune" / "logs" / "attempt-0" / "tensorboard"
    assert curve(read(logs), "train/loss") == [(1, 0.5)]
    # Who names a folder for all gets a folder for each training in it.
    monkeypatch.setenv("TENSORBOARD_LOGGING_DIR", str(tmp_path / "all"))
    trained(tmp_path / "run" / "prune" / "checkpoints" / "attempt-0", "prune: recovery", config)
    trained(tmp_path / "run" / "distill", "distill", DistillConfig(report_to=["tensorboard"]))
    found = {path.parent.relative_to(tmp_path / "all").as_posix() for path in (tmp_path / "all").rglob("events*")}
    assert found == {"run/prune/attempt-0", "run/distill"}

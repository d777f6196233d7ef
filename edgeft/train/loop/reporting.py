"""`report_to`: a training's figures go to the trackers that accelerate knows, by its own classes.

The figures are called what `transformers.Trainer` calls them: `train/loss`, `train/learning_rate`, `eval/accuracy`
and so on.
"""

from __future__ import annotations

import contextlib
import difflib
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
import torch

from edgeft.errors import RecipeError
from edgeft.files import write_atomically
from edgeft.recipe import TrainingConfig
from edgeft.stage_folder import CHECKPOINTS, LOGS
from edgeft.train.loop import watch
from edgeft.train.loop.watch import Training, Watcher

REPORTED = "reported.json"
ALL, NONE = "all", "none"
TENSORBOARD = "tensorboard"
PROJECT = "huggingface"  # as in transformers
# Trackers that keep runs in projects: the variable that names the project, and the argument that names a run.
PROJECTS = {
    "comet_ml": ("COMET_PROJECT_NAME", None),
    "mlflow": ("MLFLOW_EXPERIMENT_NAME", "run_name"),
    "swanlab": ("SWANLAB_PROJECT", "experiment_name"),
    "trackio": ("TRACKIO_PROJECT", "name"),
    "wandb": ("WANDB_PROJECT", "name"),
}


def check(stage: str, config: TrainingConfig) -> None:
    """Whether everything in `report_to` is known and installed.

    Raises:
        RecipeError: the first name that isn't.
    """
    for name in trackers(config.report_to):
        _check_name(f"{stage}.report_to", name)


def _check_name(where: str, name: str) -> None:
    from accelerate.tracking import LOGGER_TYPE_TO_CLASS

    if name not in LOGGER_TYPE_TO_CLASS:
        names = [*LOGGER_TYPE_TO_CLASS, ALL, NONE]
        close = difflib.get_close_matches(name, names, n=1)
        hint = f"did you mean {close[0]}?" if close else f"one of {', '.join(names)}"
        raise RecipeError(f"{where}: {name!r} is no tracker of accelerate; {hint}")
    if name not in _installed():
        raise RecipeError(
            f"{where}: the package of {name} is not installed: pip install {name}, or take {name} off the list"
        )


def _installed() -> list[str]:
    from accelerate.tracking import get_available_trackers

    return list(map(str, get_available_trackers()))


def trackers(report_to: Sequence[str] | None) -> list[str]:
    """The trackers by name: `all` are those that are installed, `none` are none."""
    names: list[str] = []
    for name in report_to or ():
        names += _installed() if name == ALL else [] if name == NONE else [name]
    return list(dict.fromkeys(names))


@contextlib.contextmanager
def followed(training: Training) -> Iterator[None]:
    """Tell the trackers of `report_to`, and whoever else watches, of a training."""
    reporters = (
        [Reporter()] if training.config.report_to and _first_process() and trackers(training.config.report_to) else []
    )
    with watch.watching(*reporters), watch.following(training):
        yield


def _first_process() -> bool:
    distributed = torch.distributed
    return not (distributed.is_available() and distributed.is_initialized()) or distributed.get_rank() == 0


def _stage(training: Training) -> str:
    return training.title.split(":")[0]


def _logs(training: Training) -> Path:
    """Where logs go: into the stage's folder, where they outlive the checkpoints that an attempt of pruning lies in."""
    folder = training.out_dir
    return folder.parent.parent / LOGS / folder.name if folder.parent.name == CHECKPOINTS else folder / LOGS


def _run_name(training: Training) -> str:
    """The last two folders, as in `demo/finetune`, and an attempt of pruning behind them."""
    parts = [part for part in training.out_dir.absolute().parts if part != CHECKPOINTS]
    return "/".join(parts[-3 if CHECKPOINTS in training.out_dir.parts else -2 :])


class Reporter(Watcher):
    """Hands a training to the trackers of `report_to`.

    A training that goes on from a checkpoint repeats some steps; what was reported before the kill is not reported
    again, so that no curve doubles back.
    """

    def start(self, training: Training) -> None:
        """Open the trackers.

        Raises:
            RecipeError: a tracker isn't known or installed.
        """
        check(_stage(training), training.config)
        self.training, self.reported = training, Reported(_logs(training) / REPORTED)
        self.trackers = [_start_tracker(name, training) for name in trackers(training.config.report_to)]

    def logged(self, step: int, values: Mapping[str, float]) -> None:
        """Report the loss and the learning rate of a step."""
        self._log("step", step, {f"train/{name}": value for name, value in values.items() if name != "step"})

    def looked(self, step: int, metrics: Mapping[str, float]) -> None:
        """Report the metrics of a look at the validation split."""
        self._log("look", step, {f"eval/{name}": value for name, value in metrics.items()})

    def ended(self) -> None:
        """Close the trackers, however the training ended."""
        for tracker in self.trackers:
            tracker.finish()

    def _log(self, kind: str, step: int, values: dict[str, float]) -> None:
        if self.reported.news(kind, step):
            for tracker in self.trackers:
                tracker.log({**values, "train/epoch": step / self.training.steps_per_epoch}, step=step)
            self.reported.add(kind, step)


def _start_tracker(name: str, training: Training) -> Any:
    """An open tracker of accelerate that knows the run's name and the stage's options."""
    from accelerate import PartialState

    PartialState()  # accelerate's log lines want it
    tracker = _tracker(name, training)
    tracker.start()
    options = {"stage": _stage(training), **msgspec.to_builtins(training.config)}
    if name == TENSORBOARD:  # its hyper-parameters take no lists and would lie in another folder
        tracker.log({"args": json.dumps(options, indent=2)})
    else:
        tracker.store_init_configuration(options)
    return tracker


def _tracker(name: str, training: Training) -> Any:
    from accelerate.tracking import LOGGER_TYPE_TO_CLASS

    tracker_class, run_name = LOGGER_TYPE_TO_CLASS[name], _run_name(training)
    if name == TENSORBOARD:
        shared = os.environ.get("TENSORBOARD_LOGGING_DIR")
        return tracker_class(run_name, shared) if shared else tracker_class(TENSORBOARD, _logs(training))
    if name in PROJECTS:
        variable, argument = PROJECTS[name]
        return tracker_class(os.environ.get(variable, PROJECT), **({argument: run_name} if argument else {}))
    return tracker_class(
        run_name, **({"logging_dir": _logs(training)} if tracker_class.requires_logging_directory else {})
    )


class Reported:
    """What was reported up to which step; it lies beside the logs and outlives a kill.

    Args:
        path: of the file.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.until: dict[str, int] = {}
        with contextlib.suppress(OSError, ValueError):
            self.until = json.loads(path.read_text(encoding="utf-8"))

    def news(self, kind: str, step: int) -> bool:
        """Whether this step wasn't reported yet."""
        return step > self.until.get(kind, 0)

    def add(self, kind: str, step: int) -> None:
        """This step was reported. A power cut may lose the last ones, which are then reported twice."""
        self.until[kind] = step
        self.path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(self.path, json.dumps(self.until).encode(), synced=False)

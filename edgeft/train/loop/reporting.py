"""`report_to`: send a training's figures to experiment trackers, through accelerate's classes.

The figures have the names that `transformers.Trainer` uses: `train/loss`, `train/learning_rate`, `eval/accuracy` and so
on.
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
# Trackers with projects: the environment variable that names the project, and the argument that names a run.
PROJECTS = {
    "comet_ml": ("COMET_PROJECT_NAME", None),
    "mlflow": ("MLFLOW_EXPERIMENT_NAME", "run_name"),
    "swanlab": ("SWANLAB_PROJECT", "experiment_name"),
    "trackio": ("TRACKIO_PROJECT", "name"),
    "wandb": ("WANDB_PROJECT", "name"),
}


def check(stage: str, config: TrainingConfig) -> None:
    """Check that every tracker in `report_to` is known and installed.

    Raises:
        RecipeError: one is not; the message names the first.
    """
    for name in tracker_names(config.report_to):
        _check_name(f"{stage}.report_to", name)


def _check_name(where: str, name: str) -> None:
    from accelerate.tracking import LOGGER_TYPE_TO_CLASS

    if name not in LOGGER_TYPE_TO_CLASS:
        names = [*LOGGER_TYPE_TO_CLASS, ALL, NONE]
        close = difflib.get_close_matches(name, names, n=1)
        hint = f"did you mean {close[0]}?" if close else f"one of {', '.join(names)}"
        raise RecipeError(f"{where}: accelerate has no tracker {name!r}; {hint}")
    if name not in _installed_trackers():
        raise RecipeError(
            f"{where}: the package of {name} is not installed: pip install {name}, or remove {name} from the list"
        )


def _installed_trackers() -> list[str]:
    from accelerate.tracking import get_available_trackers

    return list(map(str, get_available_trackers()))


def tracker_names(report_to: Sequence[str] | None) -> list[str]:
    """The names of the trackers; `all` stands for those that are installed, `none` for none."""
    names: list[str] = []
    for name in report_to or ():
        names += _installed_trackers() if name == ALL else [] if name == NONE else [name]
    return list(dict.fromkeys(names))


@contextlib.contextmanager
def report_training(training: Training) -> Iterator[None]:
    """Report a training to the trackers of `report_to` and to all watchers."""
    reporters = (
        [Reporter()]
        if training.config.report_to and _first_process() and tracker_names(training.config.report_to)
        else []
    )
    with watch.watch_with(*reporters), watch.notify_watchers(training):
        yield


def _first_process() -> bool:
    distributed = torch.distributed
    return not (distributed.is_available() and distributed.is_initialized()) or distributed.get_rank() == 0


def _stage_name(training: Training) -> str:
    return training.title.split(":")[0]


def _logs_folder(training: Training) -> Path:
    """The folder for logs: inside the stage's folder, so that they outlive the checkpoints of a pruning attempt."""
    folder = training.out_dir
    return folder.parent.parent / LOGS / folder.name if folder.parent.name == CHECKPOINTS else folder / LOGS


def _run_name(training: Training) -> str:
    """The last two folders, such as `demo/finetune`, and the pruning attempt after them, if there is one."""
    parts = [part for part in training.out_dir.absolute().parts if part != CHECKPOINTS]
    return "/".join(parts[-3 if CHECKPOINTS in training.out_dir.parts else -2 :])


class Reporter(Watcher):
    """Reports a training to the trackers of `report_to`.

    A training that resumes from a checkpoint repeats some steps; those that were reported before the kill are not
    reported again, so that no curve has a step twice.
    """

    def on_start(self, training: Training) -> None:
        """Open the trackers.

        Raises:
            RecipeError: a tracker isn't known or installed.
        """
        check(_stage_name(training), training.config)
        self.training, self.reported = training, Reported(_logs_folder(training) / REPORTED)
        self.trackers = [_start_tracker(name, training) for name in tracker_names(training.config.report_to)]

    def on_step(self, step: int, values: Mapping[str, float]) -> None:
        """Report the loss and the learning rate of a step."""
        self._report("step", step, {f"train/{name}": value for name, value in values.items() if name != "step"})

    def on_evaluation(self, step: int, metrics: Mapping[str, float]) -> None:
        """Report the metrics of an evaluation on the validation split."""
        self._report("look", step, {f"eval/{name}": value for name, value in metrics.items()})

    def on_end(self) -> None:
        """Close the trackers, however the training ended."""
        for tracker in self.trackers:
            tracker.finish()

    def _report(self, kind: str, step: int, values: dict[str, float]) -> None:
        if self.reported.is_new(kind, step):
            for tracker in self.trackers:
                tracker.log({**values, "train/epoch": step / self.training.steps_per_epoch}, step=step)
            self.reported.add(kind, step)


def _start_tracker(name: str, training: Training) -> Any:
    """Start a tracker of accelerate with the run's name and the stage's options."""
    from accelerate import PartialState

    PartialState()  # accelerate's logging needs it
    tracker = _create_tracker(name, training)
    tracker.start()
    options = {"stage": _stage_name(training), **msgspec.to_builtins(training.config)}
    if name == TENSORBOARD:  # its hyper-parameters allow no lists and would go into another folder
        tracker.log({"args": json.dumps(options, indent=2)})
    else:
        tracker.store_init_configuration(options)
    return tracker


def _create_tracker(name: str, training: Training) -> Any:
    from accelerate.tracking import LOGGER_TYPE_TO_CLASS

    tracker_class, run_name = LOGGER_TYPE_TO_CLASS[name], _run_name(training)
    if name == TENSORBOARD:
        shared = os.environ.get("TENSORBOARD_LOGGING_DIR")
        return tracker_class(run_name, shared) if shared else tracker_class(TENSORBOARD, _logs_folder(training))
    if name in PROJECTS:
        variable, argument = PROJECTS[name]
        return tracker_class(os.environ.get(variable, PROJECT), **({argument: run_name} if argument else {}))
    return tracker_class(
        run_name, **({"logging_dir": _logs_folder(training)} if tracker_class.requires_logging_directory else {})
    )


class Reported:
    """The last reported step of each kind of figures, in a file beside the logs that outlives a kill.

    Args:
        path: of the file.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.until: dict[str, int] = {}
        with contextlib.suppress(OSError, ValueError):
            self.until = json.loads(path.read_text(encoding="utf-8"))

    def is_new(self, kind: str, step: int) -> bool:
        """Whether this step has not been reported yet."""
        return step > self.until.get(kind, 0)

    def add(self, kind: str, step: int) -> None:
        """Store that this step was reported. A power cut may lose the last steps, which are then reported twice."""
        self.until[kind] = step
        self.path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(self.path, json.dumps(self.until).encode(), synced=False)

"""`report_to`: a training's figures go to the trackers that `transformers.Trainer` reports to, by the same callbacks.

They call the figures what the Trainer calls them: `train/loss`, `train/learning_rate`, `eval/accuracy` and so on.
"""

from __future__ import annotations

import contextlib
import difflib
import importlib.util
import json
import sys
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
ALL, NONE = "all", "none"  # as in transformers
# Those that transformers doesn't always count among the installed ones: module and package.
ELSEWHERE = {"azure_ml": ("azureml", "azureml-mlflow"), "flyte": ("flytekit", "flytekit")}


def check(stage: str, config: TrainingConfig) -> None:
    """Whether everything in `report_to` is known and installed.

    Raises:
        RecipeError: the first name that isn't.
    """
    for name in trackers(config.report_to):
        _check_name(f"{stage}.report_to", name)


def _check_name(where: str, name: str) -> None:
    from transformers.integrations import integration_utils as known

    if name not in known.INTEGRATION_TO_CALLBACK:
        names = [*known.INTEGRATION_TO_CALLBACK, ALL, NONE]
        close = difflib.get_close_matches(name, names, n=1)
        hint = f"did you mean {close[0]}?" if close else f"one of {', '.join(names)}"
        raise RecipeError(f"{where}: {name!r} is no tracker of transformers; {hint}")
    module = ELSEWHERE.get(name, ("", ""))[0]
    if name in known.get_available_reporting_integrations() or (module and importlib.util.find_spec(module)):
        return
    package = ELSEWHERE.get(name, ("", name))[1]
    raise RecipeError(
        f"{where}: the package of {name} is not installed: pip install {package}, or take {name} off the list"
    )


def trackers(report_to: Sequence[str] | None) -> list[str]:
    """The trackers by name: `all` are those that are installed, `none` are none."""
    from transformers.integrations import get_available_reporting_integrations

    found: list[str] = []
    for name in report_to or ():
        found += get_available_reporting_integrations() if name == ALL else [] if name == NONE else [name]
    return list(dict.fromkeys(found))


@contextlib.contextmanager
def followed(training: Training) -> Iterator[None]:
    """Tell the trackers of `report_to`, and whoever else watches, of a training."""
    own = [Reporter()] if training.config.report_to and _first_process() and trackers(training.config.report_to) else []
    with watch.watching(*own), watch.following(training):
        yield


def _first_process() -> bool:
    distributed = torch.distributed
    return not (distributed.is_available() and distributed.is_initialized()) or distributed.get_rank() == 0


def _arguments(training: Training) -> Any:
    """What the callbacks read: where files go, the run's name, and the stage's options as its hyper-parameters."""
    from transformers import TrainingArguments

    class Arguments(TrainingArguments):
        def __post_init__(self) -> None:
            """Devices and processes are none of this one's business."""

        def to_dict(self) -> dict[str, Any]:
            options: dict[str, Any] = msgspec.to_builtins(training.config)
            return {"stage": _stage(training), **options}

    config = training.config
    return Arguments(
        output_dir=str(_logs(training)),
        run_name=_run_name(training),
        report_to=trackers(config.report_to),
        num_train_epochs=config.epochs,
        per_device_train_batch_size=config.batch_size,
        gradient_accumulation_steps=config.gradient_accumulation,
        seed=config.seed or 0,
        logging_steps=1,
    )


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
    """Hands a training to the callbacks of `transformers`.

    A training that goes on from a checkpoint repeats some steps; what was reported before the kill is not reported
    again, so that no curve doubles back.
    """

    def start(self, training: Training) -> None:
        """Open the trackers.

        Raises:
            RecipeError: a tracker isn't known or installed.
        """
        check(_stage(training), training.config)
        from transformers.trainer_callback import CallbackHandler, DefaultFlowCallback, TrainerControl, TrainerState

        self.training, self.reported = training, Reported(_logs(training) / REPORTED)
        self.arguments, self.control = _arguments(training), TrainerControl()
        self.state = TrainerState(global_step=training.done, max_steps=training.steps, logging_steps=1)
        self.run_before = _wandb_run()
        self.handler = CallbackHandler([DefaultFlowCallback, *_callbacks(training)], None, None, None, None)
        self.handler.on_init_end(self.arguments, self.state, self.control)
        self.handler.on_train_begin(self.arguments, self.state, self.control)

    def logged(self, step: int, values: Mapping[str, float]) -> None:
        """Report the loss and the learning rate of a step."""
        self._at(step)
        self.handler.on_step_end(self.arguments, self.state, self.control)
        if self.reported.news("step", step):
            self._log({name: value for name, value in values.items() if name != "step"})
            self.reported.add("step", step)

    def looked(self, step: int, metrics: Mapping[str, float]) -> None:
        """Report the metrics of a look at the validation split."""
        self._at(step)
        if self.reported.news("look", step):
            named = {f"eval_{name}": value for name, value in metrics.items()}
            self._log(named)
            self.handler.on_evaluate(self.arguments, self.state, self.control, named)
            self.reported.add("look", step)

    def ended(self) -> None:
        """Close the trackers, however the training ended."""
        self.handler.on_train_end(self.arguments, self.state, self.control)
        run = _wandb_run()
        if run is not None and run is not self.run_before:
            run.finish()  # transformers leaves it open, and the next stage would report into it

    def _at(self, step: int) -> None:
        self.state.global_step, self.state.epoch = step, step / self.training.steps_per_epoch

    def _log(self, values: dict[str, float]) -> None:
        self.handler.on_log(self.arguments, self.state, self.control, {**values, "epoch": self.state.epoch})


def _callbacks(training: Training) -> list[Any]:
    """The trackers' callbacks; TensorBoard's files of one training lie together, before and after a kill."""
    from transformers.integrations import TensorBoardCallback, get_reporting_integration_callbacks

    made = [callback() for callback in get_reporting_integration_callbacks(trackers(training.config.report_to))]
    for callback in made:
        if isinstance(callback, TensorBoardCallback):
            elsewhere = callback.logging_dir and Path(callback.logging_dir) / _run_name(training)
            callback.logging_dir = str(elsewhere or _logs(training) / "tensorboard")
    return made


def _wandb_run() -> Any:
    """The open run of wandb, where that was imported."""
    return getattr(sys.modules.get("wandb"), "run", None)


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

"""One trial: the fine-tuning stage in a folder of its own, ended early where it is hopeless."""

from __future__ import annotations

import gc
import json
import math
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import msgspec
import optuna
import torch
from optuna.trial import FrozenTrial, Trial, TrialState

from edgeft import recipe
from edgeft.errors import GateError, ModelError, RecipeError, TrainingError
from edgeft.progress import say
from edgeft.recipe import Recipe
from edgeft.search import study as studies
from edgeft.search.space import Space
from edgeft.stage_folder import LOGS
from edgeft.train import finetune, methods
from edgeft.train.loop.loop import HISTORY
from edgeft.train.loop.watch import Training, Watcher, watching

DATA, TRIALS = "data", "trials"
METHOD = "finetune.method"
WHY = "error"  # what a failed trial said


@dataclass(frozen=True)
class Job:
    """What every worker of a search has.

    Attributes:
        base: the recipe, resolved.
        space: what is searched.
        folder: of the search.
        trials: how many there are to be, over all workers.
        pruner: decides what is hopeless.
        keep_all: whether every completed trial keeps its model; else only the best.
        parent: process whose end ends this worker; None: nobody's.
    """

    base: Recipe
    space: Space
    folder: Path
    trials: int
    pruner: str
    keep_all: bool = False
    parent: int | None = None

    def place(self, number: int) -> Path:
        """The stage folder of a trial."""
        return self.folder / TRIALS / f"{number:04d}"

    def opened(self) -> optuna.Study:
        """The study; hold the folder's lock."""
        return studies.opened(self.folder, self.space, self.base.seed, self.pruner, self.first())

    def first(self) -> dict[str, Any]:
        """The recipe's own options as far as the space has them: the search starts there."""
        own = {path: value_at(self.base, path) for path in self.space}
        return {path: value for path, value in own.items() if self.space[path].contains(value)}

    def orphaned(self) -> bool:
        """Whether the process that started this worker is gone."""
        return self.parent is not None and os.getppid() != self.parent


def described(base: Recipe, options: Mapping[str, Any]) -> str:
    """What a trial is: its options that differ from the recipe's, as in "lora_rank 4, epochs 2"."""
    other = {path: value for path, value in options.items() if value != value_at(base, path)}
    words = [f"{path} {value:.3g}" if isinstance(value, float) else f"{path} {value}" for path, value in other.items()]
    return ", ".join(words) or "the recipe itself"


def value_at(base: Recipe, path: str) -> Any:
    """The value of an option."""
    found: Any = base
    for part in path.split("."):
        found = getattr(found, part)
    return found


def with_options(base: Recipe, options: Mapping[str, Any]) -> Recipe:
    """The recipe with a trial's options; those about LoRA stay unset where the trial chose another method.

    Raises:
        RecipeError: they don't go together.
    """
    made = recipe.from_tree(recipe.with_settings(msgspec.to_builtins(base), options))
    return replace(made, finetune=methods.without_idle(made.finetune)) if METHOD in options else made


class Follower(Watcher):
    """Tells the study of every look, and ends a trial that the study finds hopeless.

    Args:
        trial: that trains.
        told: looks that the study knows of, from before a kill.
        job: of the search.
    """

    def __init__(self, trial: Trial, told: set[int], job: Job) -> None:
        self.trial, self.told, self.job = trial, told, job

    def start(self, training: Training) -> None:
        """Remember how looks are counted."""
        self.training = training

    def logged(self, step: int, values: Mapping[str, float]) -> None:
        """End with the process that started this one."""
        if self.job.orphaned():
            raise KeyboardInterrupt

    def looked(self, step: int, metrics: Mapping[str, float]) -> None:
        """Tell the score; by the last look the training is paid for, and nothing is saved by pruning."""
        look = self.training.look(step)
        if look not in self.told:
            self.told.add(look)
            self.trial.report(metrics["score"], look)
        if step < self.training.steps and self.trial.should_prune():
            raise optuna.TrialPruned


def run_trial(job: Job, study: optuna.Study, trial: Trial) -> None:
    """Train with a trial's options and tell the study how good it was on the validation split."""
    told = set(study.get_trials(deepcopy=False)[trial.number].intermediate_values)
    try:
        with watching(Follower(trial, told, job)):
            value = _trained(job, trial)
    except optuna.TrialPruned:
        ended = study.tell(trial, state=TrialState.PRUNED)
    except (GateError, ModelError, RecipeError, TrainingError) as error:
        trial.set_user_attr(WHY, str(error))
        ended = study.tell(trial, state=TrialState.FAIL)
    else:
        ended = study.tell(trial, value)
    _say(study, ended)
    give_back_memory()


def give_back_memory() -> None:
    """What a trial left behind."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def _trained(job: Job, trial: Trial) -> float:
    """The best validation score of the training.

    Raises:
        TrainingError: there is none.
    """
    whole = with_options(job.base, trial.params)
    say(f"search: trial {trial.number} of {job.trials}: {described(job.base, trial.params)}")
    folder = job.place(trial.number)
    finetune.run(whole.finetune, {"data": job.folder / DATA, **finetune.named_files(whole)}, folder)
    value = best_score(folder)
    if not math.isfinite(value):
        raise TrainingError("the validation score was never a number")
    return value


def best_score(folder: Path) -> float:
    """The best look of a finished training; the test split has no part in it."""
    rows = [json.loads(line) for line in (folder / HISTORY).read_text(encoding="utf-8").splitlines()]
    scores = [row["validation_score"] for row in rows if row.get("validation_score") is not None]
    return max((score for score in scores if not math.isnan(score)), default=math.nan)


def score_of(trial: FrozenTrial) -> float | None:
    """What a trial reached on validation: its value, or its best look where it was ended."""
    looks = [value for value in trial.intermediate_values.values() if not math.isnan(value)]
    return trial.value if trial.value is not None else max(looks, default=None)


def _say(study: optuna.Study, ended: FrozenTrial) -> None:
    score, best = score_of(ended), studies.best(study)
    shown = [f"search: trial {ended.number}: {studies.STATES[ended.state]}"]
    shown += [f"score {score:.4f}"] if score is not None else []
    shown += [f"best {best.value:.4f} (trial {best.number})"] if best is not None else []
    shown += [str(ended.user_attrs[WHY])] if WHY in ended.user_attrs else []
    say(" · ".join(shown))


def tidy(job: Job, study: optuna.Study) -> None:
    """Keep the models that are to be kept; of the others only the logs of trackers. Hold the folder's lock."""
    best = studies.best(study)
    for trial in study.get_trials(deepcopy=False):
        kept = trial.state == TrialState.COMPLETE and (job.keep_all or trial.number == (best and best.number))
        if trial.state.is_finished() and not kept:
            _empty(job.place(trial.number))


def _empty(folder: Path) -> None:
    if not folder.is_dir():
        return
    for item in folder.iterdir():
        if item.name != LOGS:
            shutil.rmtree(item) if item.is_dir() else item.unlink()
    if not any(folder.iterdir()):
        folder.rmdir()


def work(job: Job) -> None:
    """Run trials until there are enough."""
    with studies.exclusive(job.folder):
        study = job.opened()
    while not job.orphaned():
        claim = studies.claim(study, job.folder, job.space, job.trials)
        if claim is None:
            return
        with claim.lock:
            run_trial(job, study, claim.trial)
        with studies.exclusive(job.folder):
            tidy(job, study)

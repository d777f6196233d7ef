"""The objective of `edgeft search`: the best options of fine-tuning, by the validation split."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import msgspec
import optuna
from optuna.trial import FrozenTrial, Trial, TrialState

from edgeft import recipe
from edgeft.data.prepare import run as prepare_data
from edgeft.data.read import sources
from edgeft.errors import OutputFolderError, TrainingError
from edgeft.files import write_atomically
from edgeft.recipe import Recipe
from edgeft.report import page
from edgeft.search import study as studies
from edgeft.search.engine import Search
from edgeft.search.finetuning.summary import FinetuningSummary, ranking_metric, summarize
from edgeft.search.sampling import SeededSampler
from edgeft.stage_folder import LOGS, digest, read_result
from edgeft.train import finetune, methods
from edgeft.train.loop.loop import HISTORY
from edgeft.train.loop.watch import Training, Watcher, watch_with

DATA, TRIALS = "data", "trials"
METHOD = "finetune.method"
STUDY = "search"


@dataclass(frozen=True, kw_only=True)
class FinetuningSearch(Search[FinetuningSummary]):
    """Trainings with other options on the same rows, compared on the validation split.

    Attributes:
        pruner: decides what is hopeless.
        keep_all: whether every completed trial keeps its model; else only the best.
    """

    pruner: str
    keep_all: bool = False
    command = "search"

    def prepare(self) -> optuna.Study:
        """Prepare the rows.

        Raises:
            OutputFolderError: the labelled file changed since the search began.
        """
        with studies.exclusive(self.folder):
            inputs = sources.local_files(self.base.data)
            prepared = read_result(self.folder / DATA)
            has_begun = (self.folder / studies.STORAGE).exists()
            if has_begun and prepared and prepared.inputs != {name: digest(path) for name, path in inputs.items()}:
                raise OutputFolderError(
                    f"{self.base.data.file} changed since the search in {self.folder} began, and its trials would not "
                    "compare; give another --run-dir"
                )
            prepare_data(self.base.data, inputs, self.folder / DATA)
            return self.open_study()

    def open_study(self) -> optuna.Study:
        sampler, pruner = SeededSampler(self.base.seed), studies.make_pruner(self.pruner)
        study = studies.open_study(self.folder, STUDY, sampler, pruner, ["maximize"])
        first = self.first_options()
        if first and not study.get_trials(deepcopy=False):
            study.enqueue_trial(first)
        return study

    def compute(self, study: optuna.Study, trial: Trial) -> float:
        """Train with a trial's options; the value is the best score on the validation split."""
        known_looks = set(study.get_trials(deepcopy=False)[trial.number].intermediate_values)
        config = with_options(self.base, trial.params)
        folder = self.trial_folder(trial.number)
        with watch_with(LookReporter(trial, known_looks, self)):
            finetune.run(config.finetune, {"data": self.folder / DATA, **finetune.named_files(config)}, folder)
        score = read_best_score(folder)
        if not math.isfinite(score):
            raise TrainingError("the validation score was never a number")
        return score

    def describe_result(self, study: optuna.Study, trial: FrozenTrial) -> list[str]:
        score, best = studies.score_of(trial), studies.best_trial(study)
        words = [f"score {score:.4f}"] if score is not None else []
        return words + ([f"best {best.value:.4f} (trial {best.number})"] if best is not None else [])

    def describe_best(self, study: optuna.Study) -> str:
        best = studies.best_trial(study)
        metric = ranking_metric(self.folder / DATA)
        return f"best {metric} {best.value:.4f} on validation (trial {best.number})" if best is not None else ""

    def tidy(self, study: optuna.Study) -> None:
        """Keep the models that are to be kept; of the others only the logs of trackers."""
        best = studies.best_trial(study)
        for trial in study.get_trials(deepcopy=False):
            is_best = best is not None and trial.number == best.number
            keeps_model = trial.state == TrialState.COMPLETE and (self.keep_all or is_best)
            if trial.state.is_finished() and not keeps_model:
                _remove_all_but_logs(self.trial_folder(trial.number))

    def has_results(self, study: optuna.Study) -> bool:
        return studies.best_trial(study) is not None

    def summarize(self, study: optuna.Study, finished: bool = True) -> FinetuningSummary:
        """Write the best recipe and the page.

        Raises:
            TrainingError: no trial was completed; names the first reason.
        """
        with studies.exclusive(self.folder):
            self.tidy(study)
            summary = summarize(study, self.base.name, self.space, self.folder, self.folder / DATA)
            best = with_options(self.base, summary.best.options)
            write_atomically(summary.recipe, recipe.to_yaml(best).encode())
            page.write(summary.page, summary.report())
            return summary

    def trial_folder(self, number: int) -> Path:
        """The stage folder of a trial."""
        return self.folder / TRIALS / f"{number:04d}"


def with_options(base: Recipe, options: Mapping[str, Any]) -> Recipe:
    """The recipe with a trial's options; those about LoRA stay unset where the trial chose another method.

    Raises:
        RecipeError: they don't go together.
    """
    changed = recipe.from_tree(recipe.with_settings(msgspec.to_builtins(base), options))
    return replace(changed, finetune=methods.reset_unused_options(changed.finetune)) if METHOD in options else changed


class LookReporter(Watcher):
    """Tells the study of every look, and ends a trial that the study finds hopeless.

    Args:
        trial: that trains.
        known_looks: looks that the study knows of, from before a kill.
        search: of the trial.
    """

    def __init__(self, trial: Trial, known_looks: set[int], search: FinetuningSearch) -> None:
        self.trial, self.known_looks, self.search = trial, known_looks, search

    def on_start(self, training: Training) -> None:
        """Remember how looks are counted."""
        self.training = training

    def on_step(self, step: int, values: Mapping[str, float]) -> None:
        """End with the process that started this one."""
        if self.search.is_orphaned():
            raise KeyboardInterrupt

    def on_evaluation(self, step: int, metrics: Mapping[str, float]) -> None:
        """Tell the score; by the last look the training is paid for, and nothing is saved by pruning."""
        look = self.training.evaluation_number(step)
        if look not in self.known_looks:
            self.known_looks.add(look)
            self.trial.report(metrics["score"], look)
        if step < self.training.steps and self.trial.should_prune():
            raise optuna.TrialPruned


def read_best_score(folder: Path) -> float:
    """The best look of a finished training; the test split has no part in it."""
    rows = [json.loads(line) for line in (folder / HISTORY).read_text(encoding="utf-8").splitlines()]
    scores = [row["validation_score"] for row in rows if row.get("validation_score") is not None]
    return max((score for score in scores if not math.isnan(score)), default=math.nan)


def _remove_all_but_logs(folder: Path) -> None:
    if not folder.is_dir():
        return
    for item in folder.iterdir():
        if item.name != LOGS:
            shutil.rmtree(item) if item.is_dir() else item.unlink()
    if not any(folder.iterdir()):
        folder.rmdir()

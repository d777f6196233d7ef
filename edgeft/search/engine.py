"""One engine for every search: take a trial, run it, tell the study, tidy up, and sum up.

A subclass of `Search` is an objective. It says how a trial is computed and when it is hopeless, what is kept of it, and
how all of them are shown; the engine knows neither fine-tuning nor budgets.
"""

from __future__ import annotations

import gc
import os
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Generic, TypeVar

import optuna
import torch
from optuna.trial import FrozenTrial, Trial, TrialState

from edgeft.errors import GateError, ModelError, RecipeError, TrainingError
from edgeft.progress import about, console, say
from edgeft.recipe import Recipe
from edgeft.report import facts, terminal
from edgeft.report.blocks import Report
from edgeft.search import study as studies
from edgeft.search.space import Space

WHY = "error"  # user attribute of a trial: why it failed or was ended early
TRIALS = "Trials"  # the section of a report that a search shows when it is stopped


@dataclass(frozen=True, kw_only=True)
class TrialRow:
    """One trial, as every search shows it.

    Attributes:
        number: from 0.
        state: complete, pruned (ended early), failed, running or waiting.
        options: path -> value.
        seconds: since it was last begun, None where it runs or waits.
        error: why it failed or was ended early, if it says so.
    """

    number: int
    state: str
    options: dict[str, Any]
    seconds: float | None
    error: str | None

    @property
    def outcome(self) -> str:
        """The state in words."""
        return "ended early" if self.state == "pruned" else self.state


def row_fields(trial: FrozenTrial) -> dict[str, Any]:
    """The fields of `TrialRow` of a trial of the study."""
    return {
        "number": trial.number,
        "state": studies.STATES[trial.state],
        "options": dict(trial.params),
        "seconds": trial.duration.total_seconds() if trial.duration else None,
        "error": trial.user_attrs.get(WHY),
    }


@dataclass(frozen=True, kw_only=True)
class Summary(ABC):
    """What a search has come to.

    Attributes:
        folder: of the search.
        metric: which leads the task.
    """

    folder: Path
    metric: str
    page_name: ClassVar[str]

    @property
    def page(self) -> Path:
        """The page with tables and plots."""
        return self.folder / self.page_name

    @abstractmethod
    def document(self) -> dict[str, Any]:
        """The search as plain values, for --json."""

    @abstractmethod
    def report(self) -> Report:
        """The search for people, as a page and on a terminal; one of its sections is called `TRIALS`."""


SummaryT = TypeVar("SummaryT", bound=Summary)


@dataclass(frozen=True, kw_only=True)
class Search(ABC, Generic[SummaryT]):
    """An objective over a space of options, in a folder; it is pickled for workers.

    Attributes:
        base: the recipe that the search starts from, resolved.
        space: what is searched.
        folder: of the search.
        trials: how many there are to be, over all workers and calls.
        parent: the process whose end ends this worker; None: nobody's.
    """

    base: Recipe
    space: Space
    folder: Path
    trials: int
    parent: int | None = None
    command: ClassVar[str]  # of edgeft; begins every line

    @abstractmethod
    def prepare(self) -> optuna.Study:
        """Make what all trials read, once, and open the study."""

    @abstractmethod
    def open_study(self) -> optuna.Study:
        """The study; hold the folder's lock."""

    @abstractmethod
    def compute(self, study: optuna.Study, trial: Trial) -> float | Sequence[float]:
        """Run a trial.

        Returns:
            Its values, as the study's directions count them.

        Raises:
            TrialPruned: it is hopeless; the words say why, or are empty.
            RecipeError: its options don't go together.
            ModelError, TrainingError, GateError: it failed.
        """

    @abstractmethod
    def describe_result(self, study: optuna.Study, trial: FrozenTrial) -> list[str]:
        """What an ended trial reached and which is the best so far, for a line of progress."""

    def describe_best(self, study: optuna.Study) -> str:
        """The best trial so far, for the bar over several workers."""
        return ""

    @abstractmethod
    def tidy(self, study: optuna.Study) -> None:
        """Remove what nobody needs after a trial. Hold the folder's lock."""

    @abstractmethod
    def has_results(self, study: optuna.Study) -> bool:
        """Whether a trial has anything to show."""

    @abstractmethod
    def summarize(self, study: optuna.Study, finished: bool = True) -> SummaryT:
        """Write what the search has come to, with its page.

        Args:
            study: of the search.
            finished: whether there are as many trials as were wanted.
        """

    def first_options(self) -> dict[str, Any]:
        """The recipe's own options as far as the space has them: the search starts there."""
        own_values = {path: value_at(self.base, path) for path in self.space}
        return {path: value for path, value in own_values.items() if self.space[path].contains(value)}

    def is_orphaned(self) -> bool:
        """Whether the process that started this worker is gone."""
        return self.parent is not None and os.getppid() != self.parent


def run_search(search: Search[SummaryT], workers: int = 1) -> SummaryT:
    """Run trials until there are enough in the folder, and sum up.

    Args:
        search: whose folder was opened by `search_folder`.
        workers: processes that are started; 1: this one works.
    """
    from edgeft.search.workers import work_together

    study = search.prepare()
    try:
        if workers == 1:
            run_trials(search)
        else:
            work_together(search, workers, study)
    except KeyboardInterrupt:
        report_so_far(search, study)
        raise
    return search.summarize(study)


def report_so_far(search: Search[Any], study: optuna.Study) -> None:
    """The table and the page of a search that was stopped; nothing where no trial has anything to show."""
    if not search.has_results(study):
        return
    summary = search.summarize(study, finished=False)
    for section in summary.report().sections:
        if section.title == TRIALS:
            terminal.show_section(section, console())
    say(f"{search.command}: the trials so far: {summary.page}")


def run_trials(search: Search[Any]) -> None:
    """Run trials until there are enough."""
    with studies.exclusive(search.folder):
        study = search.open_study()
    while not search.is_orphaned():
        claim = studies.claim(study, search.folder, search.space, search.trials)
        if claim is None:
            return
        with claim.lock:
            run_trial(search, study, claim.trial)
        with studies.exclusive(search.folder):
            search.tidy(study)


def run_trial(search: Search[Any], study: optuna.Study, trial: Trial) -> None:
    """Run one trial and tell the study how it ended."""
    title = f"{search.command}: trial {trial.number} of {search.trials}"
    say(f"{title}{estimate_time_left(search, study)}: {describe_options(search.base, trial.params)}")
    try:
        values = search.compute(study, trial)
    except optuna.TrialPruned as hopeless:
        if str(hopeless):
            trial.set_user_attr(WHY, str(hopeless))
        ended = study.tell(trial, state=TrialState.PRUNED)
    except (GateError, ModelError, RecipeError, TrainingError) as error:
        trial.set_user_attr(WHY, str(error))
        ended = study.tell(trial, state=TrialState.FAIL)
    else:
        ended = study.tell(trial, values)
    reason = [str(ended.user_attrs[WHY])] if WHY in ended.user_attrs else []
    outcome = TrialRow(**row_fields(ended)).outcome
    say(" · ".join([f"{title}: {outcome}", *search.describe_result(study, ended), *reason]))
    _free_memory()


def estimate_time_left(search: Search[Any], study: optuna.Study) -> str:
    """About how long the trials that are left take, as those before; nothing before one has ended."""
    trials = study.get_trials(deepcopy=False)
    seconds = [trial.duration.total_seconds() for trial in trials if trial.state.is_finished() and trial.duration]
    left = search.trials - sum(trial.state.is_finished() for trial in trials)
    at_once = max(1, sum(trial.state == TrialState.RUNNING for trial in trials))
    return f", {about(left * sum(seconds) / len(seconds) / at_once)} left" if seconds else ""


def _free_memory() -> None:
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def value_at(base: Recipe, path: str) -> Any:
    """The value of an option."""
    value: Any = base
    for part in path.split("."):
        value = getattr(value, part)
    return value


def describe_options(base: Recipe, options: Mapping[str, Any]) -> str:
    """The options of a trial that differ from the recipe's, as in "lora_rank 4, epochs 2"."""
    changed = {path: value for path, value in options.items() if value != value_at(base, path)}
    words = [
        f"{path} {value:.3g}" if isinstance(value, float) else f"{path} {value}" for path, value in changed.items()
    ]
    return ", ".join(words) or "the recipe itself"


def short_name(path: str) -> str:
    """An option without its stage."""
    return path.split(".", 1)[1]


def format_option(value: Any) -> str:
    """An option's value in a table."""
    if isinstance(value, float):
        return f"{value:.3g}"
    return facts.MISSING if value is None else str(value)

"""The study: who may take which trial, and when one is hopeless.

Optuna's SQLite storage holds the trials. Whoever runs a trial holds its lock file, which the system gives back however
the process ends: a trial that is running without a holder was killed, and goes back to those that wait.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.samplers import BaseSampler
from optuna.trial import FrozenTrial, Trial, TrialState

from edgeft.files import Lock, take_lock
from edgeft.search.space import Choices, Range, Space

Direction = Literal["minimize", "maximize"]
STORAGE = "study.db"
LOCK = "search.lock"
LOCKS = "locks"
SQLITE_WAIT_S = 60
PRUNERS = ("median", "halving", "none")
STATES = {
    TrialState.COMPLETE: "complete",
    TrialState.PRUNED: "pruned",
    TrialState.FAIL: "failed",
    TrialState.RUNNING: "running",
    TrialState.WAITING: "waiting",
}


def make_pruner(name: str) -> optuna.pruners.BasePruner:
    """What decides that a trial is hopeless, asked at every look at the validation split.

    Args:
        name: `median`: its best look so far is below the median of the completed trials at that look, from the sixth
            trial on; `halving`: successive halving; `none`: nothing.
    """
    kinds: dict[str, Callable[[], optuna.pruners.BasePruner]] = {
        "median": optuna.pruners.MedianPruner,
        "halving": optuna.pruners.SuccessiveHalvingPruner,
        "none": optuna.pruners.NopPruner,
    }
    return kinds[name]()


def to_distribution(options: Choices | Range) -> BaseDistribution:
    """One option of the space as Optuna names it."""
    if isinstance(options, Choices):
        return CategoricalDistribution(options.values)
    if options.whole:
        step = 1 if options.log else int(options.step or 1)
        return IntDistribution(int(options.low), int(options.high), log=options.log, step=step)
    return FloatDistribution(options.low, options.high, log=options.log, step=options.step)


def open_study(
    folder: Path, name: str, sampler: BaseSampler, pruner: optuna.pruners.BasePruner, directions: Sequence[Direction]
) -> optuna.Study:
    """A study of a folder by its name, made where there is none; hold the folder's lock."""
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    waiting = {"connect_args": {"timeout": SQLITE_WAIT_S}}
    return optuna.create_study(
        storage=optuna.storages.RDBStorage(f"sqlite:///{folder / STORAGE}", engine_kwargs=waiting),
        study_name=name,
        directions=list(directions),
        load_if_exists=True,
        sampler=sampler,
        pruner=pruner,
    )


@contextlib.contextmanager
def exclusive(folder: Path) -> Iterator[None]:
    """Hold the folder's lock, for moments: to take a trial, to tidy up, to prepare the rows."""
    lock = take_lock(folder / LOCK, wait=True)
    assert lock is not None  # it waited
    with lock:
        yield


def _take_trial_lock(folder: Path, number: int) -> Lock | None:
    """The lock of a trial; None where a living process has it."""
    (folder / LOCKS).mkdir(exist_ok=True)
    return take_lock(folder / LOCKS / f"{number:04d}")


@dataclass(frozen=True)
class Claim:
    """A trial that this process may run, and the lock that says so."""

    trial: Trial
    lock: Lock


def claim(study: optuna.Study, folder: Path, space: Space, trials: int) -> Claim | None:
    """The next trial for this process: one whose process was killed, or a new one; None where there are enough.

    Args:
        study: of the folder.
        folder: of the search.
        space: what is searched.
        trials: how many there are to be, over all workers.
    """
    with exclusive(folder):
        requeue_killed(study, folder)
        states = [trial.state for trial in study.get_trials(deepcopy=False)]
        if sum(state != TrialState.WAITING for state in states) >= trials:
            return None
        trial = study.ask({path: to_distribution(options) for path, options in space.items()})
        lock = _take_trial_lock(folder, trial.number)
        assert lock is not None  # nobody runs a trial that waited
        return Claim(trial, lock)


def requeue_killed(study: optuna.Study, folder: Path) -> None:
    """Let trials that run without a process wait for one; they keep their options, and their folder its checkpoint."""
    for trial in study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
        if (lock := _take_trial_lock(folder, trial.number)) is None:
            continue
        with lock:
            # Its process may have told and let go after the list was read; a finished trial stays as it is.
            if study._storage.get_trial(trial._trial_id).state == TrialState.RUNNING:
                study._storage.set_trial_state_values(trial._trial_id, TrialState.WAITING)


def best_trial(study: optuna.Study) -> FrozenTrial | None:
    """The completed trial with the best validation score, the first of equals."""
    done = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    return max(done, key=lambda trial: (trial.value or 0.0, -trial.number), default=None)


def score_of(trial: FrozenTrial) -> float | None:
    """What a trial of one objective reached: its value, or its best look where it was ended early."""
    looks = [value for value in trial.intermediate_values.values() if not math.isnan(value)]
    return trial.value if trial.value is not None else max(looks, default=None)

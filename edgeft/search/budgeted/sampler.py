"""Which options a trial of a budget search tries."""

from __future__ import annotations

import json
import math
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import optuna
from optuna.distributions import BaseDistribution
from optuna.samplers import RandomSampler, TPESampler
from optuna.trial import FrozenTrial, TrialState

from edgeft.search.space import Choices, Range, Space
from edgeft.search.study import Sampler, distribution, drawn

RANDOM_TRIALS = 6  # before TPE has something to go by
ATTEMPTS = 64  # to find options that no trial had; the second half of them by chance

Constraints = Callable[[FrozenTrial], Sequence[float]]


class BudgetSampler(Sampler):
    """TPE over all options together, within the budget's constraints, and never the same options twice.

    Args:
        seed: of the search.
        space: what is searched.
        constraints: of a trial that ended; above 0: a limit is broken.
    """

    def __init__(self, seed: int, space: Space, constraints: Constraints) -> None:
        super().__init__(seed)
        self.whole = {path: distribution(options) for path, options in space.items()}
        self.constraints = constraints

    def _of(self, trial: FrozenTrial) -> TPESampler:
        if trial.number != self.number:
            seed = drawn(self.seed, trial.number)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
                self.own = TPESampler(
                    seed=seed, n_startup_trials=1, multivariate=True, constraints_func=self.constraints
                )
            self.number = trial.number
        return self.own

    def infer_relative_search_space(self, study: optuna.Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        """The whole space: its options are chosen together."""
        return self.whole

    def sample_relative(
        self, study: optuna.Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """By TPE, or by chance while it knows little; not what another trial had."""
        others = [other for other in study.get_trials(deepcopy=False) if other.number != trial.number]
        tried = {named(other.params) for other in others}
        ended = sum(other.state in (TrialState.COMPLETE, TrialState.PRUNED) for other in others)
        chance = RandomSampler(seed=drawn(self.seed, trial.number, 1))
        found: dict[str, Any] = {}
        for attempt in range(ATTEMPTS):
            if ended < RANDOM_TRIALS or attempt >= ATTEMPTS // 2:
                found = {path: chance.sample_independent(study, trial, path, own) for path, own in self.whole.items()}
            else:
                found = super().sample_relative(study, trial, search_space)
            if named(found) not in tried:
                break
        return found

    def after_trial(
        self, study: optuna.Study, trial: FrozenTrial, state: TrialState, values: Sequence[float] | None
    ) -> None:
        """Keep what the trial broke."""
        self._of(trial).after_trial(study, trial, state, values)


def named(options: Mapping[str, Any]) -> str:
    """Options as a text that equal ones share."""
    return json.dumps(options, sort_keys=True)


def combinations(space: Space) -> int | None:
    """How many trials there can be that differ; None: any number."""
    counts = [count_of(options) for options in space.values()]
    return None if None in counts else math.prod(count or 1 for count in counts)


def count_of(options: Choices | Range) -> int | None:
    """How many values an option has; None: any number."""
    if isinstance(options, Choices):
        return len(options.values)
    return None if options.step is None else math.floor((options.high - options.low) / options.step + 1e-9) + 1

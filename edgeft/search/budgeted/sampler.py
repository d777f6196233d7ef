"""Which options a trial of a budget search tries."""

from __future__ import annotations

import json
import math
import warnings
from collections.abc import Mapping
from typing import Any

import optuna
from optuna.distributions import BaseDistribution
from optuna.samplers import RandomSampler, TPESampler
from optuna.trial import FrozenTrial, TrialState

from edgeft.search.sampling import SeededSampler, combine_seeds
from edgeft.search.space import Choices, Range, Space
from edgeft.search.study import to_distribution

RANDOM_TRIALS = 6  # before TPE has something to go by
ATTEMPTS = 64  # to find options that no trial had; the second half of them by chance


class BudgetSampler(SeededSampler):
    """TPE over all options together, within the trials' constraints, and never the same options twice.

    Args:
        seed: of the search.
        space: what is searched.
    """

    def __init__(self, seed: int, space: Space) -> None:
        super().__init__(seed)
        self.distributions = {path: to_distribution(options) for path, options in space.items()}

    def make_tpe(self, seed: int) -> TPESampler:
        """All options together, from the second trial on."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            return TPESampler(seed=seed, n_startup_trials=1, multivariate=True)

    def infer_relative_search_space(self, study: optuna.Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        """The whole space: its options are chosen together."""
        return self.distributions

    def sample_relative(
        self, study: optuna.Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """By TPE, or by chance while it knows little; not what another trial had."""
        others = [other for other in study.get_trials(deepcopy=False) if other.number != trial.number]
        tried = {name_options(other.params) for other in others}
        ended = sum(other.state in (TrialState.COMPLETE, TrialState.PRUNED) for other in others)
        chance = RandomSampler(seed=combine_seeds(self.seed, trial.number, 1))
        options: dict[str, Any] = {}
        for attempt in range(ATTEMPTS):
            if ended < RANDOM_TRIALS or attempt >= ATTEMPTS // 2:
                options = {
                    path: chance.sample_independent(study, trial, path, allowed)
                    for path, allowed in self.distributions.items()
                }
            else:
                options = super().sample_relative(study, trial, search_space)
            if name_options(options) not in tried:
                break
        return options


def name_options(options: Mapping[str, Any]) -> str:
    """Options as a text that equal ones share."""
    return json.dumps(options, sort_keys=True)


def count_combinations(space: Space) -> int | None:
    """How many trials there can be that differ; None: any number."""
    counts = [count_values(options) for options in space.values()]
    return None if None in counts else math.prod(count or 1 for count in counts)


def count_values(options: Choices | Range) -> int | None:
    """How many values an option has; None: any number."""
    if isinstance(options, Choices):
        return len(options.values)
    return None if options.step is None else math.floor((options.high - options.low) / options.step + 1e-9) + 1

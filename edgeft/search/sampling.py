"""A sampler whose draws depend on the seed and the trials before, not on the process."""

from __future__ import annotations

from typing import Any

import numpy as np
import optuna
from optuna.distributions import BaseDistribution
from optuna.samplers import BaseSampler, TPESampler
from optuna.trial import FrozenTrial


class SeededSampler(BaseSampler):
    """TPE whose draws for a trial depend on the seed, the trial's number and the trials before, not on the process.

    So a search that was killed goes on as if it had not been, and two workers never draw the same numbers.

    Args:
        seed: of the search.
    """

    def __init__(self, seed: int) -> None:
        self.seed, self.number = seed, -1
        self.tpe = self.make_tpe(seed)

    def make_tpe(self, seed: int) -> TPESampler:
        """The sampler of one trial."""
        return TPESampler(seed=seed)

    def _of(self, trial: FrozenTrial) -> TPESampler:
        if trial.number != self.number:
            self.number, self.tpe = trial.number, self.make_tpe(combine_seeds(self.seed, trial.number))
        return self.tpe

    def infer_relative_search_space(self, study: optuna.Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        """As TPE."""
        return self._of(trial).infer_relative_search_space(study, trial)

    def sample_relative(
        self, study: optuna.Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """As TPE."""
        return self._of(trial).sample_relative(study, trial, search_space)

    def sample_independent(
        self, study: optuna.Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        """As TPE."""
        return self._of(trial).sample_independent(study, trial, param_name, param_distribution)


def combine_seeds(*numbers: int) -> int:
    """One seed of several numbers."""
    return int(np.random.SeedSequence(list(numbers)).generate_state(1)[0])

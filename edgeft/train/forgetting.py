"""Against catastrophic forgetting: how a model that learns new rows keeps what it learned from earlier rows.

Elastic weight consolidation (EWC): Kirkpatrick et al. 2017, "Overcoming catastrophic forgetting in neural networks",
eq. 3. Rehearsal: Robins 1995, "Catastrophic forgetting, rehearsal and pseudorehearsal".
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

from edgeft.data.dataset import Dataset, Split
from edgeft.errors import ModelError, RecipeError
from edgeft.progress import Bar
from edgeft.recipe import FinetuneConfig
from edgeft.train.loop.loop import Objective, Penalty, copy_parameters, use_deterministic_kernels
from edgeft.train.loop.optim import trainable_parameters
from edgeft.train.tasks import TrainingTask

# Used if the recipe leaves them unset.
EWC_WEIGHT = 10_000.0
EWC_ROWS = 256
REHEARSAL_FRACTION = 0.25
OPTIONS = ("ewc_weight", "ewc_rows", "rehearsal_fraction")
TITLE = "importance of weights for earlier rows"

Diagonal = dict[str, torch.Tensor]


def check(config: FinetuneConfig, update: bool) -> None:
    """Refuse options against forgetting that would have no effect.

    Args:
        config: of the fine-tuning.
        update: whether there are earlier rows.

    Raises:
        RecipeError: one has no effect.
    """
    options = [name for name in OPTIONS if getattr(config, name) is not None]
    if options and not update:
        raise RecipeError(
            f"finetune.{options[0]}: has no effect without earlier rows; use it with `edgeft update RUN --data FILE`"
        )
    if config.ewc_rows is not None and config.ewc_weight == 0:
        raise RecipeError("finetune.ewc_rows: has no effect if ewc_weight is 0; leave it unset")


def fill_defaults(config: FinetuneConfig) -> FinetuneConfig:
    """The config of an update, with defaults for its unset options."""
    weight = EWC_WEIGHT if config.ewc_weight is None else config.ewc_weight
    share = REHEARSAL_FRACTION if config.rehearsal_fraction is None else config.rehearsal_fraction
    rows = config.ewc_rows or (EWC_ROWS if weight else None)
    return replace(config, ewc_weight=weight, ewc_rows=rows, rehearsal_fraction=share)


@dataclass(frozen=True, eq=False)
class RowsToLearn:
    """The rows of a training, and the earlier rows that it should not forget.

    Attributes:
        config: in an update, with the options against forgetting filled in.
        dataset: its training rows are those to learn: in an update the new rows and the rehearsed ones.
        earlier: the earlier training rows that EWC uses; None if this is not an update.
        rehearsed: how many earlier training rows are learned again.
    """

    config: FinetuneConfig
    dataset: Dataset
    earlier: Split | None = None
    rehearsed: int = 0

    @property
    def uses_ewc(self) -> bool:
        """Whether EWC is on."""
        return self.earlier is not None and bool(self.config.ewc_weight)

    def figures(self) -> dict[str, Any]:
        """The figures of an update, for stage.json."""
        if self.earlier is None:
            return {}
        rows = {"new": len(self.dataset.train) - self.rehearsed, "rehearsed": self.rehearsed}
        return {"update": {**rows, "ewc_rows": len(self.earlier), "ewc_weight": self.config.ewc_weight}}


def choose_rows(config: FinetuneConfig, dataset: Dataset, earlier: Mapping[str, int] | None) -> RowsToLearn:
    """Choose the rows to learn from a data folder.

    Args:
        config: of the fine-tuning.
        dataset: all rows.
        earlier: how many rows at the beginning of each split are from an earlier run; None if this is not an update.

    Raises:
        RecipeError: an option would have no effect.
    """
    check(config, earlier is not None)
    if earlier is None:
        return RowsToLearn(config, dataset)
    config = fill_defaults(config)
    count, seed = earlier["train"], config.seed or 0
    rehearsed = sample_indices(count, round((config.rehearsal_fraction or 0) * count), [seed, 1])
    new = range(count, len(dataset.train))
    train = dataset.train.take([*new, *rehearsed])
    sample = sample_indices(count, config.ewc_rows or 0, [seed, 2])
    return RowsToLearn(config, replace(dataset, train=train), dataset.train.take(sample), len(rehearsed))


def sample_indices(count: int, size: int, seed: Sequence[int]) -> list[int]:
    """At most `size` different indices below `count`, ascending."""
    drawn = np.random.default_rng(seed).choice(count, min(count, size), replace=False)
    return sorted(drawn.tolist())


def check_model(to_learn: RowsToLearn, model: Any) -> None:
    """Check that the loaded model is the earlier one: EWC preserves what it knows.

    Raises:
        ModelError: its head is new.
    """
    if to_learn.uses_ewc and model.edgeft_new_head:
        raise ModelError(
            "finetune.ewc_weight: the model's head is new, so it is not the model that learned the earlier rows; "
            "set finetune.model to the folder `finetune` of their run"
        )


# ----------------------------------------------------------------------------------------- elastic weight consolidation


def fisher_information(model: torch.nn.Module, objective: Objective, weights: Sequence[float]) -> Diagonal:
    """The diagonal of the empirical Fisher information of the trainable parameters.

    It is the sum of the squared gradients of the items' losses, divided by the number of targets. As the loss of a step
    is the mean over targets, an `ewc_weight` then means about the same for every task. (If an item's loss is itself a
    mean, over L labels or over start and end, the information is smaller, by up to L^2 and 4.) It is empirical because
    it uses the labels of the rows, which works for every task; the true Fisher samples them from the model. Dropout is
    off, so that the result is deterministic.

    Args:
        model: left in eval mode, without gradients.
        objective: loss of items, their negative log-likelihood.
        weights: (n,) targets of each item; 1 for a text with a single target.

    Returns:
        Name of each trainable parameter -> its information, of the same shape.
    """
    parameters = dict(trainable_parameters(model))
    information = {name: torch.zeros_like(parameter) for name, parameter in parameters.items()}
    total = sum(weights)
    model.eval()
    with use_deterministic_kernels(), Bar(TITLE, len(weights)) as bar:
        for index in range(len(weights)):
            model.zero_grad()
            objective(model, [index]).sum().backward()
            for name, parameter in parameters.items():
                if parameter.grad is not None:
                    information[name].addcmul_(parameter.grad, parameter.grad, value=1 / total)
            bar.advance()
    model.zero_grad()
    return information


def ewc_penalty(model: torch.nn.Module, information: Diagonal, weight: float) -> Penalty:
    """The EWC penalty around the current weights of the model: weight / 2 * sum_i F_i (theta_i - theta*_i)^2.

    Kirkpatrick et al. 2017, eq. 3, over the parameters that train. With an adapter these are the adapter's, which start
    without effect. So the penalty limits how much the model changes where earlier rows depend on it.

    Args:
        model: the earlier model, before the first step.
        information: of `fisher_information`.
        weight: lambda.
    """
    parameters = dict(trainable_parameters(model))
    before = copy_parameters(parameters)

    def penalty() -> torch.Tensor:
        parts = [(information[name] * (parameter - before[name]) ** 2).sum() for name, parameter in parameters.items()]
        return weight / 2 * torch.stack(parts).sum()

    return penalty


def create_penalty(to_learn: RowsToLearn, task: TrainingTask, model: torch.nn.Module) -> Penalty | None:
    """The EWC penalty of a training; None if EWC is off.

    Args:
        to_learn: has the sample of earlier rows.
        task: turns them into items and losses.
        model: before its first step; a resumed training computes the same penalty again.
    """
    if to_learn.earlier is None or not to_learn.uses_ewc:
        return None
    likely = use_plain_likelihood(task)
    items = likely.items(to_learn.earlier)  # not packed: each text's gradient is squared separately

    def objective(model: torch.nn.Module, indices: list[int]) -> torch.Tensor:
        return likely.losses(model, items, indices)

    return ewc_penalty(
        model, fisher_information(model, objective, items.weights.tolist()), to_learn.config.ewc_weight or 0
    )


def use_plain_likelihood(task: TrainingTask) -> TrainingTask:
    """The task with the plain negative log-likelihood as its loss: without label smoothing and label weights."""
    plain = copy.copy(task)
    plain.config = replace(task.config, label_smoothing=0.0)
    plain.dataset = replace(task.dataset, class_weights=[])
    return plain

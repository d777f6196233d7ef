"""Against forgetting: what a model that learns new rows keeps of those that it learned before.

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
from edgeft.train.loop.loop import Objective, Penalty, copies, deterministic
from edgeft.train.loop.optim import trainable
from edgeft.train.tasks import TrainingTask

# Where the recipe names none.
EWC_WEIGHT = 10_000.0
EWC_ROWS = 256
REHEARSAL_FRACTION = 0.25
OPTIONS = ("ewc_weight", "ewc_rows", "rehearsal_fraction")
TITLE = "what earlier rows need"

Diagonal = dict[str, torch.Tensor]


def check(config: FinetuneConfig, update: bool) -> None:
    """Whether the options against forgetting can do anything.

    Args:
        config: of the fine-tuning.
        update: whether there are earlier rows.

    Raises:
        RecipeError: they can't.
    """
    asked = [name for name in OPTIONS if getattr(config, name) is not None]
    if asked and not update:
        raise RecipeError(
            f"finetune.{asked[0]}: there are no earlier rows that could be forgotten; "
            "it is for `edgeft update RUN --data FILE`"
        )
    if config.ewc_rows is not None and config.ewc_weight == 0:
        raise RecipeError("finetune.ewc_rows: does nothing where ewc_weight is 0; leave it unset")


def filled(config: FinetuneConfig) -> FinetuneConfig:
    """The config of an update, with what it leaves open."""
    weight = EWC_WEIGHT if config.ewc_weight is None else config.ewc_weight
    share = REHEARSAL_FRACTION if config.rehearsal_fraction is None else config.rehearsal_fraction
    rows = config.ewc_rows or (EWC_ROWS if weight else None)
    return replace(config, ewc_weight=weight, ewc_rows=rows, rehearsal_fraction=share)


@dataclass(frozen=True, eq=False)
class RowsToLearn:
    """What a training learns, and from which earlier rows it must not depart.

    Attributes:
        config: with the options against forgetting filled in, in an update.
        dataset: its training rows are those to learn; in an update the new ones, and the earlier ones rehearsed.
        earlier: the earlier training rows that EWC asks; None where this is no update.
        rehearsed: how many earlier training rows are learned again.
    """

    config: FinetuneConfig
    dataset: Dataset
    earlier: Split | None = None
    rehearsed: int = 0

    @property
    def consolidates(self) -> bool:
        """Whether EWC is on."""
        return self.earlier is not None and bool(self.config.ewc_weight)

    def figures(self) -> dict[str, Any]:
        """What was done, for stage.json."""
        if self.earlier is None:
            return {}
        rows = {"new": len(self.dataset.train) - self.rehearsed, "rehearsed": self.rehearsed}
        return {"update": {**rows, "ewc_rows": len(self.earlier), "ewc_weight": self.config.ewc_weight}}


def choose_rows(config: FinetuneConfig, dataset: Dataset, earlier: Mapping[str, int] | None) -> RowsToLearn:
    """What to learn of a data folder.

    Args:
        config: of the fine-tuning.
        dataset: all rows.
        earlier: how many rows of each split, from its beginning, are an earlier run's; None: this is no update.

    Raises:
        RecipeError: an option would do nothing.
    """
    check(config, earlier is not None)
    if earlier is None:
        return RowsToLearn(config, dataset)
    config = filled(config)
    count, seed = earlier["train"], config.seed or 0
    rehearsed = some(count, round((config.rehearsal_fraction or 0) * count), [seed, 1])
    new = range(count, len(dataset.train))
    train = dataset.train.take([*new, *rehearsed])
    sample = some(count, config.ewc_rows or 0, [seed, 2])
    return RowsToLearn(config, replace(dataset, train=train), dataset.train.take(sample), len(rehearsed))


def some(count: int, wanted: int, seed: Sequence[int]) -> list[int]:
    """At most so many different places among `count`, in order."""
    drawn = np.random.default_rng(seed).choice(count, min(count, wanted), replace=False)
    return sorted(drawn.tolist())


def check_model(to_learn: RowsToLearn, model: Any) -> None:
    """EWC holds on to what the loaded model knows, so it must be the earlier one.

    Raises:
        ModelError: its head is new.
    """
    if to_learn.consolidates and model.edgeft_new_head:
        raise ModelError(
            "finetune.ewc_weight: the model's head is new, so it is not the model of the earlier rows; "
            "give the folder `finetune` of their run as finetune.model"
        )


# ----------------------------------------------------------------------------------------- elastic weight consolidation


def fisher(model: torch.nn.Module, objective: Objective, weights: Sequence[float]) -> Diagonal:
    """The diagonal of the empirical Fisher information of the trainable parameters.

    The sum over the items of the squared gradient of an item's loss, each alone, over the number of their targets: as
    the loss of a step is the mean over targets, one weight then means about the same for every task. (Where an item's
    loss is itself a mean, over L labels or over start and end, it is smaller: by up to L^2 and 4.) The labels are those
    that the rows have (hence empirical; the other Fisher draws them from the model), which every task can do. Dropout
    is off, so that nothing is drawn and a second time gives the same bits.

    Args:
        model: left in eval mode, without gradients.
        objective: loss of items, their negative log-likelihood.
        weights: (n,) targets of each item; a text that is answered whole is one.

    Returns:
        Name of each trainable parameter to its information, of its shape.
    """
    parameters = dict(trainable(model))
    found = {name: torch.zeros_like(parameter) for name, parameter in parameters.items()}
    total = sum(weights)
    model.eval()
    with deterministic(), Bar(TITLE, len(weights)) as bar:
        for place in range(len(weights)):
            model.zero_grad()
            objective(model, [place]).sum().backward()
            for name, parameter in parameters.items():
                if parameter.grad is not None:
                    found[name].addcmul_(parameter.grad, parameter.grad, value=1 / total)
            bar.advance()
    model.zero_grad()
    return found


def consolidation(model: torch.nn.Module, information: Diagonal, weight: float) -> Penalty:
    """The penalty of EWC around the weights that the model has now: weight / 2 * sum_i F_i (theta_i - theta*_i)^2.

    Kirkpatrick et al. 2017, eq. 3, over the parameters that train. With an adapter these are the adapter's, which
    start as nothing: what is held small is the change of the model, where earlier rows would feel it.

    Args:
        model: the earlier model, before the first step.
        information: of `fisher`.
        weight: lambda.
    """
    parameters = dict(trainable(model))
    before = copies(parameters)

    def penalty() -> torch.Tensor:
        parts = [(information[name] * (parameter - before[name]) ** 2).sum() for name, parameter in parameters.items()]
        return weight / 2 * torch.stack(parts).sum()

    return penalty


def penalty_of(to_learn: RowsToLearn, task: TrainingTask, model: torch.nn.Module) -> Penalty | None:
    """The penalty for departing from earlier rows; None where EWC is off.

    Args:
        to_learn: whose sample of earlier rows is asked.
        task: how they become items and losses.
        model: as it starts to learn; a resumed training computes the same again.
    """
    if to_learn.earlier is None or not to_learn.consolidates:
        return None
    likely = likelihood_of(task)
    items = likely.items(to_learn.earlier)  # not packed: each text's gradient is squared for itself

    def objective(model: torch.nn.Module, places: list[int]) -> torch.Tensor:
        return likely.losses(model, items, places)

    return consolidation(model, fisher(model, objective, items.weights.tolist()), to_learn.config.ewc_weight or 0)


def likelihood_of(task: TrainingTask) -> TrainingTask:
    """The task with the negative log-likelihood as its loss: no label smoothing, and no label weighs more."""
    found = copy.copy(task)
    found.config = replace(task.config, label_smoothing=0.0)
    found.dataset = replace(task.dataset, class_weights=[])
    return found

"""The part of a task that training needs: how rows become token ids, the loss, the predictions and their figures."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from numpy.typing import NDArray

from edgeft.data.dataset import Dataset, Split
from edgeft.data.formats import Columns, stored_kind
from edgeft.models import model_folder
from edgeft.recipe import TrainingConfig
from edgeft.train.judges import Judge
from edgeft.train.metrics import Figures
from edgeft.train.targets import Targets

TIE = 1e-6  # weight of the loss in the score, so that it decides between evaluations with equal lead metrics


@dataclass(frozen=True, eq=False)
class Items:
    """The rows of a split as the model takes them. One item is one sequence; a long row may become several items.

    Attributes:
        inputs: for each item, `input_ids` and what else the task stores with them.
        rows: (items,) index of the row that an item comes from; of the first, if several rows share the item.
        weights: (items,) weight of each item in the mean of the loss: 1, or the number of its targets.
    """

    inputs: list[dict[str, Any]]
    rows: NDArray[np.int64]
    weights: NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.inputs)

    @property
    def lengths(self) -> list[int]:
        """(items,) tokens of each item."""
        return [len(item["input_ids"]) for item in self.inputs]


class TrainingTask(Judge):
    """One task on one dataset; each form of rows has a subclass, which is also the judge of its predictions.

    Args:
        dataset: the rows and the labels.
        tokenizer: of the model.
        max_length: tokens of an item, at most.
        config: of the training; label smoothing and the like.

    Attributes:
        auto: the class of `transformers` that loads the model.
        adapter: peft's name of the task; None if peft has none.
        smooths: whether label smoothing has an effect.
        packs: whether several rows can share an item.
        timed: whether `predict` does exactly the work of an answer, so that its latency can be measured.
        refuses: methods and options that do not apply to it.
        answer: what the logits stand for: one of several classes, several classes at once, or a number.
        vocabulary: whether the classes are the tokens of the vocabulary.
        of_tokens: whether targets are tokens or positions of tokens, so that they change with the tokenizer.
        pairs: whether a row is two texts.
        lays_windows: whether a long context is split into windows by max_length.
        long_texts_become_items: whether texts longer than max_length become several items, so that nothing is cut.
        loose: whether training truncates a row otherwise than the runtime, by a token or two.
    """

    auto: ClassVar[str]
    adapter: ClassVar[str | None]
    smooths: ClassVar[bool] = False
    packs: ClassVar[bool] = False
    timed: ClassVar[bool] = True
    refuses: ClassVar[tuple[str, ...]] = ()
    answer: ClassVar[Literal["one", "several", "number"]] = "one"
    vocabulary: ClassVar[bool] = False
    of_tokens: ClassVar[bool] = False
    pairs: ClassVar[bool] = False
    lays_windows: ClassVar[bool] = False
    long_texts_become_items: ClassVar[bool] = False
    loose: ClassVar[bool] = False

    def __init__(self, dataset: Dataset, tokenizer: Any, max_length: int, config: TrainingConfig) -> None:
        self.tokenizer, self.max_length, self.config = tokenizer, max_length, config
        super().__init__(dataset)

    @classmethod
    def head(cls, labels: Sequence[str]) -> model_folder.Head:
        """The head that the model needs, given the labels of the dataset; some tasks have none."""
        return model_folder.Head(cls.auto, list(labels) or None)

    @classmethod
    def measured_texts(cls, columns: Columns, tokenizer: Any) -> list[list[str]]:
        """The texts whose token counts determine `max_length`: one list for each side of a row."""
        return [stored_kind(cls.form.name).inputs(columns)]

    @classmethod
    def score_name(cls, labels: Sequence[str]) -> str:
        """The name of the figure behind `score`."""
        return cls.lead_of(labels)

    @staticmethod
    def gain_in_points(before: float, after: float) -> float:
        """By how much the lead metric improved, in points of a hundred."""
        return 100 * (after - before)

    @abstractmethod
    def items(self, split: Split, training: bool = False) -> Items:
        """The rows of a split as the model takes them.

        Args:
            split: the rows.
            training: whether the items are for the loss only, not for predictions; then rows may share an item.
        """

    @abstractmethod
    def targets(self, model: torch.nn.Module, items: Items, indices: Sequence[int]) -> Targets:
        """A model's logits for the targets of some items.

        Args:
            model: in training mode if it learns.
            items: with targets.
            indices: (B,) of the items in the batch.
        """

    @abstractmethod
    def target_losses(self, targets: Targets) -> torch.Tensor:
        """(m,) the loss of each target."""

    def target_counts(self, items: Items) -> NDArray[np.int64]:
        """(items,) targets of each item."""
        return items.weights.astype(np.int64)

    def target_keys(self, items: Items) -> NDArray[np.int64]:
        """(targets,) a key for each target of all items, the same with every tokenizer."""
        return np.arange(self.target_counts(items).sum())

    def losses(self, model: torch.nn.Module, items: Items, indices: Sequence[int]) -> torch.Tensor:
        """(B,) the losses of some items, summed over their targets; arguments as of `targets`."""
        targets = self.targets(model, items, indices)
        return targets.sum_by_item(self.target_losses(targets), len(indices))

    @abstractmethod
    def predict(self, model: Any, items: Items) -> Any:
        """The model's predictions for all items, in the order of the rows; leaves the model in eval mode."""

    @abstractmethod
    def logits_to_compare(self, predictions: Any) -> NDArray[np.float32]:
        """(m, k) the numbers in which a merged model is compared with its adapter model."""

    def as_array(self, predictions: Any) -> NDArray[np.float32] | None:
        """The predictions as the array that later stages read; None if they are not an array."""
        return None

    def prepare(self, model: Any) -> None:
        """Prepare the loaded model for training; called before an adapter is added to it."""
        return

    def finish(self, model: Any) -> None:
        """Let the trained model answer in the units of the rows; called once, on the merged model."""
        return

    def to_training_scale(self, logits: torch.Tensor) -> torch.Tensor:
        """Logits of a finished model, (m, C), converted to the scale that the model has during training."""
        return logits

    def evaluate(self, model: Any, items: Items, split: Split) -> Figures:
        """The figures of an evaluation during training; fewer than those of `figures` if these take long."""
        return self.figures(self.predict(model, items), split)

    def score(self, figures: Figures) -> float:
        """How good an evaluation was; higher is better. The lower loss decides between equal lead metrics."""
        return figures[self.lead] - TIE * figures.get("nll", 0.0)

    # -------------------------------------------------------------------------- of an artifact, where the form can ship

    def outputs(self, model: Any, batch: dict[str, torch.Tensor]) -> tuple[torch.Tensor, ...]:
        """The outputs that the runtime's model has as `numbers`, computed by torch; the first axis is the batch."""
        return (model(**batch).logits,)

    def decoding_options(self, model: Any) -> dict[str, Any]:
        """What the runtime needs, beside the labels, to decode the outputs of the model's graph."""
        return {}

    @classmethod
    def output_names(cls, labels: Sequence[str]) -> list[str]:
        """The runtime's names of the numbers of an answer, given the labels of the dataset."""
        return list(labels)

    def stride(self) -> int:
        """Tokens that neighbouring windows of a long text share; 0 if long texts are truncated."""
        return 0


def batches_by_length(lengths: Sequence[int], batch_size: int) -> list[list[int]]:
    """Indices of items, in batches of similar length."""
    order = sorted(range(len(lengths)), key=lambda index: lengths[index])
    return [order[start : start + batch_size] for start in range(0, len(order), batch_size)]

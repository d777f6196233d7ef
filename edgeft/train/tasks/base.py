"""What training needs to know of a task: how rows become token ids, what the loss is, what is answered and how good."""

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

TIE = 1e-6  # of the loss decides between looks whose lead metric is equal


@dataclass(frozen=True, eq=False)
class Items:
    """What the rows of a split become for a model. One item is one sequence; a long row may become several.

    Attributes:
        inputs: of each item, `input_ids` and what else the task keeps with them.
        rows: (items,) the row of the split that each was made of; the first, where several rows share an item.
        weights: (items,) what each counts in the mean of the loss: 1, or the number of its targets.
    """

    inputs: list[dict[str, Any]]
    rows: NDArray[np.int64]
    weights: NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.inputs)

    @property
    def lengths(self) -> list[int]:
        """(items,) tokens of each."""
        return [len(item["input_ids"]) for item in self.inputs]


class TrainingTask(Judge):
    """One task on one dataset; a subclass a form of rows, beside the judge of its predictions.

    Args:
        dataset: the rows and the labels.
        tokenizer: of the model.
        max_length: tokens of an item.
        config: the training's; for label smoothing and the like.

    Attributes:
        auto: the class of `transformers` that loads the model.
        adapter: peft's name of the task; None where peft has none.
        smooths: whether label smoothing does anything.
        packs: whether several rows can share an item.
        timed: whether `predict` does what an answer takes, and no more.
        refuses: methods and options that mean nothing for it.
        answer: what logits are about: one of several, several at once, a number.
        vocabulary: whether it is one of all tokens.
        of_tokens: whether targets are tokens, or places among them, so that another tokenizer has other targets.
        pairs: whether a row is two texts.
        lays_windows: whether a long context is laid into windows by max_length.
        long_texts_become_items: whether what is longer than max_length becomes further items, so that nothing is cut.
        loose: whether training cuts a row otherwise than the runtime, which may cost a row a token or two.
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
        """What the model answers with; `labels` are the dataset's, of which some tasks have none."""
        return model_folder.Head(cls.auto, list(labels) or None)

    @classmethod
    def measured_texts(cls, columns: Columns, tokenizer: Any) -> list[list[str]]:
        """The texts whose tokens decide `max_length`, one list for each side of a row."""
        return [stored_kind(cls.form.name).inputs(columns)]

    @classmethod
    def scored(cls, labels: Sequence[str]) -> str:
        """The name of what `score` orders looks by."""
        return cls.lead_of(labels)

    @staticmethod
    def points(before: float, after: float) -> float:
        """How much the leading figure gained, in points of a hundred."""
        return 100 * (after - before)

    @abstractmethod
    def items(self, split: Split, training: bool = False) -> Items:
        """The rows of a split as the model takes them.

        Args:
            split: the rows.
            training: whether for the loss alone, not for predictions; then rows may share an item.
        """

    @abstractmethod
    def targets(self, model: torch.nn.Module, items: Items, places: Sequence[int]) -> Targets:
        """What a model says of the targets of some items.

        Args:
            model: in training mode, where it learns.
            items: with targets.
            places: (B,) which of them make the batch.
        """

    @abstractmethod
    def target_losses(self, found: Targets) -> torch.Tensor:
        """(m,) the loss of each target."""

    def target_counts(self, items: Items) -> NDArray[np.int64]:
        """(items,) targets of each item."""
        return items.weights.astype(np.int64)

    def target_keys(self, items: Items) -> NDArray[np.int64]:
        """(targets,) what tells the targets of all items apart, whatever tokenizer made them."""
        return np.arange(self.target_counts(items).sum())

    def losses(self, model: torch.nn.Module, items: Items, places: Sequence[int]) -> torch.Tensor:
        """(B,) the loss of some items, each summed over its targets; arguments as of `targets`."""
        found = self.targets(model, items, places)
        return found.summed(self.target_losses(found), len(places))

    @abstractmethod
    def predict(self, model: Any, items: Items) -> Any:
        """What the model says of every item, in the order of the rows; leaves the model in eval mode."""

    @abstractmethod
    def compared(self, predictions: Any) -> NDArray[np.float32]:
        """(m, k) the numbers in which a merged model must equal its adapter model."""

    def array(self, predictions: Any) -> NDArray[np.float32] | None:
        """The predictions as the array that later stages read; None where they are no array."""
        return None

    def prepare(self, model: Any) -> None:
        """Make the loaded model ready to learn; called before anything is added to it."""
        return

    def finish(self, model: Any) -> None:
        """Make the trained model answer in the units of the rows; called once, on the plain model."""
        return

    def taught(self, logits: torch.Tensor) -> torch.Tensor:
        """Logits of a finished model, (m, C), as a model that is still learning would give them."""
        return logits

    def look(self, model: Any, items: Items, split: Split) -> Figures:
        """The figures of one look during training; cheaper than all, where all need much time."""
        return self.figures(self.predict(model, items), split)

    def score(self, figures: Figures) -> float:
        """How good a look was; higher is better. The lower loss decides between equals."""
        return figures[self.lead] - TIE * figures.get("nll", 0.0)

    # -------------------------------------------------------------------------- of an artifact, where the form can ship

    def outputs(self, model: Any, batch: dict[str, torch.Tensor]) -> tuple[torch.Tensor, ...]:
        """What torch has for the `numbers` of the runtime's model, first axis the batch."""
        return (model(**batch).logits,)

    def decoding(self, model: Any) -> dict[str, Any]:
        """What the runtime needs to read the outputs of the torch model's graph, beside the labels."""
        return {}

    @classmethod
    def named(cls, labels: Sequence[str]) -> list[str]:
        """What the runtime calls the numbers of an answer; `labels` are the dataset's."""
        return list(labels)

    def stride(self) -> int:
        """Tokens that the windows of a long text share at the edge; 0: it is truncated."""
        return 0


def batches_by_length(lengths: Sequence[int], batch_size: int) -> list[list[int]]:
    """Places of items in batches of similar length."""
    order = sorted(range(len(lengths)), key=lambda place: lengths[place])
    return [order[start : start + batch_size] for start in range(0, len(order), batch_size)]

"""Tasks with one answer a text: a label, several labels, a number."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
import torch
from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy

from edgeft.data.dataset import Split
from edgeft.models import model_folder, model_layers
from edgeft.train.judges.sequences import Logits, MultiLabelJudge, RegressionJudge, SingleLabelJudge
from edgeft.train.loop.batches import collate, encode
from edgeft.train.metrics import Figures
from edgeft.train.targets import Targets, one_per_item
from edgeft.train.tasks.base import Items, TrainingTask, batches_by_length

BATCH = 32  # items in a forward pass without gradients


def predict_encoded(model: Any, ids: Sequence[Sequence[int]], pad_token_id: int, batch_size: int = BATCH) -> Logits:
    """Logits of encoded texts, in their order; rows of similar length share a batch.

    Returns:
        float32 (texts, labels).
    """
    device = next(model.parameters()).device
    logits = np.empty((len(ids), model.config.num_labels), dtype=np.float32)  # (N, L)
    model.eval()
    with torch.inference_mode():
        for indices in batches_by_length([len(row) for row in ids], batch_size):
            batch = collate([ids[index] for index in indices], pad_token_id, device)
            logits[indices] = model(**batch).logits.float().cpu().numpy()
    return logits


class SequenceTask(TrainingTask):
    """A text and its label, labels or number; predictions are logits, float32 (n, L)."""

    auto = "AutoModelForSequenceClassification"
    adapter = "SEQ_CLS"
    problem: ClassVar[str]

    @classmethod
    def head(cls, labels: Sequence[str]) -> model_folder.Head:
        return model_folder.Head(cls.auto, list(labels), cls.problem)

    def items(self, split: Split, training: bool = False) -> Items:
        ids = encode(self.tokenizer, split.texts, self.max_length)
        targets = split.labels.tolist()
        inputs = [{"input_ids": row, "labels": target} for row, target in zip(ids, targets, strict=True)]
        return Items(inputs, np.arange(len(ids)), np.ones(len(ids)))

    def targets(self, model: torch.nn.Module, items: Items, indices: Sequence[int]) -> Targets:
        device = next(model.parameters()).device
        chosen = [items.inputs[index] for index in indices]
        batch = collate([item["input_ids"] for item in chosen], self.tokenizer.pad_token_id, device)
        return one_per_item(model(**batch).logits, [item["labels"] for item in chosen])

    def target_losses(self, targets: Targets) -> torch.Tensor:
        return self.loss(targets.logits, targets.truth)

    @abstractmethod
    def loss(self, logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """(B,) the loss of logits (B, L) against the targets."""

    def predict(self, model: Any, items: Items) -> Logits:
        return predict_encoded(model, [item["input_ids"] for item in items.inputs], self.tokenizer.pad_token_id)

    def logits_to_compare(self, predictions: Logits) -> Logits:
        return predictions

    def as_array(self, predictions: Logits) -> Logits:
        return predictions


class SingleLabel(SingleLabelJudge, SequenceTask):
    """One label a text."""

    problem = "single_label_classification"
    smooths = True

    def loss(self, logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """Cross-entropy of each row against its label, times the label's weight.

        With smoothing e over L labels: (1 - e) times that, plus e / L times the sum of the weighted cross-entropies of
        all labels (Szegedy et al. 2016, section 7; in torch's form with weights).
        """
        weights = label_weights(self.dataset.class_weights, logits.device)
        return cross_entropy(logits, targets, weights, reduction="none", label_smoothing=self.config.label_smoothing)


class MultiLabel(MultiLabelJudge, SequenceTask):
    """Any number of labels a text."""

    problem = "multi_label_classification"
    answer = "several"

    def loss(self, logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """Binary cross-entropy, averaged over the labels; a label's weight counts in the rows that have the label."""
        weights = label_weights(self.dataset.class_weights, logits.device)
        return binary_cross_entropy_with_logits(logits, targets, reduction="none", pos_weight=weights).mean(dim=-1)


class Regression(RegressionJudge, SequenceTask):
    """A number a text. The model learns it in standard deviations from the mean; `finish` restores the units.

    `mean` is 0 if the head has no bias that could hold it.
    """

    problem = "regression"
    answer = "number"

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.standardized = False

    @classmethod
    def head(cls, labels: Sequence[str]) -> model_folder.Head:
        return model_folder.Head(cls.auto, cls.output_names(labels), cls.problem)

    @classmethod
    def output_names(cls, labels: Sequence[str]) -> list[str]:
        return ["score"]

    def prepare(self, model: Any) -> None:
        """Let the model answer in standard deviations; a new head does so from the start."""
        if model_layers.last_linear(model).bias is None:
            self._set_mean(0.0)
        if not model.edgeft_new_head:
            _rescale(model, 1 / self.deviation, -self.mean / self.deviation)
        self.standardized = True

    def finish(self, model: Any) -> None:
        _rescale(model, self.deviation, self.mean)
        self.standardized = False

    def loss(self, logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """Half the squared error in standard deviations; only for training, after `prepare`."""
        standardized = (targets.float() - self.mean) / self.deviation
        return 0.5 * (logits[:, 0] - standardized) ** 2

    def to_training_scale(self, logits: torch.Tensor) -> torch.Tensor:
        return (logits - self.mean) / self.deviation if self.standardized else logits

    def predict(self, model: Any, items: Items) -> Logits:
        """float32 (n, 1), in the unit of the targets, before and after `finish`."""
        logits = super().predict(model, items)
        return logits * np.float32(self.deviation) + np.float32(self.mean) if self.standardized else logits

    def logits_to_compare(self, predictions: Logits) -> Logits:
        """In standard deviations from the mean: relative to numbers far from zero any difference would look small."""
        return (predictions - np.float32(self.mean)) / np.float32(self.deviation)

    def decoding_options(self, model: Any) -> dict[str, Any]:
        return {"deviation": self.deviation}

    def score(self, figures: Figures) -> float:
        """The correlation; the smaller error decides between equal ones."""
        return figures[self.lead] - 1e-6 * figures["rmse"] / self.deviation


def label_weights(class_weights: Sequence[float], device: torch.device) -> torch.Tensor | None:
    """(L,) the weight of each label in the loss; None if all count alike."""
    return torch.tensor(class_weights, device=device) if class_weights else None


@torch.no_grad()
def _rescale(model: Any, factor: float, offset: float) -> None:
    """Change the head's last layer so that it outputs `factor * output + offset`."""
    last = model_layers.last_linear(model)
    last.weight.mul_(factor)
    if last.bias is not None:
        last.bias.mul_(factor).add_(offset)

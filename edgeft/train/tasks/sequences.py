"""Tasks with one answer a text: a label, several labels, a number."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Hashable, Sequence
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy

from edgeft import models
from edgeft.data.dataset import Split
from edgeft.runtime import Model
from edgeft.train import metrics
from edgeft.train.batches import collate, encode
from edgeft.train.metrics import Figures, resampling
from edgeft.train.metrics.bootstrap import Measure
from edgeft.train.targets import Targets, one_each
from edgeft.train.tasks.base import Items, TrainingTask, batches_by_length

BATCH = 32  # items in a forward pass without gradients
THRESHOLD = 0.5  # probability from which a label of several is given
TENTH = 0.1  # of the targets' standard deviation: numbers no further apart are the same answer

Logits = NDArray[np.float32]


def predict(model: Any, ids: Sequence[Sequence[int]], pad_token_id: int, batch_size: int = BATCH) -> Logits:
    """Logits of encoded texts, in their order; rows of similar length share a batch.

    Returns:
        float32 (texts, labels).
    """
    device = next(model.parameters()).device
    logits = np.empty((len(ids), model.config.num_labels), dtype=np.float32)  # (N, L)
    model.eval()
    with torch.inference_mode():
        for places in batches_by_length([len(row) for row in ids], batch_size):
            batch = collate([ids[place] for place in places], pad_token_id, device)
            logits[places] = model(**batch).logits.float().cpu().numpy()
    return logits


class SequenceTask(TrainingTask):
    """A text and what is to be said of it; predictions are logits, float32 (n, L)."""

    auto = "AutoModelForSequenceClassification"
    adapter = "SEQ_CLS"
    ships = True
    unlabelled = True
    problem: ClassVar[str]

    @classmethod
    def head(cls, labels: Sequence[str]) -> models.Head:
        return models.Head(cls.auto, list(labels), cls.problem)

    def items(self, split: Split, training: bool = False) -> Items:
        ids = encode(self.tokenizer, split.texts, self.max_length)
        targets = split.labels.tolist()
        inputs = [{"input_ids": row, "labels": target} for row, target in zip(ids, targets, strict=True)]
        return Items(inputs, np.arange(len(ids)), np.ones(len(ids)))

    def targets(self, model: torch.nn.Module, items: Items, places: Sequence[int]) -> Targets:
        device = next(model.parameters()).device
        chosen = [items.inputs[place] for place in places]
        batch = collate([item["input_ids"] for item in chosen], self.tokenizer.pad_token_id, device)
        return one_each(model(**batch).logits, [item["labels"] for item in chosen])

    def target_losses(self, found: Targets) -> torch.Tensor:
        return self.loss(found.logits, found.truth)

    @abstractmethod
    def loss(self, logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """(B,) the loss of logits (B, L) against the targets."""

    def predict(self, model: Any, items: Items) -> Logits:
        return predict(model, [item["input_ids"] for item in items.inputs], self.tokenizer.pad_token_id)

    def asked(self, model: Model, split: Split) -> Logits:
        if model.manifest.calibration.keeps_answers:
            return model.logits(self.given(split), batch_size=1)
        return self.logits_of(model.probabilities(self.given(split), batch_size=1))

    def logits_of(self, probabilities: Logits) -> Logits:
        """What `predict` would have to give for these probabilities, (n, L) to (n, L)."""
        return metrics.logits_of(probabilities).astype(np.float32)

    def compared(self, predictions: Logits) -> Logits:
        return predictions

    def array(self, predictions: Logits) -> Logits:
        return predictions


class SingleLabel(SequenceTask):
    """One label a text."""

    kinds = ("single-label",)
    problem = "single_label_classification"
    smooths = True
    lead = "accuracy"

    def loss(self, logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """Cross-entropy of each row against its label, times the label's weight.

        With smoothing e over L labels: (1 - e) times that, plus e / L times the sum of every label's weighted
        cross-entropy (Szegedy et al. 2016, section 7; torch's form of it with weights).
        """
        weights = weights_of(self.dataset.class_weights, logits.device)
        return cross_entropy(logits, targets, weights, reduction="none", label_smoothing=self.config.label_smoothing)

    def figures(self, predictions: Logits, split: Split) -> Figures:
        return metrics.single_label(predictions, split.labels)

    def measures(self, predictions: Logits, split: Split) -> dict[str, Measure]:
        guess = predictions.argmax(axis=1)  # (n,)
        macro_f1 = resampling.macro_f1(split.labels, guess)
        return {"accuracy": (guess == split.labels).astype(np.float64), "macro_f1": macro_f1}

    def answers(self, predictions: Logits) -> Sequence[Hashable]:
        found: list[int] = predictions.argmax(axis=1).tolist()
        return found

    def choices(self, predictions: Logits, split: Split) -> tuple[Logits, NDArray[np.int64]]:
        return predictions, split.labels


class MultiLabel(SequenceTask):
    """Any number of labels a text."""

    kinds = ("multi-label",)
    problem = "multi_label_classification"
    answer = "several"
    lead = "micro_f1"

    def loss(self, logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """Binary cross-entropy, the mean over the labels; times the label's weight in rows that have the label."""
        weights = weights_of(self.dataset.class_weights, logits.device)
        return binary_cross_entropy_with_logits(logits, targets, reduction="none", pos_weight=weights).mean(dim=-1)

    def figures(self, predictions: Logits, split: Split) -> Figures:
        nll = np.logaddexp(0, predictions) - predictions * split.labels  # (n, L)
        found = metrics.multi_label(predictions, split.labels)
        of_label = metrics.per_label_f1(predictions, split.labels, self.dataset.labels)
        shown = {f"f1_{name}": value for name, value in of_label.items()}
        return {self.lead: 0.0, **found, "nll": float(nll.mean()), **shown}

    def measures(self, predictions: Logits, split: Split) -> dict[str, Measure]:
        guess, truth = predictions >= 0, split.labels > 0  # (n, L): a probability of a half is a logit of 0
        right, given = (guess & truth).sum(axis=1), guess.sum(axis=1) + truth.sum(axis=1)  # (n,)
        micro_f1 = resampling.ratio(right, given, 2.0)
        return {"micro_f1": micro_f1, "subset_accuracy": (guess == truth).all(axis=1).astype(np.float64)}

    def answers(self, predictions: Logits) -> Sequence[Hashable]:
        return [tuple(np.flatnonzero(row >= 0).tolist()) for row in predictions]

    def choices(self, predictions: Logits, split: Split) -> tuple[Logits, NDArray[np.int64]]:
        """Each label of each row for itself, right ones (n, L)."""
        return predictions, split.labels.astype(np.int64)

    def logits_of(self, probabilities: Logits) -> Logits:
        return metrics.logits_of(probabilities, several=True).astype(np.float32)


class Regression(SequenceTask):
    """A number a text. The model learns it in standard deviations from the mean; `finish` puts units back.

    Attributes:
        mean: of the training targets; 0 where the head has no bias that could hold it.
        deviation: of the training targets from there; 1 where there is none.
    """

    kinds = ("regression",)
    problem = "regression"
    answer = "number"
    lead = "pearson"

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self._around(float(self.dataset.train.labels.mean(dtype=np.float64)))
        self.standardized = False

    def _around(self, mean: float) -> None:
        targets = self.dataset.train.labels.astype(np.float64)
        self.mean, self.deviation = mean, float(np.sqrt(((targets - mean) ** 2).mean())) or 1.0
        self.unit = self.deviation

    @classmethod
    def head(cls, labels: Sequence[str]) -> models.Head:
        return models.Head(cls.auto, cls.named(labels), cls.problem)

    @classmethod
    def named(cls, labels: Sequence[str]) -> list[str]:
        return ["score"]

    def prepare(self, model: Any) -> None:
        """From now on the model answers in standard deviations; a new head does so from the start."""
        if models.last_linear(model).bias is None:
            self._around(0.0)
        if not model.edgeft_new_head:
            _rescale(model, 1 / self.deviation, -self.mean / self.deviation)
        self.standardized = True

    def finish(self, model: Any) -> None:
        _rescale(model, self.deviation, self.mean)
        self.standardized = False

    def loss(self, logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """Half the squared error in standard deviations; training only, where `prepare` was called."""
        wanted = (targets.float() - self.mean) / self.deviation
        return 0.5 * (logits[:, 0] - wanted) ** 2

    def taught(self, logits: torch.Tensor) -> torch.Tensor:
        return (logits - self.mean) / self.deviation if self.standardized else logits

    def predict(self, model: Any, items: Items) -> Logits:
        """float32 (n, 1), in the unit of the targets whether or not `finish` was called."""
        found = super().predict(model, items)
        return found * np.float32(self.deviation) + np.float32(self.mean) if self.standardized else found

    def compared(self, predictions: Logits) -> Logits:
        """In standard deviations from the mean: far from zero any difference is small."""
        return (predictions - np.float32(self.mean)) / np.float32(self.deviation)

    def figures(self, predictions: Logits, split: Split) -> Figures:
        """Without a correlation (all answers alike), `pearson` is 0: such a model has learnt nothing."""
        return {self.lead: 0.0, **metrics.regression(predictions, split.labels)}

    def measures(self, predictions: Logits, split: Split) -> dict[str, Measure]:
        guess, truth = predictions[:, 0].astype(np.float64), split.labels.astype(np.float64)
        return {"pearson": resampling.pearson(guess, truth), "mae": abs(guess - truth)}

    def answers(self, predictions: Logits) -> Sequence[Hashable]:
        """To a tenth of the targets' standard deviation."""
        found: list[float] = np.round((predictions[:, 0] - self.mean) / self.deviation, 1).tolist()
        return found

    def agreement(self, before: Logits, now: Logits) -> float:
        """Share of the rows whose numbers lie within a tenth of the targets' standard deviation of each other."""
        return float((np.abs(before - now) <= TENTH * self.deviation).mean())

    def decoding(self, model: Any) -> dict[str, Any]:
        return {"deviation": self.deviation}

    def score(self, figures: Figures) -> float:
        """The correlation, and the smaller error between equals."""
        return figures[self.lead] - 1e-6 * figures["rmse"] / self.deviation


def weights_of(class_weights: Sequence[float], device: torch.device) -> torch.Tensor | None:
    """(L,) the weight of each label in the loss; None where all count alike."""
    return torch.tensor(class_weights, device=device) if class_weights else None


@torch.no_grad()
def _rescale(model: Any, factor: float, offset: float) -> None:
    """Let the head's last layer answer `factor * answer + offset`."""
    last = models.last_linear(model)
    last.weight.mul_(factor)
    if last.bias is not None:
        last.bias.mul_(factor).add_(offset)

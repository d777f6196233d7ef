"""Judges of tasks with one answer a text: a label, several labels, a number."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeft import tasks
from edgeft.data.dataset import Split
from edgeft.runtime import Model
from edgeft.train import metrics
from edgeft.train.judges.base import Judge
from edgeft.train.metrics import Figures, resampling
from edgeft.train.metrics.bootstrap import Measure

TENTH = 0.1  # standard deviations of the targets: numbers no further apart count as the same answer

Logits = NDArray[np.float32]


class SequenceJudge(Judge):
    """Predictions are logits, float32 (n, L)."""

    def predict_artifact(self, model: Model, split: Split) -> Logits:
        if model.manifest.calibration.keeps_answers:
            return model.logits(self.artifact_inputs(split), batch_size=1)
        return self.logits_of(model.probabilities(self.artifact_inputs(split), batch_size=1))

    def logits_of(self, probabilities: Logits) -> Logits:
        """The logits that belong to these probabilities, (n, L) to (n, L)."""
        return metrics.logits_of(probabilities).astype(np.float32)

    def predict_artifact_with_probabilities(
        self, model: Model, split: Split
    ) -> tuple[Logits, NDArray[np.float32] | None]:
        outputs = model.run(model.windows(self.artifact_inputs(split)), ("logits", "probabilities"), 1)
        logits, probabilities = (np.stack(arrays) for arrays in zip(*(windows[0] for windows in outputs), strict=True))
        return logits if model.manifest.calibration.keeps_answers else self.logits_of(probabilities), probabilities


class SingleLabelJudge(SequenceJudge):
    """One label a text."""

    form = tasks.SINGLE_LABEL
    lead = "accuracy"

    def figures(self, predictions: Logits, split: Split) -> Figures:
        return metrics.single_label(predictions, split.labels)

    def measures(self, predictions: Logits, split: Split) -> dict[str, Measure]:
        guess = predictions.argmax(axis=1)  # (n,)
        macro_f1 = resampling.macro_f1(split.labels, guess)
        return {"accuracy": (guess == split.labels).astype(np.float64), "macro_f1": macro_f1}

    def answers(self, predictions: Logits) -> Sequence[Hashable]:
        labels: list[int] = predictions.argmax(axis=1).tolist()
        return labels

    def logits_and_targets(self, predictions: Logits, split: Split) -> tuple[Logits, NDArray[np.int64]]:
        return predictions, split.labels


class MultiLabelJudge(SequenceJudge):
    """Any number of labels a text."""

    form = tasks.MULTI_LABEL
    lead = "micro_f1"

    def figures(self, predictions: Logits, split: Split) -> Figures:
        nll = np.logaddexp(0, predictions) - predictions * split.labels  # (n, L)
        figures = metrics.multi_label(predictions, split.labels)
        of_label = metrics.per_label_f1(predictions, split.labels, self.dataset.labels)
        shown = {f"f1_{name}": value for name, value in of_label.items()}
        return {self.lead: 0.0, **figures, "nll": float(nll.mean()), **shown}

    def measures(self, predictions: Logits, split: Split) -> dict[str, Measure]:
        guess, truth = predictions >= 0, split.labels > 0  # (n, L): a probability of a half is a logit of 0
        right, predicted_and_true = (guess & truth).sum(axis=1), guess.sum(axis=1) + truth.sum(axis=1)  # (n,)
        micro_f1 = resampling.ratio(right, predicted_and_true, 2.0)
        return {"micro_f1": micro_f1, "subset_accuracy": (guess == truth).all(axis=1).astype(np.float64)}

    def answers(self, predictions: Logits) -> Sequence[Hashable]:
        return [tuple(np.flatnonzero(row >= 0).tolist()) for row in predictions]

    def logits_and_targets(self, predictions: Logits, split: Split) -> tuple[Logits, NDArray[np.int64]]:
        """Every label of every row is a choice of its own; targets (n, L)."""
        return predictions, split.labels.astype(np.int64)

    def logits_of(self, probabilities: Logits) -> Logits:
        return metrics.logits_of(probabilities, several=True).astype(np.float32)


class RegressionJudge(SequenceJudge):
    """A number a text.

    Attributes:
        mean: of the training targets.
        deviation: of the training targets from `mean`; 1 where they don't vary.
    """

    form = tasks.REGRESSION
    lead = "pearson"

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self._set_mean(float(self.dataset.train.labels.mean(dtype=np.float64)))

    def _set_mean(self, mean: float) -> None:
        targets = self.dataset.train.labels.astype(np.float64)
        self.mean, self.deviation = mean, float(np.sqrt(((targets - mean) ** 2).mean())) or 1.0
        self.unit = self.deviation

    def figures(self, predictions: Logits, split: Split) -> Figures:
        """`pearson` is 0 where it is undefined, with all answers equal: such a model has learnt nothing."""
        return {self.lead: 0.0, **metrics.regression(predictions, split.labels)}

    def measures(self, predictions: Logits, split: Split) -> dict[str, Measure]:
        guess, truth = predictions[:, 0].astype(np.float64), split.labels.astype(np.float64)
        return {"pearson": resampling.pearson(guess, truth), "mae": abs(guess - truth)}

    def predict_artifact_with_probabilities(self, model: Model, split: Split) -> tuple[Logits, None]:
        return self.predict_artifact(model, split), None

    def answers(self, predictions: Logits) -> Sequence[Hashable]:
        """Answers rounded to a tenth of the targets' standard deviation."""
        rounded: list[float] = np.round((predictions[:, 0] - self.mean) / self.deviation, 1).tolist()
        return rounded

    def agreement(self, before: Logits, now: Logits) -> float:
        """Share of the rows whose two numbers differ by at most a tenth of the targets' standard deviation."""
        return float((np.abs(before - now) <= TENTH * self.deviation).mean())

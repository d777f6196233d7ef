"""Predictions of one answer a text: a label, several labels, a number."""

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

TENTH = 0.1  # of the targets' standard deviation: numbers no further apart are the same answer

Logits = NDArray[np.float32]


class SequenceJudge(Judge):
    """Predictions are logits, float32 (n, L)."""

    def asked(self, model: Model, split: Split) -> Logits:
        if model.manifest.calibration.keeps_answers:
            return model.logits(self.given(split), batch_size=1)
        return self.logits_of(model.probabilities(self.given(split), batch_size=1))

    def logits_of(self, probabilities: Logits) -> Logits:
        """What `predict` would have to give for these probabilities, (n, L) to (n, L)."""
        return metrics.logits_of(probabilities).astype(np.float32)

    def asked_with_probabilities(self, model: Model, split: Split) -> tuple[Logits, NDArray[np.float32] | None]:
        found = model.run(model.windows(self.given(split)), ("logits", "probabilities"), 1)
        logits, probabilities = (np.stack(arrays) for arrays in zip(*(windows[0] for windows in found), strict=True))
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
        found: list[int] = predictions.argmax(axis=1).tolist()
        return found

    def choices(self, predictions: Logits, split: Split) -> tuple[Logits, NDArray[np.int64]]:
        return predictions, split.labels


class MultiLabelJudge(SequenceJudge):
    """Any number of labels a text."""

    form = tasks.MULTI_LABEL
    lead = "micro_f1"

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


class RegressionJudge(SequenceJudge):
    """A number a text.

    Attributes:
        mean: of the training targets.
        deviation: of the training targets from there; 1 where there is none.
    """

    form = tasks.REGRESSION
    lead = "pearson"

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self._around(float(self.dataset.train.labels.mean(dtype=np.float64)))

    def _around(self, mean: float) -> None:
        targets = self.dataset.train.labels.astype(np.float64)
        self.mean, self.deviation = mean, float(np.sqrt(((targets - mean) ** 2).mean())) or 1.0
        self.unit = self.deviation

    def figures(self, predictions: Logits, split: Split) -> Figures:
        """Without a correlation (all answers alike), `pearson` is 0: such a model has learnt nothing."""
        return {self.lead: 0.0, **metrics.regression(predictions, split.labels)}

    def measures(self, predictions: Logits, split: Split) -> dict[str, Measure]:
        guess, truth = predictions[:, 0].astype(np.float64), split.labels.astype(np.float64)
        return {"pearson": resampling.pearson(guess, truth), "mae": abs(guess - truth)}

    def asked_with_probabilities(self, model: Model, split: Split) -> tuple[Logits, None]:
        return self.asked(model, split), None

    def answers(self, predictions: Logits) -> Sequence[Hashable]:
        """To a tenth of the targets' standard deviation."""
        found: list[float] = np.round((predictions[:, 0] - self.mean) / self.deviation, 1).tolist()
        return found

    def agreement(self, before: Logits, now: Logits) -> float:
        """Share of the rows whose numbers lie within a tenth of the targets' standard deviation of each other."""
        return float((np.abs(before - now) <= TENTH * self.deviation).mean())

"""The judge of a task: it asks an artifact for predictions and measures how good they are.

It needs no torch: where only the runtime and the libraries of the metrics are installed, artifacts can be judged.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Hashable, Sequence
from statistics import mean
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from edgeft.data.dataset import Dataset, Split
from edgeft.runtime import Model
from edgeft.tasks import RowForm
from edgeft.train.metrics import Figures
from edgeft.train.metrics.bootstrap import Measure


class Judge(ABC):
    """Judges predictions on one dataset; there is a subclass for each form of rows.

    Each subclass has its own type of predictions; the methods turn them into figures and answers.

    Args:
        dataset: the rows and the labels.

    Attributes:
        form: the form of the rows.
        unit: the unit in which differences between numbers are measured.
        lead: name of the figure that decides between two models; higher is better.
    """

    form: ClassVar[RowForm]
    unit: float = 1.0
    lead: str

    def __init__(self, dataset: Dataset) -> None:
        self.dataset = dataset

    @classmethod
    def lead_of(cls, labels: Sequence[str]) -> str:
        """The name of the leading figure, given the labels of the dataset."""
        return cls.lead

    @abstractmethod
    def figures(self, predictions: Any, split: Split) -> Figures:
        """All metrics of the predictions of a split."""

    @abstractmethod
    def measures(self, predictions: Any, split: Split) -> dict[str, Measure]:
        """The headline metrics as measures of rows, for intervals and slices; `lead` is the first."""

    @abstractmethod
    def answers(self, predictions: Any) -> Sequence[Hashable]:
        """What a user would get for each row (for tags: each word); two models agree where their answers are equal."""

    def agreement(self, before: Any, now: Any) -> float:
        """Share of equal answers, from the predictions of two models on the same rows."""
        pairs = zip(self.answers(before), self.answers(now), strict=True)
        return mean(a == b for a, b in pairs)

    def artifact_inputs(self, split: Split) -> list[Any]:
        """(n,) the input of the artifact for each row."""
        return split.texts

    def predict_artifact(self, model: Model, split: Split) -> Any:
        """Predictions of an artifact, as of `predict`: through the runtime, one row at a time as on a device."""
        raise NotImplementedError

    def predict_artifact_with_probabilities(self, model: Model, split: Split) -> tuple[Any, NDArray[np.float32] | None]:
        """The predictions of `predict_artifact`, and the calibrated probabilities; None if the task has none."""
        return self.predict_artifact(model, split), None

    def logits_and_targets(self, predictions: Any, split: Split) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """Logits (m, L) and targets, to calibrate; not implemented by tasks without such choices.

        Targets are ids of labels (m,), or 0 and 1 for each label (m, L) where every label is a choice of its own.
        """
        raise NotImplementedError

"""What judges predictions of a task: what an artifact is asked, what is right, and how good the answers are.

No torch here: an artifact is judged where only the runtime is installed, with the libraries of the metrics.
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
    """Judges predictions on one dataset; a subclass a form of rows.

    What predictions are is the subclass's own; the methods turn them into what everybody understands.

    Args:
        dataset: the rows and the labels.

    Attributes:
        form: what is declared of the form of rows.
        unit: what differences of its numbers are measured in.
        lead: the figure that decides between two models; higher is better.
    """

    form: ClassVar[RowForm]
    unit: float = 1.0
    lead: str

    def __init__(self, dataset: Dataset) -> None:
        self.dataset = dataset

    @classmethod
    def lead_of(cls, labels: Sequence[str]) -> str:
        """The name of the leading figure; `labels` are the dataset's."""
        return cls.lead

    @abstractmethod
    def figures(self, predictions: Any, split: Split) -> Figures:
        """All metrics of the predictions of a split."""

    @abstractmethod
    def measures(self, predictions: Any, split: Split) -> dict[str, Measure]:
        """The headline metrics row by row, for intervals and slices; `lead` is the first."""

    @abstractmethod
    def answers(self, predictions: Any) -> Sequence[Hashable]:
        """What a user would get for each row (for tags: each token); equal answers are agreement."""

    def agreement(self, before: Any, now: Any) -> float:
        """Share of the answers that two models give alike, from the predictions of both on the same rows."""
        pairs = zip(self.answers(before), self.answers(now), strict=True)
        return mean(a == b for a, b in pairs)

    def given(self, split: Split) -> list[Any]:
        """(n,) what an artifact is asked, row by row."""
        return split.texts

    def asked(self, model: Model, split: Split) -> Any:
        """What `predict` gives, of an artifact: through the runtime, one row at a time as on a device."""
        raise NotImplementedError

    def asked_with_probabilities(self, model: Model, split: Split) -> tuple[Any, NDArray[np.float32] | None]:
        """What `asked` gives, and beside it the calibrated probabilities of `choices`; None where there are none."""
        return self.asked(model, split), None

    def choices(self, predictions: Any, split: Split) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """Logits (m, L) of all choices that were made, and the right ones, to calibrate; not where there are none.

        The right ones are labels (m,), or where each label is a choice of its own 1 or 0 for each of them (m, L).
        """
        raise NotImplementedError

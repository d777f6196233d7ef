"""A label, labels or a number for a text: `text-classification` and `text-regression`."""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any, NotRequired, TypedDict, overload

import numpy as np
from msgspec import Meta

from edgeft.runtime.answers.windows import Window
from edgeft.runtime.model import BATCH_SIZE, Arrays, Floats, Model

REGRESSION = "regression"
THRESHOLD = 0.5  # probability from which a label of several is given


class Prediction(TypedDict):
    """One label with its probability; of a regression `score` and the number.

    Where the artifact has a threshold, `abstain` says whether the text's best label stays below it.
    """

    label: str
    score: float
    abstain: NotRequired[bool]


def decode(probabilities: Sequence[float], labels: Sequence[str], top_k: int | None) -> list[Prediction]:
    """The best labels of a text, best first; equal scores keep the labels' order.

    Args:
        probabilities: (labels,).
        labels: their names.
        top_k: how many; None: all.
    """
    best = heapq.nlargest(top_k or len(labels), range(len(labels)), key=probabilities.__getitem__)
    return [Prediction(label=labels[column], score=probabilities[column]) for column in best]


@dataclass(frozen=True, kw_only=True)
class Decoding:
    """What reading the outputs needs, of `Manifest.decoding`.

    Attributes:
        deviation: of a number, the standard deviation of the training targets.
    """

    deviation: Annotated[float, Meta(gt=0, le=1e30)] = 1.0


class Classifier(Model):
    """An artifact of one label, several labels or a number a text.

    Of several labels each has a probability of its own: `top_k=None` gives them all. Of a number there is one answer,
    whose label is `score`.
    """

    takes = ("top_k",)
    Decoding = Decoding

    def __init__(self, *parts: Any) -> None:
        super().__init__(*parts)
        # A number is the logit itself, as in transformers.pipeline.
        self.reads = ("logits",) if self.kind == REGRESSION else ("probabilities",)
        self.replays = ("logits",) if self.kind == REGRESSION else ("logits", "probabilities")
        self._selective = self.manifest.calibration.selective

    @property
    def unit(self) -> float:
        """Of a number the standard deviation of the training targets."""
        return float(self.manifest.decoding.get("deviation", 1.0)) if self.kind == REGRESSION else 1.0

    @overload
    def __call__(self, texts: str, top_k: int | None = 1) -> list[Prediction]: ...  # type: ignore[overload-overlap]
    @overload
    def __call__(self, texts: Sequence[str], top_k: int = 1) -> list[Prediction]: ...
    @overload
    def __call__(self, texts: Sequence[str], top_k: None) -> list[list[Prediction]]: ...
    def __call__(self, texts: str | Sequence[str], top_k: int | None = 1) -> list[Prediction] | list[list[Prediction]]:
        """Predict, in the shape of `transformers.pipeline("text-classification")`.

        Args:
            texts: one text or many.
            top_k: how many labels for each text, best first; None: all.

        Returns:
            For one text, or for many with `top_k=1`, a list of `{"label", "score"}`; for many texts with another
            `top_k` a list of such lists.
        """
        answers: list[Any] = self._predict(texts, top_k=top_k)
        return answers if isinstance(texts, str) or top_k != 1 else [row[0] for row in answers]

    def decode(self, windows: Sequence[Window], arrays: Sequence[Arrays], top_k: int | None = 1) -> list[Prediction]:
        best = decode(arrays[0][0].tolist(), self.labels, top_k)
        if self._selective:
            least = self._selective.threshold
            abstain = least is None or best[0]["score"] < least
            for answer in best:
                answer["abstain"] = abstain
        return best

    def replay_values(self, windows: Sequence[Window], arrays: Sequence[Arrays]) -> tuple[Floats, str]:
        logits, *others = arrays[0]
        if self.kind == REGRESSION:
            return logits, ""
        (chances,) = others
        several = self.kind == "multi-label"
        answered = np.flatnonzero(chances >= THRESHOLD).tolist() if several else [int(chances.argmax())]
        return logits, ", ".join(self.labels[label] for label in answered)

    def probabilities(self, texts: Sequence[str], batch_size: int = BATCH_SIZE) -> Floats:
        if self.kind == REGRESSION:
            return super().probabilities(texts, batch_size)
        return self._rows(texts, "probabilities", batch_size)

    def logits(self, texts: Sequence[str], batch_size: int = BATCH_SIZE) -> Floats:
        return self._rows(texts, "logits", batch_size)

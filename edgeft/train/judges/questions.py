"""Predictions of an answer that stands in a text."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edgeft import tasks
from edgeft.data.dataset import Split
from edgeft.runtime import Model
from edgeft.train import metrics
from edgeft.train.judges.base import Judge
from edgeft.train.metrics import Figures
from edgeft.train.metrics.bootstrap import Measure
from edgeft.train.metrics.questions import exact_matches, token_f1s


@dataclass(frozen=True, eq=False)
class Answers:
    """What a model answers to n questions.

    Attributes:
        texts: (n,) from the context; empty where the model says that there is none.
        starts: (n,) place of each in its context; -1 where there is none.
        scores: (n,) start and end logit of the answer, together; of an artifact the answer's probability.
        logits: (T, 2) of start and end, of all tokens of all windows.
        tokens: (windows,) of each window.
        nll: of the targets, the mean over the windows; None where nobody knows the targets' tokens.
    """

    texts: list[str]
    starts: list[int]
    scores: NDArray[np.float32]
    logits: NDArray[np.float32]
    tokens: list[int]
    nll: float | None


class QuestionsJudge(Judge):
    """Predictions are `Answers`."""

    form = tasks.SQUAD
    lead = "token_f1"

    def figures(self, predictions: Answers, split: Split) -> Figures:
        """Those of `metrics.question_answering`, and `nll`, the loss of a window, where it is known."""
        metrics.check_finite(predictions.logits)
        known = {} if predictions.nll is None else {"nll": predictions.nll}
        return {**metrics.question_answering(predictions.texts, _given(split)), **known}

    def measures(self, predictions: Answers, split: Split) -> dict[str, Measure]:
        given = _given(split)
        return {
            "token_f1": token_f1s(predictions.texts, given),
            "exact_match": exact_matches(predictions.texts, given),
        }

    def answers(self, predictions: Answers) -> Sequence[Hashable]:
        return predictions.texts

    def given(self, split: Split) -> list[dict[str, str]]:
        pairs = zip(split.columns["question"], split.columns["context"], strict=True)
        return [{"question": question, "context": context} for question, context in pairs]

    def asked(self, model: Model, split: Split) -> Answers:
        windows = model.windows(self.given(split))
        found = model.run(windows, model.reads, 1)
        answers = [model.decode(*one) for one in zip(windows, found, strict=True)]
        logits = [np.stack(arrays, axis=-1) for of_row in found for arrays in of_row]
        return Answers(
            [one["answer"] for one in answers],
            [one["start"] if one["answer"] else -1 for one in answers],
            np.array([one["score"] for one in answers], dtype=np.float32),
            np.concatenate(logits),
            [len(of_window) for of_window in logits],
            None,
        )


def _given(split: Split) -> list[list[str]]:
    """(n,) the right answers of each question."""
    return [row["text"] for row in split.columns["answers"]]

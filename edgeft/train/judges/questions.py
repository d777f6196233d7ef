"""Judge of extractive question answering: the answer is a span of a text."""

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
    """A model's answers to n questions.

    Attributes:
        texts: (n,) spans of the contexts; empty where the model finds no answer.
        starts: (n,) offset of each in its context, in characters; -1 where there is no answer.
        scores: (n,) sum of the answer's start and end logit; from an artifact, the answer's probability.
        logits: (T, 2) of start and end, for all tokens of all windows.
        tokens: (windows,) tokens of each window.
        nll: of the targets, averaged over the windows; None if the tokens of the targets are unknown.
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
        """The figures of `metrics.question_answering`, and `nll`, the loss of a window, if it is known."""
        metrics.check_finite(predictions.logits)
        known = {} if predictions.nll is None else {"nll": predictions.nll}
        return {**metrics.question_answering(predictions.texts, _reference_answers(split)), **known}

    def measures(self, predictions: Answers, split: Split) -> dict[str, Measure]:
        references = _reference_answers(split)
        return {
            "token_f1": token_f1s(predictions.texts, references),
            "exact_match": exact_matches(predictions.texts, references),
        }

    def answers(self, predictions: Answers) -> Sequence[Hashable]:
        return predictions.texts

    def artifact_inputs(self, split: Split) -> list[dict[str, str]]:
        pairs = zip(split.columns["question"], split.columns["context"], strict=True)
        return [{"question": question, "context": context} for question, context in pairs]

    def predict_artifact(self, model: Model, split: Split) -> Answers:
        windows = model.windows(self.artifact_inputs(split))
        outputs = model.run(windows, model.reads, 1)
        answers = [model.decode(*answer) for answer in zip(windows, outputs, strict=True)]
        logits = [np.stack(arrays, axis=-1) for of_row in outputs for arrays in of_row]
        return Answers(
            [answer["answer"] for answer in answers],
            [answer["start"] if answer["answer"] else -1 for answer in answers],
            np.array([answer["score"] for answer in answers], dtype=np.float32),
            np.concatenate(logits),
            [len(of_window) for of_window in logits],
            None,
        )


def _reference_answers(split: Split) -> list[list[str]]:
    """(n,) the right answers of each question."""
    return [row["text"] for row in split.columns["answers"]]

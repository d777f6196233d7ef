"""A closer look at the test predictions: intervals, slices, and answers that hang on an identity term.

What is measured here stands in stage.json and the manifest, so it holds no texts: an example of a changed answer is
named by its place in the test split.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Hashable, Sequence
from typing import Any

import numpy as np

from edgeft.data.dataset import Split
from edgeft.recipe import FinetuneConfig
from edgeft.train import swapped
from edgeft.train.judges.look import Plain, intervals_and_slices, lengths_of
from edgeft.train.metrics import counterfactual
from edgeft.train.metrics.counterfactual import Counterfactual
from edgeft.train.tasks import TrainingTask
from edgeft.train.tasks.sequences import Regression

__all__ = ["closer_look", "flips", "lengths_of", "of_model", "with_texts"]

# Texts -> what the task's `predict` gives for them.
Predict = Callable[[Sequence[str]], Any]


def of_model(task: TrainingTask, model: Any, predictions: Any, config: FinetuneConfig) -> Plain:
    """The closer look at a torch model.

    Args:
        task: the task.
        model: on its device.
        predictions: its own, of the test split.
        config: resamples, seed and identity terms.
    """

    def predict(texts: Sequence[str]) -> Any:
        return task.predict(model, task.items(with_texts(task.dataset.test, texts)))

    return closer_look(task, predictions, task.dataset.test, predict, config)


def with_texts(split: Split, texts: Sequence[str]) -> Split:
    """Rows with other texts; what else they have is the first row's and means nothing."""
    rows = split.take([0] * len(texts))
    return dataclasses.replace(rows, columns={**rows.columns, "text": list(texts)})


def closer_look(task: TrainingTask, predictions: Any, split: Split, predict: Predict, config: FinetuneConfig) -> Plain:
    """All of it as plain values.

    Args:
        task: the task.
        predictions: of the split.
        split: the rows.
        predict: for the texts with swapped terms; called once, and only for rows with one text.
        config: resamples, seed and identity terms.

    Returns:
        `intervals`: measure to `value`, `low` and `high`, the lead first. `slices`: see `sliced`. `counterfactual`, for
        rows with one text: `texts` with a term, `flip_rate`, `by_kind`, `examples`.
    """
    found = intervals_and_slices(task, predictions, split, config.bootstrap_resamples, config.seed or 0)
    if task.form.has_lone_text:
        found["counterfactual"] = flips(task, predictions, split, predict, config)
    return found


# ------------------------------------------------------------------------------------------------------ identity terms


def flips(task: TrainingTask, predictions: Any, split: Split, predict: Predict, config: FinetuneConfig) -> Plain:
    """How often an answer changes with the identity terms of its text; the texts' own answers are not asked again."""
    known = dict(zip(split.texts, task.answers(predictions), strict=True))

    def answers(texts: Sequence[str]) -> list[Hashable]:
        new = [text for text in dict.fromkeys(texts) if text not in known]
        if new:
            known.update(zip(new, task.answers(predict(new)), strict=True))
        return [known[text] for text in texts]

    terms = swapped.terms_of(config.identity_terms)
    return _plain_flips(task, split, counterfactual.flips(split.texts, answers, terms))


def _plain_flips(task: TrainingTask, split: Split, found: Counterfactual) -> Plain:
    places = {text: place for place, text in reversed(list(enumerate(split.texts)))}
    return {
        "texts": found.texts,
        "flip_rate": found.flip_rate,
        "by_kind": found.by_kind,
        "examples": [
            {
                "place": places[flip.text],
                "kind": flip.kind,
                "before": shown(task, flip.before),
                "after": shown(task, flip.after),
            }
            for flip in found.examples
        ],
    }


def shown(task: TrainingTask, answer: Any) -> str:
    """An answer as people read it."""
    if isinstance(task, Regression):
        return np.format_float_positional(answer * task.deviation + task.mean, 3, fractional=False, trim="-")
    labels = answer if isinstance(answer, tuple) else (answer,)
    return ", ".join(task.dataset.labels[label] for label in labels) or "(none)"

"""Scrutiny of the test predictions: confidence intervals, slices, and answers that depend on an identity term.

The results are part of stage.json and the manifest, so they contain no texts: an example of a changed answer is given
by its index in the test split.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Hashable, Sequence
from typing import Any

import numpy as np

from edgeft.data.dataset import Split
from edgeft.recipe import FinetuneConfig
from edgeft.train import identity_swaps
from edgeft.train.judges.intervals import Plain, intervals_and_slices
from edgeft.train.metrics import counterfactual
from edgeft.train.metrics.counterfactual import Counterfactual
from edgeft.train.tasks import TrainingTask
from edgeft.train.tasks.sequences import Regression

# Texts -> their predictions, as of the task's `predict`.
Predict = Callable[[Sequence[str]], Any]


def analyze_model(task: TrainingTask, model: Any, predictions: Any, config: FinetuneConfig) -> Plain:
    """Analyze the test predictions of a torch model.

    Args:
        task: the task.
        model: on its device.
        predictions: of the model on the test split.
        config: resamples, seed and identity terms.
    """

    def predict(texts: Sequence[str]) -> Any:
        return task.predict(model, task.items(replace_texts(task.dataset.test, texts)))

    return analyze_predictions(task, predictions, task.dataset.test, predict, config)


def replace_texts(split: Split, texts: Sequence[str]) -> Split:
    """Rows with other texts; their other columns are copied from the first row and mean nothing."""
    rows = split.take([0] * len(texts))
    return dataclasses.replace(rows, columns={**rows.columns, "text": list(texts)})


def analyze_predictions(
    task: TrainingTask, predictions: Any, split: Split, predict: Predict, config: FinetuneConfig
) -> Plain:
    """Analyze predictions; the results are plain values.

    Args:
        task: the task.
        predictions: of the split.
        split: the rows.
        predict: predicts texts with swapped terms; called once, and only if a row is one text.
        config: resamples, seed and identity terms.

    Returns:
        `intervals`: measure -> `value`, `low` and `high`, the lead first. `slices`: see `slice_lead_metric`.
        `counterfactual`, for rows with one text: `texts` with a term, `flip_rate`, `by_kind`, `examples`.
    """
    result = intervals_and_slices(task, predictions, split, config.bootstrap_resamples, config.seed or 0)
    if task.form.has_lone_text:
        result["counterfactual"] = measure_flips(task, predictions, split, predict, config)
    return result


# ------------------------------------------------------------------------------------------------------ identity terms


def measure_flips(
    task: TrainingTask, predictions: Any, split: Split, predict: Predict, config: FinetuneConfig
) -> Plain:
    """Measure how often answers change with identity terms; answers to the original texts are not computed again."""
    known = dict(zip(split.texts, task.answers(predictions), strict=True))

    def answers(texts: Sequence[str]) -> list[Hashable]:
        new = [text for text in dict.fromkeys(texts) if text not in known]
        if new:
            known.update(zip(new, task.answers(predict(new)), strict=True))
        return [known[text] for text in texts]

    terms = identity_swaps.load_terms(config.identity_terms)
    return _plain_flips(task, split, counterfactual.measure_flips(split.texts, answers, terms))


def _plain_flips(task: TrainingTask, split: Split, flips: Counterfactual) -> Plain:
    indices = {text: index for index, text in reversed(list(enumerate(split.texts)))}
    return {
        "texts": flips.texts,
        "flip_rate": flips.flip_rate,
        "by_kind": flips.by_kind,
        "examples": [
            {
                "place": indices[flip.text],
                "kind": flip.kind,
                "before": format_answer(task, flip.before),
                "after": format_answer(task, flip.after),
            }
            for flip in flips.examples
        ],
    }


def format_answer(task: TrainingTask, answer: Any) -> str:
    """An answer as text for people."""
    if isinstance(task, Regression):
        return np.format_float_positional(answer * task.deviation + task.mean, 3, fractional=False, trim="-")
    labels = answer if isinstance(answer, tuple) else (answer,)
    return ", ".join(task.dataset.labels[label] for label in labels) or "(none)"

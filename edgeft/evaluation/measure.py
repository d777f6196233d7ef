"""The figures of an artifact on labelled rows."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeft.data.dataset import Dataset, Split
from edgeft.errors import require
from edgeft.evaluation import rows
from edgeft.progress import say
from edgeft.report import scores
from edgeft.runtime import Model
from edgeft.train.judges import Judge, judge_of
from edgeft.train.judges.intervals import intervals_and_slices
from edgeft.train.metrics.bootstrap import interval

PURPOSE = "to evaluate an artifact"
SCHEMA_VERSION = 1
BINS = 15  # of equal width, of the expected calibration error
RESAMPLES, SEED = 1000, 0
Document = dict[str, Any]


def evaluate(model: Model, file: str, columns: Mapping[str, Any], resamples: int = RESAMPLES) -> Document:
    """Ask an artifact every row of a labelled file, one at a time as on a device, and compare.

    Args:
        model: the artifact.
        file: what `data.file` takes.
        columns: options of `DataConfig` that the user gave.
        resamples: draws behind each 95% interval.

    Returns:
        `artifact`, `task`, `kind`, `file`, `columns` (role to column), `rows`, `left_out`, `labels` (label to rows),
        `metrics`, `intervals` and `slices` (as in the manifest), `calibration` (None where there are no probabilities),
        `confusion` (of one label a row: true label to predicted label to rows), `recorded` (what the manifest says of
        the same metrics on its own test rows) and `seconds`.

    Raises:
        DataError: rows that can't be used, or labels that the artifact hasn't.
        MissingExtraError: scikit-learn, scipy or seqeval is not installed.
        UserError: an artifact of a kind that has no right answers.
    """
    rows.check_kind(model.manifest)
    for module in ("sklearn", "scipy", "seqeval"):
        require(module, PURPOSE)
    dataset, left_out = rows.read_dataset(model, file, columns)
    judge, split = judge_of(dataset), dataset.test
    say(f"evaluate: {len(split):,} rows of {file}")
    started = time.perf_counter()
    predictions, probabilities = judge.predict_artifact_with_probabilities(model, split)
    figures = {name: value for name, value in judge.figures(predictions, split).items() if name != "nll"}
    return {
        "schema_version": SCHEMA_VERSION,
        "artifact": model.name,
        "task": dataset.task,
        "kind": dataset.kind,
        "file": dataset.source,
        "columns": dataset.columns,
        "rows": len(split),
        "left_out": left_out,
        "labels": _count_labels(dataset),
        "metrics": figures,
        **intervals_and_slices(judge, predictions, split, resamples, SEED),
        "calibration": _calibration(judge, predictions, probabilities, split, model, resamples),
        "confusion": _confusion(predictions, dataset) if dataset.form.has_one_label else None,
        "recorded": model.manifest.metrics.get("artifact", {}).get("intervals", {}),
        "seconds": time.perf_counter() - started,
    }


def _count_labels(dataset: Dataset) -> dict[str, int]:
    """Rows (of tags: words) of each label, those without any among them."""
    columns = dataset.test.columns
    used = Counter(columns.get("label", ()))
    used.update(name for key in ("labels", "tags") for row in columns.get(key, ()) for name in row)
    return {label: used[label] for label in dataset.labels}


def _calibration(
    judge: Judge,
    predictions: Any,
    probabilities: NDArray[np.float32] | None,
    split: Split,
    model: Model,
    resamples: int,
) -> Document | None:
    """How far the probabilities can be believed; None where there are none.

    Returns:
        `ece`, the expected calibration error, `ece_by_chance`, what right probabilities would show on so few answers,
        `nll` and `brier` of a choice, both with their `intervals`; where the artifact abstains `abstains`: `share` of
        the answers that are given, and the `error` among them.
    """
    if probabilities is None:
        return None
    chances, truth = columns_of_choices(probabilities, judge.logits_and_targets(predictions, split)[1])
    nll = -np.log(np.clip(chances[np.arange(len(truth)), truth].astype(np.float64), 1e-12, None))  # (m,)
    squares = ((chances.astype(np.float64) - np.eye(chances.shape[1])[truth]) ** 2).sum(axis=1)  # (m,)
    each = {"nll": nll, "brier": squares}
    found: Document = {
        "choices": len(truth),
        "ece": scores.bins(chances, truth, BINS).calibration_error,
        "ece_by_chance": scores.chance_error(chances, BINS),
        **{name: float(values.mean()) for name, values in each.items()},
    }
    if len(truth) == len(split):  # choices of one row are correlated: they can't be resampled alone
        drawn = {name: interval(values, len(truth), resamples, SEED) for name, values in each.items()}
        found["intervals"] = {
            name: {"low": one.low, "high": one.high} for name, one in drawn.items() if one is not None
        }
    selective = model.manifest.calibration.selective
    if selective is not None and len(truth) == len(split):
        least = np.inf if selective.threshold is None else selective.threshold
        given = chances.max(axis=1) >= least
        wrong = chances.argmax(axis=1) != truth
        found["abstains"] = {"share": float(given.mean()), "error": float(wrong[given].mean()) if given.any() else 0.0}
    return found


def columns_of_choices(
    probabilities: NDArray[np.float32], right: NDArray[np.int64]
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Probabilities (m, L) with the right columns (m,); where each label is a choice of its own, two columns for each.

    Args:
        probabilities: (n, L).
        right: labels (n,), or 1 or 0 for each of them (n, L).
    """
    if right.ndim == 1:
        return probabilities, right
    flat = probabilities.ravel()
    return np.stack([1 - flat, flat], axis=1), right.ravel()


def _confusion(predictions: NDArray[np.float32], dataset: Dataset) -> dict[str, dict[str, int]]:
    """True label to predicted label to rows; pairs that don't occur are left out."""
    counts = scores.confusion(predictions, dataset.test.labels)
    return {
        true: {label: int(count) for label, count in zip(dataset.labels, row, strict=True) if count}
        for true, row in zip(dataset.labels, counts, strict=True)
    }

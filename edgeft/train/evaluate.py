"""Predictions of a torch model on the splits, and its figures for the gate table."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any, TypeVar

import numpy as np
import torch

from edgeft.data.dataset import Dataset
from edgeft.models import devices, model_folder
from edgeft.recipe import TrainingConfig
from edgeft.stage_folder import digest, read_result
from edgeft.train import tasks
from edgeft.train.judges.sequences import Logits
from edgeft.train.tasks import TrainingTask

T = TypeVar("T")
LATENCY_QUERIES = 60
LATENCY_WARMUP = 10
SPLITS = ("validation", "test")


def measure_latency(answer: Callable[[T], object], rows: Sequence[T]) -> float:
    """Median milliseconds of a single answer after warm-up, with one thread, including tokenization."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        for row in rows[:LATENCY_WARMUP]:
            answer(row)
        return median(_milliseconds(answer, rows[query % len(rows)]) for query in range(LATENCY_QUERIES))
    finally:
        torch.set_num_threads(before)


def _milliseconds(answer: Callable[[T], object], row: T) -> float:
    start = time.perf_counter()
    answer(row)
    return (time.perf_counter() - start) * 1e3


def create_answerer(task: TrainingTask, model: Any, split: str = "validation") -> Callable[[int], object]:
    """A function that passes one row of a split through tokenizer and model."""
    rows = task.dataset.split(split)

    def answer(row: int) -> object:
        return task.predict(model, task.items(rows.take([row])))

    return answer


def write_predictions(folder: Path, split: str, logits: Logits) -> None:
    """Save the logits of a split as SPLIT_logits.npy, float32 (rows, labels)."""
    np.save(folder / f"{split}_logits.npy", logits)


def read_predictions(folder: Path, split: str) -> Logits:
    """Read the logits that `write_predictions` saved."""
    values: Logits = np.load(folder / f"{split}_logits.npy", allow_pickle=False)
    return values


def load_or_predict(folder: Path, data: Path, dataset: Dataset, device: torch.device | None = None) -> dict[str, Any]:
    """The predictions of another model folder on the splits: the saved ones if they are of the same data, else new.

    Args:
        folder: a model folder, of a stage or the user's.
        data: the data folder.
        dataset: its rows.
        device: where the model runs; None for the CPU.
    """
    done = read_result(folder)
    complete = all((folder / f"{split}_logits.npy").exists() for split in SPLITS)
    if complete and done and done.inputs.get("data") == digest(data):
        return {split: read_predictions(folder, split) for split in SPLITS}
    tokenizer = model_folder.load_tokenizer(folder)
    task = tasks.create_task(dataset, tokenizer, tokenizer.model_max_length, TrainingConfig())
    return predict_splits(task, model_folder.load(folder, task.head(dataset.labels), device=device))


def predict_splits(task: TrainingTask, model: Any) -> dict[str, Any]:
    """The model's predictions on validation and test."""
    return {split: task.predict(model, task.items(task.dataset.split(split))) for split in SPLITS}


def score_splits(
    task: TrainingTask, predictions: Mapping[str, Any], before: Mapping[str, Any] | None
) -> dict[str, Any]:
    """The figures of each split, with the share of answers that equal those of the stage before.

    Args:
        task: the task.
        predictions: predictions of each split.
        before: predictions of the stage before.
    """
    figures: dict[str, Any] = {
        split: task.figures(split_predictions, task.dataset.split(split))
        for split, split_predictions in predictions.items()
    }
    for split, split_predictions in (before or {}).items():
        figures[split]["agreement"] = task.agreement(split_predictions, predictions[split])
    return figures


def measure_model(
    task: TrainingTask, model: Any, folder: Path, before: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """Measure a torch model for the gate table, and save its predictions in the folder.

    Args:
        task: on the dataset with the validation and test splits.
        model: to measure.
        folder: for the predictions.
        before: predictions of the stage before, to compare with.

    Returns:
        The figures of each split (with `agreement`), `bytes` (fp32 weights) and `latency_ms` (median, CPU only).
    """
    predictions = predict_splits(task, model)
    return measure_predictions(task, model, predictions, folder, before)


def measure_predictions(
    task: TrainingTask,
    model: Any,
    predictions: Mapping[str, Any],
    folder: Path,
    before: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """`measure_model` for existing predictions, of each split."""
    for split, split_predictions in predictions.items():
        if (logits := task.as_array(split_predictions)) is not None:
            write_predictions(folder, split, logits)
    figures = score_splits(task, predictions, before)
    figures["bytes"] = devices.weight_bytes(model)
    if task.timed and next(model.parameters()).device.type == "cpu":
        figures["latency_ms"] = measure_latency(create_answerer(task, model), range(len(task.dataset.validation)))
    return figures

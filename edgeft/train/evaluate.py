"""Predictions of a torch model on the splits, and the figures that stand in the gate table."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any, TypeVar

import numpy as np
import torch

from edgeft.data.dataset import Dataset
from edgeft.models import model_folder
from edgeft.recipe import TrainingConfig
from edgeft.stage_folder import digest, read_result
from edgeft.train import tasks
from edgeft.train.judges.sequences import Logits
from edgeft.train.tasks import TrainingTask

T = TypeVar("T")
LATENCY_QUERIES = 60
LATENCY_WARMUP = 10
SPLITS = ("validation", "test")


def latency_ms(answer: Callable[[T], object], rows: Sequence[T]) -> float:
    """Median milliseconds of single answers after warm-up, one thread, tokenization counted."""
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


def answerer(task: TrainingTask, model: Any, split: str = "validation") -> Callable[[int], object]:
    """One row of a split through tokenizer and model."""
    rows = task.dataset.split(split)

    def answer(row: int) -> object:
        return task.predict(model, task.items(rows.take([row])))

    return answer


def write_predictions(folder: Path, split: str, logits: Logits) -> None:
    """Keep the logits of a split as NAME_logits.npy, float32 (rows, labels)."""
    np.save(folder / f"{split}_logits.npy", logits)


def read_predictions(folder: Path, split: str) -> Logits:
    """What `write_predictions` kept."""
    values: Logits = np.load(folder / f"{split}_logits.npy", allow_pickle=False)
    return values


def earlier_predictions(
    folder: Path, data: Path, dataset: Dataset, device: torch.device | None = None
) -> dict[str, Any]:
    """What another model folder answers on the splits: what it kept, where that was on the same data, else computed.

    Args:
        folder: a model folder, of a stage or of the user's own.
        data: the data folder.
        dataset: its rows.
        device: where it is asked; None: on the CPU.
    """
    done = read_result(folder)
    kept = all((folder / f"{split}_logits.npy").exists() for split in SPLITS)
    if kept and done and done.inputs.get("data") == digest(data):
        return {split: read_predictions(folder, split) for split in SPLITS}
    tokenizer = model_folder.load_tokenizer(folder)
    task = tasks.of(dataset, tokenizer, tokenizer.model_max_length, TrainingConfig())
    return on_splits(task, model_folder.load(folder, task.head(dataset.labels), device=device))


def on_splits(task: TrainingTask, model: Any) -> dict[str, Any]:
    """The task's predictions on validation and test."""
    return {split: task.predict(model, task.items(task.dataset.split(split))) for split in SPLITS}


def scores(task: TrainingTask, found: Mapping[str, Any], before: Mapping[str, Any] | None) -> dict[str, Any]:
    """Figures of each split, and the share of answers that equal those of the stage before.

    Args:
        task: the task.
        found: predictions of each split.
        before: those of the stage before.
    """
    figures: dict[str, Any] = {split: task.figures(made, task.dataset.split(split)) for split, made in found.items()}
    for split, made in (before or {}).items():
        figures[split]["agreement"] = task.agreement(made, found[split])
    return figures


def gate(task: TrainingTask, model: Any, folder: Path, before: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Measure a torch model for the gate table and keep its predictions in the folder.

    Args:
        task: on the dataset whose validation and test split are asked.
        model: to be measured.
        folder: where the predictions go.
        before: predictions of the stage before, with which the answers are compared.

    Returns:
        figures of each split (with `agreement`), `bytes` (fp32 weights) and `latency_ms` (median, CPU only).
    """
    found = on_splits(task, model)
    return measured(task, model, found, folder, before)


def measured(
    task: TrainingTask, model: Any, found: Mapping[str, Any], folder: Path, before: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """`gate` with predictions that are there; `found` has those of each split."""
    for split, made in found.items():
        if (logits := task.array(made)) is not None:
            write_predictions(folder, split, logits)
    figures = scores(task, found, before)
    figures["bytes"] = model_folder.weight_bytes(model)
    if task.timed and next(model.parameters()).device.type == "cpu":
        figures["latency_ms"] = latency_ms(answerer(task, model), range(len(task.dataset.validation)))
    return figures

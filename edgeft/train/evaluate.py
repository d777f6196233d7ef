"""Predictions of a torch model on the splits, and the figures that stand in the gate table."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from edgeft import models
from edgeft.data.dataset import Dataset
from edgeft.stage import digest, read_result
from edgeft.train import metrics
from edgeft.train.batches import collate, encode

EVAL_BATCH = 32
LATENCY_QUERIES = 60
LATENCY_WARMUP = 10
SPLITS = ("validation", "test")


def predict(
    model: Any, ids: Sequence[Sequence[int]], pad_token_id: int, batch_size: int = EVAL_BATCH
) -> NDArray[np.float32]:
    """Logits of encoded texts, in their order; rows of similar length share a batch.

    Returns:
        float32 (texts, labels).
    """
    device = next(model.parameters()).device
    order = sorted(range(len(ids)), key=lambda row: len(ids[row]))
    logits = np.empty((len(ids), model.config.num_labels), dtype=np.float32)  # (N, L)
    model.eval()
    with torch.inference_mode():
        for start in range(0, len(order), batch_size):
            rows = order[start : start + batch_size]
            batch = collate([ids[row] for row in rows], pad_token_id, device)
            logits[rows] = model(**batch).logits.float().cpu().numpy()
    return logits


def latency_ms(answer: Callable[[str], object], texts: Sequence[str]) -> float:
    """Median milliseconds of single answers after warm-up, one thread, tokenization counted."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        for text in texts[:LATENCY_WARMUP]:
            answer(text)
        return median(_milliseconds(answer, texts[query % len(texts)]) for query in range(LATENCY_QUERIES))
    finally:
        torch.set_num_threads(before)


def _milliseconds(answer: Callable[[str], object], text: str) -> float:
    start = time.perf_counter()
    answer(text)
    return (time.perf_counter() - start) * 1e3


def torch_answer(model: Any, tokenizer: Any, max_length: int) -> Callable[[str], object]:
    """One text through tokenizer and model."""

    def answer(text: str) -> object:
        return predict(model, encode(tokenizer, [text], max_length), tokenizer.pad_token_id)

    return answer


def write_predictions(folder: Path, logits: dict[str, NDArray[np.float32]]) -> None:
    """Keep the logits of each split as NAME_logits.npy, float32 (rows, labels)."""
    for split, values in logits.items():
        np.save(folder / f"{split}_logits.npy", values)


def read_predictions(folder: Path, split: str) -> NDArray[np.float32]:
    """What `write_predictions` kept."""
    values: NDArray[np.float32] = np.load(folder / f"{split}_logits.npy", allow_pickle=False)
    return values


def earlier_predictions(folder: Path, data: Path, dataset: Dataset) -> dict[str, NDArray[np.float32]]:
    """What another model folder answers on the splits: what it kept, where that was on the same data, else computed.

    Args:
        folder: a model folder, of a stage or of the user's own.
        data: the data folder.
        dataset: its rows.
    """
    done = read_result(folder)
    if done and done.inputs.get("data") == digest(data):
        return {split: read_predictions(folder, split) for split in SPLITS}
    tokenizer = models.load_tokenizer(folder)
    model = models.load_classifier(folder, dataset.labels)
    return split_logits(model, tokenizer, dataset, tokenizer.model_max_length)


def scores(
    logits: dict[str, NDArray[np.float32]], dataset: Dataset, before: dict[str, NDArray[np.float32]] | None
) -> dict[str, Any]:
    """Metrics of each split, and the share of answers that equal those of the stage before."""
    found: dict[str, Any] = {
        split: metrics.classification(values, getattr(dataset, split).labels) for split, values in logits.items()
    }
    for split, values in (before or {}).items():
        found[split]["agreement"] = metrics.agreement(values, logits[split])
    return found


def split_logits(model: Any, tokenizer: Any, dataset: Dataset, max_length: int) -> dict[str, NDArray[np.float32]]:
    """Logits on validation and test."""
    return {
        split: predict(model, encode(tokenizer, getattr(dataset, split).texts, max_length), tokenizer.pad_token_id)
        for split in SPLITS
    }


def gate(
    model: Any,
    tokenizer: Any,
    dataset: Dataset,
    max_length: int,
    folder: Path,
    before: dict[str, NDArray[np.float32]] | None = None,
) -> dict[str, Any]:
    """Measure a torch model for the gate table and keep its predictions in the folder.

    Args:
        model: to be measured.
        tokenizer: its tokenizer.
        dataset: with validation and test split.
        max_length: tokens.
        folder: where the predictions go.
        before: logits of the stage before, with which the answers are compared.

    Returns:
        metrics of each split (with `agreement`), `bytes` (fp32 weights) and `latency_ms` (median, CPU only).
    """
    logits = split_logits(model, tokenizer, dataset, max_length)
    write_predictions(folder, logits)
    found = scores(logits, dataset, before)
    found["bytes"] = models.weight_bytes(model)
    if next(model.parameters()).device.type == "cpu":
        found["latency_ms"] = latency_ms(torch_answer(model, tokenizer, max_length), dataset.validation.texts)
    return found

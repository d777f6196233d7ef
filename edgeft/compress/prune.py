"""Stage `prune`: fewer heads and feed-forward channels, then recovery under the teacher."""

from __future__ import annotations

import dataclasses
import math
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn.functional import cross_entropy

from edgeft import models
from edgeft.compress.recover import labelled_rows, learn
from edgeft.compress.structure import by_ratios
from edgeft.compress.structure import prune as remove
from edgeft.compress.teacher import cache_of
from edgeft.data.dataset import Dataset
from edgeft.progress import say
from edgeft.recipe import PruneConfig
from edgeft.stage import CHECKPOINTS, Inputs, Metrics, stage
from edgeft.train import evaluate, metrics
from edgeft.train.batches import collate, encode
from edgeft.train.tasks import SingleLabel

BATCH = 16
Logits = NDArray[np.float32]


def attempts(config: PruneConfig) -> Iterator[PruneConfig]:
    """The wanted ratios, then half of them."""
    yield config
    yield dataclasses.replace(config, head_ratio=config.head_ratio / 2, channel_ratio=config.channel_ratio / 2)


def importance_batches(
    config: PruneConfig, dataset: Dataset, tokenizer: Any, max_length: int, device: torch.device
) -> list[dict[str, torch.Tensor]]:
    """Labelled training rows, chosen by seed, for the Taylor importance."""
    rows = len(dataset.train.texts)
    chosen = np.random.default_rng(config.seed or 0).permutation(rows)[: config.importance_rows].tolist()
    ids = encode(tokenizer, [dataset.train.texts[row] for row in chosen], max_length)
    batches = []
    for start in range(0, len(chosen), BATCH):
        batch = collate(ids[start : start + BATCH], tokenizer.pad_token_id, device)
        batch["labels"] = torch.as_tensor(dataset.train.labels[chosen[start : start + BATCH]], device=device)
        batches.append(batch)
    return batches


def loss(model: torch.nn.Module, batch: dict[str, torch.Tensor]) -> torch.Tensor:
    """Mean cross-entropy of a labelled batch."""
    answer = model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"])
    return cross_entropy(answer.logits.float(), batch["labels"])


def prune_and_recover(config: PruneConfig, inputs: Inputs, dataset: Dataset, folder: Path, cache: Path) -> Any:
    """One attempt in its own folder: the pruned and recovered model."""
    models.seed_everything(config.seed or 0)
    device, _ = models.device(config.device)
    tokenizer = models.load_tokenizer(str(inputs["model"]))
    max_length = tokenizer.model_max_length
    model = models.load_classifier(str(inputs["model"]), None, device=device)
    batches = importance_batches(config, dataset, tokenizer, max_length, device)
    task = SingleLabel(dataset, tokenizer, max_length, config)
    cut = by_ratios(model, heads=config.head_ratio, channels=config.channel_ratio)
    remove(model, cut, config.importance, batches, loss, config.seed or 0)
    learn(config, task, model, inputs["teacher"], folder, "prune: recovery", cache)
    return model


def drop_points(now: Logits, before: Logits, labels: NDArray[np.int64]) -> float:
    """Points of accuracy lost between two models' logits on the same rows."""
    accuracy = [metrics.classification(logits, labels)["accuracy"] for logits in (before, now)]
    return 100 * (accuracy[0] - accuracy[1])


def fill(config: PruneConfig, inputs: Inputs, out_dir: Path) -> Metrics:
    """Prune; where that costs too much, prune half as much, or leave the model as it was.

    Args:
        config: of the stage.
        inputs: `data` (a data folder), `model` (a model folder with its predictions), `teacher` (a model folder).
        out_dir: becomes a model folder.

    Returns:
        Metrics; `agreement` is with the model before. `tried` has ratios and drop of each attempt, `kept` the index
        of the one that stayed, None where pruning was left out.
    """
    dataset = labelled_rows(inputs["data"], "prune")
    tokenizer = models.load_tokenizer(str(inputs["model"]))
    tried: list[dict[str, float]] = []
    kept, model = None, None
    before = evaluate.earlier_predictions(inputs["model"], inputs["data"], dataset)
    teacher = evaluate.earlier_predictions(inputs["teacher"], inputs["data"], dataset)["validation"]
    task = SingleLabel(dataset, tokenizer, tokenizer.model_max_length, config)
    items, labels = task.items(dataset.validation), dataset.validation.labels
    for index, attempt in enumerate(attempts(config)):
        folder = out_dir / CHECKPOINTS / f"attempt-{index}"
        folder.mkdir(parents=True, exist_ok=True)
        model = prune_and_recover(attempt, inputs, dataset, folder, cache_of(out_dir))
        now = task.predict(model, items)
        drop, whole = drop_points(now, before["validation"], labels), drop_points(now, teacher, labels)
        tried.append(
            {
                "head_ratio": attempt.head_ratio,
                "channel_ratio": attempt.channel_ratio,
                "drop_points": drop,
                "drop_from_teacher_points": whole,
            }
        )
        say(f"prune: {attempt.head_ratio:.0%} heads, {attempt.channel_ratio:.0%} channels: {drop:+.2f} points lost")
        if drop <= config.max_drop_points and whole <= (config.max_teacher_drop_points or math.inf):
            kept = index
            shutil.copyfile(folder / "history.jsonl", out_dir / "history.jsonl")
            break
    if kept is None:
        say("prune: left out, every attempt lost more than it may")
        model = models.load_classifier(str(inputs["model"]), None)
    found = evaluate.gate(task, model, out_dir, before)
    models.save(model, tokenizer, out_dir, tokenizer.model_max_length)
    return {**found, "tried": tried, "kept": kept}


run = stage("prune", together=True)(fill)

"""Stage `prune`: fewer heads and feed-forward channels, then recovery under the teacher."""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.nn.functional import cross_entropy

from edgeft import models
from edgeft.compress.recover import learn
from edgeft.compress.structure import prune as remove
from edgeft.compress.teacher import cache_of
from edgeft.data.dataset import Dataset
from edgeft.data.dataset import load as load_dataset
from edgeft.progress import say
from edgeft.recipe import PruneConfig
from edgeft.stage import CHECKPOINTS, Inputs, Metrics, stage
from edgeft.train import evaluate, metrics
from edgeft.train.batches import collate, encode

BATCH = 16


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
    remove(model, config.head_ratio, config.channel_ratio, config.importance, batches, loss, config.seed or 0)
    learn(config, dataset, model, tokenizer, inputs["teacher"], max_length, folder, "prune: recovery", cache)
    return model


def drop_points(model: Any, tokenizer: Any, dataset: Dataset, before: Path) -> float:
    """Points of validation accuracy lost against the stage before."""
    ids = encode(tokenizer, dataset.validation.texts, tokenizer.model_max_length)
    labels = dataset.validation.labels
    now = metrics.classification(evaluate.predict(model, ids, tokenizer.pad_token_id), labels)
    earlier = metrics.classification(evaluate.read_predictions(before, "validation"), labels)
    return 100 * (earlier["accuracy"] - now["accuracy"])


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
    dataset = load_dataset(inputs["data"])
    tokenizer = models.load_tokenizer(str(inputs["model"]))
    tried: list[dict[str, float]] = []
    kept, model = None, None
    for index, attempt in enumerate(attempts(config)):
        folder = out_dir / CHECKPOINTS / f"attempt-{index}"
        folder.mkdir(parents=True, exist_ok=True)
        model = prune_and_recover(attempt, inputs, dataset, folder, cache_of(out_dir))
        drop = drop_points(model, tokenizer, dataset, inputs["model"])
        tried.append({"head_ratio": attempt.head_ratio, "channel_ratio": attempt.channel_ratio, "drop_points": drop})
        say(f"prune: {attempt.head_ratio:.0%} heads, {attempt.channel_ratio:.0%} channels: {drop:+.2f} points lost")
        if drop <= config.max_drop_points:
            kept = index
            shutil.copyfile(folder / "history.jsonl", out_dir / "history.jsonl")
            break
    if kept is None:
        say("prune: left out, every attempt lost more than prune.max_drop_points")
        model = models.load_classifier(str(inputs["model"]), None)
    found = evaluate.gate(model, tokenizer, dataset, tokenizer.model_max_length, out_dir, before=inputs["model"])
    models.save(model, tokenizer, out_dir, tokenizer.model_max_length)
    return {**found, "tried": tried, "kept": kept}


run = stage("prune")(fill)

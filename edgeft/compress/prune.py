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

from edgeft import models
from edgeft.compress import lesson, recover
from edgeft.compress.structure import prune as remove
from edgeft.compress.teacher import cache_of
from edgeft.progress import say
from edgeft.recipe import PruneConfig
from edgeft.stage import CHECKPOINTS, Inputs, Metrics, stage
from edgeft.train import evaluate, tasks
from edgeft.train.tasks import Items, TrainingTask

BATCH = 16


def attempts(config: PruneConfig) -> Iterator[PruneConfig]:
    """The wanted ratios, then half of them."""
    yield config
    yield dataclasses.replace(config, head_ratio=config.head_ratio / 2, channel_ratio=config.channel_ratio / 2)


def importance_batches(config: PruneConfig, task: TrainingTask, items: Items) -> list[list[int]]:
    """Places of training items, chosen by seed, for the Taylor importance."""
    chosen = np.random.default_rng(config.seed or 0).permutation(len(items))[: config.importance_rows].tolist()
    return [chosen[start : start + BATCH] for start in range(0, len(chosen), BATCH)]


def prune_and_recover(config: PruneConfig, inputs: Inputs, task: TrainingTask, folder: Path, cache: Path) -> Any:
    """One attempt in its own folder: the pruned and recovered model."""
    models.seed_everything(config.seed or 0)
    device, _ = models.device(config.device)
    model = models.load(inputs["model"], task.head(task.dataset.labels), device=device)
    items = task.items(task.dataset.train)

    def loss(model: Any, places: Any) -> torch.Tensor:
        return task.losses(model, items, places).mean()

    task.prepare(model)
    batches: Any = importance_batches(config, task, items)
    remove(model, config.head_ratio, config.channel_ratio, config.importance, batches, loss, config.seed or 0)
    taught = lesson.lesson(config, task, model, inputs["teacher"], cache)
    recover.learn(config, task, model, taught, folder, "prune: recovery")
    task.finish(model)
    return model


def drop_points(task: TrainingTask, now: Any, before: Any) -> float:
    """Points that the leading figure lost on validation, from the predictions of two models."""
    split = task.dataset.validation
    leads = [task.figures(found, split)[task.lead] for found in (before, now)]
    return -task.points(*leads)


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
    lesson.check(config, "prune")
    dataset = recover.teachable(inputs["data"], "prune")
    tokenizer = models.load_tokenizer(str(inputs["model"]))
    tried: list[dict[str, float]] = []
    kept, model = None, None
    before = evaluate.earlier_predictions(inputs["model"], inputs["data"], dataset)
    teacher = evaluate.earlier_predictions(inputs["teacher"], inputs["data"], dataset)["validation"]
    task = tasks.of(dataset, tokenizer, tokenizer.model_max_length, config)
    items = task.items(dataset.validation)
    for index, attempt in enumerate(attempts(config)):
        folder = out_dir / CHECKPOINTS / f"attempt-{index}"
        folder.mkdir(parents=True, exist_ok=True)
        model = prune_and_recover(attempt, inputs, task, folder, cache_of(out_dir))
        now = task.predict(model, items)
        drop, whole = drop_points(task, now, before["validation"]), drop_points(task, now, teacher)
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
            for history in folder.glob("history*.jsonl"):
                shutil.copyfile(history, out_dir / history.name)
            break
    if kept is None:
        say("prune: left out, every attempt lost more than it may")
        model = models.load(inputs["model"], task.head(dataset.labels))
    found = evaluate.gate(task, model, out_dir, before)
    models.save(model, tokenizer, out_dir, tokenizer.model_max_length)
    return {**found, "tried": tried, "kept": kept}


run = stage("prune", together=True)(fill)

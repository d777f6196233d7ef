"""Stage `bench`: the package measured on this machine, raced against its own teacher."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch

import edgeft
from edgeft import models
from edgeft.artifact import read_manifest
from edgeft.bench.measure import measure
from edgeft.bench.race import race, ratio
from edgeft.data.dataset import load as load_dataset
from edgeft.files import write_json
from edgeft.recipe import BenchConfig
from edgeft.stage import Inputs, Metrics, stage
from edgeft.train import tasks
from edgeft.train.metrics import bootstrap
from edgeft.train.tasks import TrainingTask


def fill(config: BenchConfig, inputs: Inputs, out_dir: Path) -> Metrics:
    """Measure the artifact on the test split's real texts.

    Args:
        config: of the stage.
        inputs: `data`, `package` (an artifact) and `teacher` (a model folder).
        out_dir: gets bench.json.

    Returns:
        What `edgeft.bench.measure.measure` returns, with the task's leading metric as `quality`, and `against_teacher`
        where transformers has a pipeline for the task.
    """
    dataset = load_dataset(inputs["data"])
    task = tasks.of_artifact(dataset, read_manifest(inputs["package"]))
    given = task.given(dataset.test)
    found: dict[str, Any] = measure(inputs["package"], given, config)
    found["quality"] = quality(task, inputs["package"])
    if config.against_teacher and (teacher := models.pipeline(inputs["teacher"], task.head(dataset.labels))):
        found["against_teacher"] = against_teacher(config, inputs["package"], teacher, given)
    write_json(out_dir / "bench.json", found)
    return found


def quality(task: TrainingTask, package: Path) -> dict[str, Any]:
    """The leading metric of an artifact on the test rows, one at a time."""
    test = task.dataset.test
    value = bootstrap.value(task.measures(task.asked(edgeft.load(package), test), test)[task.lead], len(test))
    return {task.lead: value, "rows": len(test)}


def against_teacher(
    config: BenchConfig, package: Path, teacher: Callable[[Any], object], texts: list[Any]
) -> dict[str, Any]:
    """The artifact beside its teacher in transformers.pipeline: batch 1, same threads, tokenization counted."""
    artifact = edgeft.load(package, threads=config.threads)
    with _torch_threads(config.threads):
        times = race({"teacher": teacher, "artifact": artifact}, texts, config.queries, config.warmup)
    found = ratio(times["teacher"], times["artifact"])
    return {
        "teacher": times["teacher"].as_dict(),
        "artifact": times["artifact"].as_dict(),
        "ratio": {"median": found.median, "low": found.low, "high": found.high},
        "threads": config.threads,
    }


@contextlib.contextmanager
def _torch_threads(threads: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)


run = stage("bench")(fill)

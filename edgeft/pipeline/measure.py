"""Stage `bench`: the package measured on this machine, raced against its own teacher."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

import edgeft
from edgeft import models
from edgeft.bench.measure import measure
from edgeft.bench.race import race, ratio
from edgeft.data.dataset import load as load_dataset
from edgeft.recipe import BenchConfig
from edgeft.stage import Inputs, Metrics, stage, write_json


def fill(config: BenchConfig, inputs: Inputs, out_dir: Path) -> Metrics:
    """Measure the artifact on the test split's real texts.

    Args:
        config: of the stage.
        inputs: `data`, `package` (an artifact) and `teacher` (a model folder).
        out_dir: gets bench.json.

    Returns:
        What `edgeft.bench.measure.measure` returns, and `against_teacher`.
    """
    test = load_dataset(inputs["data"])
    labels = [test.labels[index] for index in test.test.labels]
    found: dict[str, Any] = measure(inputs["package"], test.test.texts, config, labels)
    if config.against_teacher:
        found["against_teacher"] = against_teacher(config, inputs, test.test.texts)
    write_json(out_dir / "bench.json", found)
    return found


def against_teacher(config: BenchConfig, inputs: Inputs, texts: list[str]) -> dict[str, Any]:
    """The artifact beside its teacher in transformers.pipeline: batch 1, same threads, tokenization counted."""
    artifact = edgeft.load(inputs["package"], threads=config.threads)
    with _torch_threads(config.threads):
        teacher = models.pipeline(inputs["teacher"], config.threads)
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

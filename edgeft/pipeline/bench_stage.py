"""Stage `bench`: time every form of the model in turns on this machine, and measure the package."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch

import edgeft
from edgeft.artifact import read_manifest
from edgeft.bench.forms import Race, race_forms
from edgeft.bench.measure import measure
from edgeft.data.dataset import Dataset
from edgeft.data.dataset import load as load_dataset
from edgeft.export.export import PRECISIONS_TRIED
from edgeft.files import write_json
from edgeft.keys import EXPORTING
from edgeft.models import model_folder
from edgeft.pipeline.forms import ARTIFACT, TEACHER, collect_forms
from edgeft.recipe import BenchConfig
from edgeft.runtime.machine import host
from edgeft.stage import GateLine, Work, stage
from edgeft.stage_folder import Inputs, Metrics, StageResult
from edgeft.train import tasks
from edgeft.train.metrics import bootstrap
from edgeft.train.tasks import TrainingTask


def fill(config: BenchConfig, inputs: Inputs, out_dir: Path) -> Metrics:
    """Time every form of the model in turns on the texts of the test split, and measure the artifact.

    Args:
        config: of the stage.
        inputs: `data`, `package` (an artifact) and `teacher` (a model folder); if the run has them, `baseline`,
            `distill`, `prune` and `export`.
        out_dir: gets bench.json.

    Returns:
        What `edgeft.bench.measure.measure` returns, its `latency` that of the race; `race` with every form's latency
        and what disturbed them; the task's leading metric as `quality`; and `against_teacher` where transformers has a
        pipeline for the task.
    """
    dataset = load_dataset(inputs["data"])
    task = tasks.create_artifact_task(dataset, read_manifest(inputs["package"]))
    raced = race_of(config, inputs, dataset, task)
    latency = raced.latency(ARTIFACT)
    metrics: dict[str, Any] = measure(inputs["package"], task.artifact_inputs(dataset.test), config, raced=latency)
    metrics["latency"]["intervals_ms"] = raced.intervals_ms(ARTIFACT)
    metrics["race"] = raced.as_dict()
    metrics["quality"] = quality(task, inputs["package"])
    if TEACHER in raced.turns and task.auto in model_folder.PIPELINES:
        metrics["against_teacher"] = {
            "teacher": raced.latency(TEACHER).as_dict(),
            "artifact": latency.as_dict(),
            "ratio": raced.ratio(TEACHER, ARTIFACT).as_dict(),
            "threads": config.threads,
        }
    write_json(out_dir / "bench.json", metrics)
    return metrics


def race_of(config: BenchConfig, inputs: Inputs, dataset: Dataset, task: TrainingTask) -> Race:
    """Time all forms in one race; the models are released when it ends."""
    with _torch_threads(config.threads):
        forms = collect_forms(config, inputs, dataset, task)
        return race_forms(forms, len(dataset.test), config.queries, config.warmup)


def quality(task: TrainingTask, package: Path) -> dict[str, Any]:
    """The leading metric of an artifact on the test rows, one at a time."""
    test = task.dataset.test
    value = bootstrap.value(
        task.measures(task.predict_artifact(edgeft.load(package), test), test)[task.lead], len(test)
    )
    return {task.lead: value, "rows": len(test)}


@contextlib.contextmanager
def _torch_threads(threads: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def shipped(results: Mapping[str, StageResult]) -> dict[str, dict[str, Any]]:
    """Metrics of what ships on each split: of the calibrated answers, if there are any."""
    export, calibration = results["export"].metrics, results["calibrate"].metrics
    graph = {split: {**export[export["precision"]][split], "agreement": None} for split in ("validation", "test")}
    return {**graph, **calibration.get("answers", {})}


def gate_lines(results: Mapping[str, StageResult]) -> list[GateLine]:
    """The line of what ships: quality of the chosen graph, bytes with the tokenizer, latency of the bench."""
    export, bench = results["export"].metrics, results["bench"].metrics
    measured = {"bytes": results["package"].metrics["bytes"], "latency_ms": bench["latency"]["p50_ms"]}
    note = f"{export['precision']}, size with tokenizer"
    return [GateLine(name=ARTIFACT, metrics={**shipped(results), **measured}, note=note)]


def queries_s(work: Work) -> float | None:
    """Seconds of the race: every form answers every query."""
    if work.layer_s is None:
        return None
    bench = work.recipe.bench
    return (bench.queries + bench.warmup) * (work.teacher_s + PRECISIONS_TRIED * work.student_s)


run = stage(
    "bench",
    libraries=EXPORTING,
    kernels=True,
    machine=host.identity,
    reads=lambda recipe: {"data": "data", "package": "package", "teacher": "teacher"},
    reads_if_there=("baseline", "distill", "prune", "export"),
    gate_lines=gate_lines,
    fixed_s=7,
    rows_s=queries_s,
)(fill)

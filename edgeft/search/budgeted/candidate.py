"""The size and speed of a trial's model before any training: the weights decide neither."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import torch

from edgeft import artifact
from edgeft.bench.race import race
from edgeft.compress.distill import distill
from edgeft.compress.prune import goals, prune, structure
from edgeft.data.dataset import Dataset
from edgeft.data.dataset import load as load_dataset
from edgeft.export.candidates import ExportCandidates
from edgeft.export.draft import drafts
from edgeft.export.quantize.precisions import IN_ORDER
from edgeft.models import model_folder
from edgeft.recipe import ExportConfig, Recipe, budget
from edgeft.runtime.engine import CPU
from edgeft.search.budgeted.job import Job
from edgeft.train import tasks

Figures = dict[str, float]  # quantities of a budget
RACES, QUERIES, WARMUP = 3, 40, 5
SLOWER = 1.2  # a latency breaks its limit clearly from so many times the limit on


def hopeless(job: Job, whole: Recipe) -> tuple[str, Figures] | None:
    """Why a trial can't fit whatever it learns, and its smallest form's figures; None: it may fit.

    Args:
        job: of the search.
        whole: the trial's recipe.
    """
    names = {limit.quantity for limit in job.limits} - {"drop"}
    if not names or (whole.prune.enabled and whole.prune.max_latency_ms is not None):
        return None
    found = figures(job, whole)
    if not all(budget.broken(job.limits, allowed(one)) for one in found):
        return None
    smallest = min(found, key=lambda one: one["size"])
    clear = tuple(limit for limit in job.limits if budget.broken((limit,), allowed(smallest)))
    return f"before training, {'; '.join(budget.broken(clear, smallest))}", smallest


def allowed(found: Figures) -> Figures:
    """The figures with the doubt that a short race leaves."""
    return {name: value if name == "size" else value / SLOWER for name, value in found.items()}


def figures(job: Job, whole: Recipe) -> list[Figures]:
    """Size and latency in each precision that may ship."""
    data = load_dataset(job.run / "data")
    with tempfile.TemporaryDirectory(prefix="edgeft-candidate-") as scratch:
        place = Path(scratch) / "model"
        untrained(whole, data, job.run / "finetune", place)
        candidates, files = drafts(whole.export, place, data, wanted(whole.export), Path(scratch))
        return [_timed(candidates, file, whole.bench.threads) for file in files]


def untrained(whole: Recipe, dataset: Dataset, teacher: Path, out_dir: Path) -> None:
    """The model folder of a trial as it would be with nothing learned."""
    head, max_length = tasks.class_of(dataset.kind).head(dataset.labels), _max_length(teacher)
    model: Any = model_folder.load(teacher, head)
    tokenizer: Any = model_folder.load_tokenizer(str(teacher))
    if whole.distill.enabled:
        model, tokenizer = distill.make_student(whole.distill, str(teacher), head, torch.device("cpu"))
        distill.narrowed(whole.distill, tasks.of(dataset, tokenizer, max_length, whole.distill), model)
    if whole.prune.enabled:
        task = prune.cut_vocabulary(whole.prune, tasks.of(dataset, tokenizer, max_length, whole.prune), model)
        tokenizer = task.tokenizer
        # In all it is as much, whichever units go.
        structure.prune(model, goals.cut_of(goals.resolved(whole.prune, model, None), model), "magnitude")
    model_folder.save(model, tokenizer, out_dir, max_length)


def _max_length(folder: Path) -> int:
    return int(model_folder.load_tokenizer(str(folder)).model_max_length)


def wanted(config: ExportConfig) -> list[str]:
    """The precisions that may ship."""
    return [one.name for one in IN_ORDER if one.provider == CPU] if config.precision == "auto" else [config.precision]


def _timed(candidates: ExportCandidates, file: str, threads: int) -> Figures:
    """Bytes of graph and tokenizer; the least of a few short races, so that another process's work doesn't count."""
    model, given = candidates.model(file, threads=threads), candidates.task.given(candidates.dataset.test)
    races = [race({file: model}, given, QUERIES, WARMUP)[file].as_dict() for _ in range(RACES)]
    least = {name: min(one[f"{name}_ms"] for one in races) for name in ("p50", "p90", "p99")}
    return {
        **least,
        "size": float(sum((candidates.folder / name).stat().st_size for name in (file, artifact.TOKENIZER))),
    }

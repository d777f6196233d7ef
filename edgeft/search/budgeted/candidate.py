"""The size and speed of a trial's model before any training: the weights decide neither."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
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
from edgeft.recipe.budget import Limit
from edgeft.runtime.engine import CPU
from edgeft.train import tasks

Figures = dict[str, float]  # quantities of a budget
RACES, QUERIES, WARMUP = 3, 40, 5
SLOWER = 1.2  # a latency breaks its limit clearly from so many times the limit on


@dataclass(frozen=True)
class Misfit:
    """Why a trial can't fit the budget, whatever it learns.

    Attributes:
        reason: the limits that its smallest form clearly breaks.
        figures: of that form.
    """

    reason: str
    figures: Figures


def find_misfit(config: Recipe, run: Path, limits: tuple[Limit, ...]) -> Misfit | None:
    """Why a trial can't fit whatever it learns; None: it may fit.

    Args:
        config: the trial's recipe.
        run: the run folder with rows and teacher.
        limits: of the budget.
    """
    quantities = {limit.quantity for limit in limits} - {"drop"}
    if not quantities or (config.prune.enabled and config.prune.max_latency_ms is not None):
        return None
    forms = measure_untrained(config, run)
    if not all(budget.broken(limits, allow_noise(figures)) for figures in forms):
        return None
    smallest = min(forms, key=lambda figures: figures["size"])
    clear = tuple(limit for limit in limits if budget.broken((limit,), allow_noise(smallest)))
    return Misfit(f"before training, {'; '.join(budget.broken(clear, smallest))}", smallest)


def allow_noise(figures: Figures) -> Figures:
    """The figures with the doubt that a short race leaves."""
    return {name: value if name == "size" else value / SLOWER for name, value in figures.items()}


def measure_untrained(config: Recipe, run: Path) -> list[Figures]:
    """Size and latency in each precision that may ship."""
    data = load_dataset(run / "data")
    with tempfile.TemporaryDirectory(prefix="edgeft-candidate-") as scratch:
        folder = Path(scratch) / "model"
        save_untrained(config, data, run / "finetune", folder)
        candidates, files = drafts(config.export, folder, data, list_precisions(config.export), Path(scratch))
        return [_time(candidates, file, config.bench.threads) for file in files]


def save_untrained(config: Recipe, dataset: Dataset, teacher: Path, out_dir: Path) -> None:
    """The model folder of a trial as it would be with nothing learned."""
    head, max_length = tasks.task_class(dataset.kind).head(dataset.labels), _max_length(teacher)
    model: Any = model_folder.load(teacher, head)
    tokenizer: Any = model_folder.load_tokenizer(str(teacher))
    if config.distill.enabled:
        model, tokenizer = distill.make_student(config.distill, str(teacher), head, torch.device("cpu"))
        distill.narrow_student(config.distill, tasks.create_task(dataset, tokenizer, max_length, config.distill), model)
    if config.prune.enabled:
        task = prune.cut_vocabulary(
            config.prune, tasks.create_task(dataset, tokenizer, max_length, config.prune), model
        )
        tokenizer = task.tokenizer
        # In all it is as much, whichever units go.
        structure.prune(model, goals.cut_by_config(goals.resolve_goal(config.prune, model, None), model), "magnitude")
    model_folder.save(model, tokenizer, out_dir, max_length)


def _max_length(folder: Path) -> int:
    return int(model_folder.load_tokenizer(str(folder)).model_max_length)


def list_precisions(config: ExportConfig) -> list[str]:
    """The precisions that may ship."""
    return (
        [precision.name for precision in IN_ORDER if precision.provider == CPU]
        if config.precision == "auto"
        else [config.precision]
    )


def _time(candidates: ExportCandidates, file: str, threads: int) -> Figures:
    """Bytes of graph and tokenizer; the least of a few short races, so that another process's work doesn't count."""
    model, inputs = candidates.model(file, threads=threads), candidates.task.artifact_inputs(candidates.dataset.test)
    races = [race({file: model}, inputs, QUERIES, WARMUP)[file].as_dict() for _ in range(RACES)]
    least = {name: min(figures[f"{name}_ms"] for figures in races) for name in ("p50", "p90", "p99")}
    return {
        **least,
        "size": float(sum((candidates.folder / name).stat().st_size for name in (file, artifact.TOKENIZER))),
    }

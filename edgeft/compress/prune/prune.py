"""Stage `prune`: a smaller vocabulary, fewer layers, features, heads and channels, then recovery under the teacher."""

from __future__ import annotations

import dataclasses
import math
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from edgeft.compress.distill import distillation_data, recover
from edgeft.compress.distill.teacher import cache_folder
from edgeft.compress.prune import goals, latency_table, structure, vocabulary
from edgeft.compress.prune.latency_table import LatencyTable
from edgeft.data.dataset import Split
from edgeft.data.formats import form_of, stored_kind
from edgeft.errors import ModelError, RecipeError
from edgeft.keys import TRAINING
from edgeft.models import devices, model_facts, model_folder, shapes
from edgeft.models.shapes import structure_of
from edgeft.progress import say
from edgeft.recipe import PruneConfig, Recipe
from edgeft.stage import GateLine, stage
from edgeft.stage_folder import CHECKPOINTS, Inputs, Metrics, StageResult
from edgeft.train import evaluate, tasks
from edgeft.train.loop.loop import HISTORY
from edgeft.train.loop.work import check_training
from edgeft.train.tasks import Items, TrainingTask

BATCH = 16
RATIOS = ("head_ratio", "channel_ratio", "width_ratio", "layer_ratio")


def list_attempts(config: PruneConfig) -> Iterator[PruneConfig]:
    """The wanted shares, then half of them; a number that is the goal is tried once."""
    yield config
    half = dataclasses.replace(config, **{name: getattr(config, name) / 2 for name in RATIOS})
    if not goals.has_goal(config) and half != config:
        yield half


def texts_in(task: TrainingTask, split: Split) -> list[str]:
    """All texts of the rows of a split."""
    kind = stored_kind(task.dataset.kind)
    return [text for row in range(len(split)) for text in kind.texts_of(split.columns, row)]


def cut_vocabulary(config: PruneConfig, task: TrainingTask, model: Any) -> TrainingTask:
    """The task with a tokenizer of fewer tokens, whose embeddings alone stay in the model, in place."""
    if config.vocabulary_size is None and not config.vocabulary_min_count:
        return task
    rows, others = texts_in(task, task.dataset.train), task.dataset.unlabelled
    found = vocabulary.cut(task.tokenizer, rows, config.vocabulary_size, config.vocabulary_min_count, others)
    vocabulary.cut_embeddings(model, found.kept)
    return tasks.create_task(task.dataset, found.tokenizer, task.max_length, config)


def importance_batches(config: PruneConfig, items: Items) -> list[Any]:
    """Places of training items, chosen by seed, for the Taylor importance."""
    chosen = np.random.default_rng(config.seed or 0).permutation(len(items))[: config.importance_rows].tolist()
    return [chosen[start : start + BATCH] for start in range(0, len(chosen), BATCH)]


def remove(config: PruneConfig, task: TrainingTask, model: Any, cut: structure.Cut) -> None:
    """Take out what matters least, in place."""
    items = task.items(task.dataset.train)

    def loss(model: Any, places: Any) -> torch.Tensor:
        return task.losses(model, items, places).mean()

    structure.prune(model, cut, config.importance, importance_batches(config, items), loss, config.seed or 0)


def prune_and_recover(
    config: PruneConfig, inputs: Inputs, task: TrainingTask, folder: Path, cache: Path
) -> tuple[Any, TrainingTask, PruneConfig]:
    """One attempt in its own folder: the pruned and recovered model, its task, and the config with what went."""
    devices.seed_everything(config.seed or 0)
    device, _ = devices.choose_device(config.device)
    model = model_folder.load(inputs["model"], task.head(task.dataset.labels), device=device)
    whole, task = task, cut_vocabulary(config, task, model)
    task.prepare(model)
    table = read_table(inputs)
    config = goals.resolve_goal(config, model, table, token_growth(whole, task) if table else 1.0)
    cut, start, rounds = goals.cut_by_config(config, model), structure_of(model), config.rounds
    for round_ in range(1, rounds + 1):
        remove(config, task, model, goals.cut_of_round(cut, start, structure_of(model), round_, rounds))
        title = "prune: recovery" + (f" {round_} of {rounds}" if rounds > 1 else "")
        place = folder if round_ == rounds else folder / f"round-{round_}"
        place.mkdir(parents=True, exist_ok=True)
        taught = distillation_data.prepare_data(config, task, model, inputs["teacher"], cache)
        recover.learn(config_of_round(config, round_), task, model, taught, place, title)
        if place != folder:
            shutil.copyfile(place / HISTORY, folder / f"history-round-{round_}.jsonl")
    task.finish(model)
    return model, task, config


def token_growth(before: TrainingTask, after: TrainingTask) -> float:
    """How many times the tokens of before the validation texts come to."""
    if before is after:
        return 1.0
    now, then = (
        sum(len(item["input_ids"]) for item in task.items(task.dataset.validation).inputs) for task in (after, before)
    )
    return now / then


def config_of_round(config: PruneConfig, round_: int) -> PruneConfig:
    """Equal parts of the epochs for each round; int8 comes after the last."""
    last = round_ == config.rounds
    return dataclasses.replace(
        config, epochs=config.epochs / config.rounds, int8_epochs=config.int8_epochs if last else 0.0
    )


def read_table(inputs: Inputs) -> LatencyTable | None:
    """The latency table, where one is given."""
    return latency_table.read(inputs["latency"]) if "latency" in inputs else None


def drop_points(task: TrainingTask, now: Any, before: Any) -> float:
    """Points that the leading figure lost on validation, from the predictions of two models."""
    split = task.dataset.validation
    leads = [task.figures(found, split)[task.lead] for found in (before, now)]
    return -task.gain_in_points(*leads)


@dataclass(frozen=True)
class Attempt:
    """What one attempt came to, by its points lost: against the model before, and against the teacher."""

    config: PruneConfig
    drop_points: float
    drop_from_teacher_points: float

    @property
    def allowed(self) -> bool:
        """Whether it lost no more than it may."""
        config = self.config
        most = math.inf if config.max_teacher_drop_points is None else config.max_teacher_drop_points
        return self.drop_points <= config.max_drop_points and self.drop_from_teacher_points <= most

    def as_dict(self) -> Metrics:
        """For the stage's metrics."""
        return {
            **{name: getattr(self.config, name) for name in RATIOS},
            "gone": describe_cut(self.config),
            "drop_points": self.drop_points,
            "drop_from_teacher_points": self.drop_from_teacher_points,
        }


def fill(config: PruneConfig, inputs: Inputs, out_dir: Path) -> Metrics:
    """Prune; where that costs too much, prune half as much, or leave the model as it was.

    Args:
        config: of the stage.
        inputs: `data` (a data folder), `model` (a model folder with its predictions), `teacher` (a model folder) and,
            where milliseconds are the goal, `latency` (a file, see `LatencyTable`).
        out_dir: becomes a model folder.

    Returns:
        Metrics; `agreement` is with the model before. `tried` has shares and drop of each attempt, `kept` the index
        of the one that stayed, None where pruning was left out; `structure` what is left, `vocabulary` what the
        smaller one does to test rows.
    """
    distillation_data.check(config, "prune")
    dataset = recover.load_teachable(inputs["data"], "prune")
    goals.check(config, dataset.kind)
    tokenizer = model_folder.load_tokenizer(str(inputs["model"]))
    device, _ = devices.choose_device(config.device)
    before = evaluate.load_or_predict(inputs["model"], inputs["data"], dataset, device)
    teacher = evaluate.load_or_predict(inputs["teacher"], inputs["data"], dataset, device)["validation"]
    whole = tasks.create_task(dataset, tokenizer, tokenizer.model_max_length, config)
    tried: list[Attempt] = []
    for attempt in list_attempts(config):
        folder = out_dir / CHECKPOINTS / f"attempt-{len(tried)}"
        folder.mkdir(parents=True, exist_ok=True)
        model, task, went = prune_and_recover(attempt, inputs, whole, folder, cache_folder(out_dir))
        now = task.predict(model, task.items(dataset.validation))
        tried.append(Attempt(went, drop_points(task, now, before["validation"]), drop_points(task, now, teacher)))
        say(f"prune: {describe_cut(went)}: {tried[-1].drop_points:+z.2f} points lost")
        if tried[-1].allowed:
            for history in folder.glob("history*.jsonl"):
                shutil.copyfile(history, out_dir / history.name)
            break
    else:
        say("prune: left out, every attempt lost more than it may")
        model, task = model_folder.load(inputs["model"], whole.head(dataset.labels)), whole
    found = evaluate.measure_model(task, model, out_dir, before)
    model_folder.save(model, task.tokenizer, out_dir, task.max_length)
    kept = len(tried) - 1 if tried[-1].allowed else None
    return {**found, "tried": [one.as_dict() for one in tried], "kept": kept, **describe_rest(model, whole, task)}


def describe_cut(config: PruneConfig) -> str:
    """What an attempt takes away, in words."""
    names = dict(zip(RATIOS, ("heads", "channels", "width", "layers"), strict=True))
    gone = [f"{getattr(config, ratio):.0%} of {name}" for ratio, name in names.items() if getattr(config, ratio)]
    if config.vocabulary_size is not None or config.vocabulary_min_count:
        kept = f"all but {config.vocabulary_size:,}" if config.vocabulary_size is not None else "the rare"
        gone.append(f"{kept} tokens")
    return (", ".join(gone) or "nothing") + " gone"


def describe_rest(model: Any, before: TrainingTask, after: TrainingTask) -> Metrics:
    """What is left of the model, and of the vocabulary where that is smaller."""
    there = structure_of(model)
    found: Metrics = {
        "structure": {
            "width": len(there.width),
            "heads": [len(layer.heads) for layer in there.layers],
            "channels": [len(layer.channels) for layer in there.layers],
        },
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
    }
    if after.tokenizer is not before.tokenizer:
        texts = texts_in(before, before.dataset.test)
        found["vocabulary"] = vocabulary.report(before.tokenizer, after.tokenizer, texts)
    return found


def reads(recipe: Recipe) -> dict[str, str]:
    """Rows and models, and the latency table where the run measures one."""
    table = {"latency": f"latency/{latency_table.FILE}"} if goals.needs_table(recipe) else {}
    return {"data": "rows", "model": "model", "teacher": "teacher", **table}


def named_files(recipe: Recipe) -> dict[str, Path]:
    """The latency table that the recipe names, where it aims at a latency."""
    config = recipe.prune
    if config.max_latency_ms is None or config.latency_table is None:
        return {}
    return {"latency": Path(config.latency_table)}


def check(recipe: Recipe) -> None:
    """Whether the goals can be reached with this model and these rows.

    Raises:
        RecipeError: goals that don't go together, or a loss without weight.
        ModelError: pruning doesn't know the model.
    """
    config = recipe.prune
    distillation_data.check(config, "prune")
    goals.check(config, form_of(recipe).name)
    if goals.needs_table(recipe) and recipe.export.precision not in ("auto", "int8"):
        raise RecipeError(
            f"prune.max_latency_ms: the table is measured in int8, and export.precision is {recipe.export.precision}; "
            "give prune.latency_table"
        )
    kind = model_facts.read_facts(recipe.distill.student or recipe.finetune.model or "").kind
    if not shapes.prunable(kind):
        raise ModelError(f"{shapes.UNKNOWN.format(kind)}; use --set prune.enabled=false")
    check_training("prune", config)


def gate_lines(results: Mapping[str, StageResult]) -> list[GateLine]:
    """The pruned model, with what was tried and what stayed."""
    metrics = results["prune"].metrics
    return [GateLine(name="pruned", metrics=metrics, note=_attempts_note(metrics))]


def _attempts_note(metrics: Mapping[str, Any]) -> str:
    tried = metrics["tried"]
    if metrics["kept"] is None:
        worst = ", ".join(f"{attempt['drop_points']:.1f}" for attempt in tried)
        return f"left out: attempts lost {worst} points"
    kept = tried[metrics["kept"]]
    return f"{'second attempt, ' if metrics['kept'] else ''}{kept['gone']}"


run = stage(
    "prune",
    together=True,
    libraries=(*TRAINING, "torch-pruning"),
    reads=reads,
    gives=("model",),
    config=lambda recipe: distillation_data.with_bits(recipe.prune, recipe.export),
    wanted=lambda recipe: recipe.prune.enabled,
    named_files=named_files,
    takes=lambda form: form.can_be_distilled,
    check=check,
    modules={"torch_pruning": "to prune"},
    gate_lines=gate_lines,
    is_shared=True,
    layer_passes=lambda work: recover.layer_passes(work, work.recipe.prune),
)(fill)

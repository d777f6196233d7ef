"""Stage `finetune`: a pre-trained model becomes the teacher, as a plain model folder."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from edgeft import ranks
from edgeft.data.dataset import load as load_dataset
from edgeft.data.formats import form_of
from edgeft.data.merge import earlier_rows
from edgeft.errors import RecipeError
from edgeft.keys import ADAPTING, TRAINING
from edgeft.models import model_folder
from edgeft.progress import say
from edgeft.recipe import FinetuneConfig, Recipe
from edgeft.stage import GateLine, Work, stage
from edgeft.stage_folder import Inputs, Metrics, StageResult
from edgeft.train import defaults, evaluate, forgetting, lengths, methods, mitigation, scrutiny, swapped, tasks
from edgeft.train.forgetting import RowsToLearn
from edgeft.train.loop import memory, optim, processes, reporting
from edgeft.train.loop.loop import Evaluate, Loss, Progress, Trainer, plan
from edgeft.train.loop.work import LOOKS, TRAINED_PASSES, check_training
from edgeft.train.tasks import Items, TrainingTask


def validation(task: TrainingTask, model: Any) -> Evaluate:
    """A look at the validation split."""
    split = task.dataset.validation
    items = task.items(split)

    def look() -> dict[str, float]:
        found = task.look(model, items, split)
        return {**found, "score": task.score(found)}

    return look


def loss_on(task: TrainingTask, items: Items) -> Loss:
    """The task's own loss on items of the training split."""

    def objective(model: torch.nn.Module, places: list[int]) -> torch.Tensor:
        return task.losses(model, items, places)

    def names(places: Sequence[int]) -> str:
        rows = task.dataset.train.where(items.rows[list(places)])
        return f"packed items that begin with {rows}" if "position_ids" in items.inputs[0] else rows

    return Loss(objective, items.lengths, items.weights.tolist(), names)


def fill(config: FinetuneConfig, inputs: Inputs, out_dir: Path) -> Metrics:
    """Train, merge, check the merge, and keep the best model.

    Args:
        config: of the stage.
        inputs: `data` (a data folder) and, where the model is a local folder, `model`.
        out_dir: becomes a model folder.

    Returns:
        Metrics of the merged model, with those of the adapter model under `adapter`; `decided` has each option that was
        unset with its `value` and `reason`.
    """
    source = str(inputs["model"]) if "model" in inputs else config.model
    if source is None:
        raise RecipeError("finetune.model: no model; give --model FOLDER, a Hugging Face id or demo:all-minilm-l6-v2")
    to_learn = forgetting.choose_rows(config, load_dataset(inputs["data"]), earlier_rows(inputs["data"]))
    config, dataset = to_learn.config, to_learn.dataset
    facts, tokenizer = model_folder.facts(source), model_folder.load_tokenizer(source)
    methods.check(config, facts, tasks.class_of(dataset.kind))
    mitigation.check(config, dataset.kind)
    reporting.check("finetune", config)
    device, why = model_folder.device(config.device)
    optim.check(config, device)
    processes.check(config)
    dataset, added = mitigation.with_copies(dataset, config)
    config, reasons = defaults.decide(config, lengths.setting(config, dataset, tokenizer, facts))
    methods.finished(tokenizer, config)  # a tokenizer that can't be is refused before anything is loaded
    say(f"finetune: {config.method} on {device} ({why})")
    decided = defaults.described(config, reasons)
    say("decided: " + (", ".join(f"{name} {one['value']:g}" for name, one in decided.items()) or "nothing was unset"))
    task = tasks.of(dataset, tokenizer, config.max_length, config)
    with memory.explained(config, device, "load"):
        model = methods.load(config, source, task.head(dataset.labels), device)
        forgetting.check_model(to_learn, model)
        task.prepare(model)
        model = methods.prepare(config, model, task.adapter)
    optim.freeze(model, config.freeze_layers)
    counts = methods.parameter_counts(model)
    progress = train(task, model, config, out_dir, to_learn)
    if not ranks.is_main():
        return {}
    found = keep(task, model, config, source, out_dir)
    steps = {"best_step": progress.best_step, "steps": progress.step, "device": str(device)}
    return {**found, **counts, **added, "decided": decided, **to_learn.figures(), **steps}


def unfreezing(model: torch.nn.Module, config: FinetuneConfig, items: int) -> optim.BeforeStep:
    """What trains at which step."""
    return optim.gradual_unfreezing(model, plan(config, items).steps) if config.gradual_unfreezing else optim.as_it_is


def train(task: TrainingTask, model: Any, config: FinetuneConfig, out_dir: Path, to_learn: RowsToLearn) -> Progress:
    """Train on the labelled rows; the model ends with its best weights.

    Raises:
        ModelError: freezing or layer-wise rates need the layers, and they aren't found.
        RecipeError: an option doesn't fit the model, the method or the device.
    """
    items = task.items(task.dataset.train, training=True)
    device = next(model.parameters()).device
    with memory.explained(config, device, "earlier rows"):
        penalty = forgetting.penalty_of(to_learn, task, model)
    loss = replace(loss_on(task, items), penalty=penalty)
    rate = config.learning_rate or defaults.LEARNING_RATES[config.method]
    before_step = unfreezing(model, config, len(items))
    with memory.explained(config, device, "set up"):
        trainer = Trainer(
            model,
            loss,
            validation(task, model),
            config,
            rate,
            out_dir,
            "finetune",
            before_step,
            task.scored(task.dataset.labels),
        )
    return trainer.fit()


def keep(task: TrainingTask, model: Any, config: FinetuneConfig, source: str, out_dir: Path) -> dict[str, Any]:
    """Merge, check and save; the gate's figures of both forms."""
    methods.compute_in_float32(model)
    adapter = evaluate.on_splits(task, model)
    with memory.explained(config, next(model.parameters()).device, "merge"):
        merged = methods.merge(model, config, source, task.head(task.dataset.labels), out_dir)
    task.tokenizer, task.max_length = methods.finished(task.tokenizer, config)
    task.finish(merged)
    found = evaluate.on_splits(task, merged)
    figures = evaluate.measured(task, merged, found, out_dir, None if merged is model else adapter)
    if merged is not model:
        before, after = (
            np.concatenate([task.compared(form[split]) for split in evaluate.SPLITS]) for form in (adapter, found)
        )
        figures["merge_difference"] = methods.check_merge(before, after, config.merge_tolerance)
        figures["adapter"] = evaluate.scores(task, adapter, None)
    model_folder.save(merged, task.tokenizer, out_dir, task.max_length)
    return figures | scrutiny.of_model(task, merged, found["test"], config)


def named_files(recipe: Recipe) -> dict[str, Path]:
    """The local model and the file of identity terms that fine-tuning reads."""
    place = model_folder.find(recipe.finetune.model or "")
    model = {"model": place} if isinstance(place, Path) else {}
    return {**model, **swapped.terms_file(recipe.finetune.identity_terms)}


def check(recipe: Recipe) -> None:
    """Whether model, method and options go together and with the rows.

    Raises:
        RecipeError: no model, or options that don't.
        ModelError: a model that can't be used.
    """
    config, form = recipe.finetune, form_of(recipe).name
    if config.model is None:
        raise RecipeError("finetune.model: no model; give --model FOLDER, a Hugging Face id or demo:all-minilm-l6-v2")
    forgetting.check(config, recipe.update.run is not None)
    methods.check(config, model_folder.facts(config.model), tasks.class_of(form))
    mitigation.check(config, form)
    model_folder.load_tokenizer(config.model)
    check_training("finetune", config)
    if config.processes == 1:
        processes.check(config)


def gate_lines(results: Mapping[str, StageResult]) -> list[GateLine]:
    """The adapter, where there is one, and the teacher that it became."""
    metrics, method = results["finetune"].metrics, results["finetune"].config["method"]
    if "adapter" not in metrics:
        return [GateLine(name="teacher", metrics=metrics, note=method)]
    note = f"merged; logits within {metrics['merge_difference']:.0e} of the adapter's"
    return [
        GateLine(name="adapter", metrics=metrics["adapter"], note=method),
        GateLine(name="teacher", metrics=metrics, note=note),
    ]


def layer_passes(work: Work) -> float:
    """Training, and the looks at the evaluation rows."""
    trained = TRAINED_PASSES * work.epochs * work.train_rows
    return work.teacher_layers * (trained + LOOKS * work.evaluated_rows)


run = stage(
    "finetune",
    together=True,
    libraries=(*TRAINING, *ADAPTING),
    reads=lambda recipe: {"data": "data"},
    gives=("teacher", "model"),
    named_files=named_files,
    check=check,
    modules={"sklearn": "for the metrics"},
    gate_lines=gate_lines,
    is_shared=True,
    layer_passes=layer_passes,
)(fill)

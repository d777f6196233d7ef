"""Stage `finetune`: train a pre-trained model, and save it as a plain model folder, the teacher."""

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
from edgeft.models import devices, model_facts, model_folder, model_sources
from edgeft.progress import say
from edgeft.recipe import FinetuneConfig, Recipe
from edgeft.stage import GateLine, Work, stage
from edgeft.stage_folder import Inputs, Metrics, StageResult
from edgeft.train import defaults, evaluate, forgetting, identity_swaps, lengths, methods, mitigation, scrutiny, tasks
from edgeft.train.forgetting import RowsToLearn
from edgeft.train.loop import memory, optim, processes, reporting
from edgeft.train.loop.loop import Evaluate, Loss, Progress, Trainer, plan
from edgeft.train.loop.work import EVALUATION_PASSES, TRAINED_PASSES, check_training
from edgeft.train.tasks import Items, TrainingTask


def create_evaluation(task: TrainingTask, model: Any) -> Evaluate:
    """A function that evaluates the model on the validation split."""
    split = task.dataset.validation
    items = task.items(split)

    def evaluate() -> dict[str, float]:
        figures = task.evaluate(model, items, split)
        return {**figures, "score": task.score(figures)}

    return evaluate


def create_loss(task: TrainingTask, items: Items) -> Loss:
    """The task's loss on items of the training split."""

    def objective(model: torch.nn.Module, indices: list[int]) -> torch.Tensor:
        return task.losses(model, items, indices)

    def names(indices: Sequence[int]) -> str:
        rows = task.dataset.train.where(items.rows[list(indices)])
        return f"packed items that begin with {rows}" if "position_ids" in items.inputs[0] else rows

    return Loss(objective, items.lengths, items.weights.tolist(), names)


def fill(config: FinetuneConfig, inputs: Inputs, out_dir: Path) -> Metrics:
    """Train, merge the adapter, check the merge, and save the best model.

    Args:
        config: options of the stage.
        inputs: `data` (a data folder) and, if the model is a local folder, `model`.
        out_dir: becomes a model folder.

    Returns:
        Metrics of the merged model, with those of the adapter model under `adapter`; `decided` has the `value` and
        `reason` of each option that was unset.
    """
    source = str(inputs["model"]) if "model" in inputs else config.model
    if source is None:
        raise RecipeError("finetune.model: no model; give --model FOLDER, a Hugging Face id or demo:all-minilm-l6-v2")
    to_learn = forgetting.choose_rows(config, load_dataset(inputs["data"]), earlier_rows(inputs["data"]))
    config, dataset = to_learn.config, to_learn.dataset
    facts, tokenizer = model_facts.read_facts(source), model_folder.load_tokenizer(source)
    methods.check(config, facts, tasks.task_class(dataset.kind))
    mitigation.check(config, dataset.kind)
    reporting.check("finetune", config)
    device, why = devices.choose_device(config.device)
    optim.check(config, device)
    processes.check(config)
    dataset, added = mitigation.add_swapped_copies(dataset, config)
    config, reasons = defaults.decide_options(config, lengths.measure_workload(config, dataset, tokenizer, facts))
    methods.merged_tokenizer(tokenizer, config)  # refuses unsuitable tokenizers before any weight is loaded
    say(f"finetune: {config.method} on {device} ({why})")
    decided = defaults.describe(config, reasons)
    say(
        "decided: "
        + (", ".join(f"{name} {decision['value']:g}" for name, decision in decided.items()) or "nothing was unset")
    )
    task = tasks.create_task(dataset, tokenizer, config.max_length, config)
    with memory.explain_exhausted_memory(config, device, "load"):
        model = methods.load(config, source, task.head(dataset.labels), device)
        forgetting.check_model(to_learn, model)
        task.prepare(model)
        model = methods.prepare(config, model, task.adapter)
    optim.freeze(model, config.freeze_layers)
    counts = methods.parameter_counts(model)
    progress = train(task, model, config, out_dir, to_learn)
    if not ranks.is_main():
        return {}
    figures = save_merged(task, model, config, source, out_dir)
    steps = {"best_step": progress.best_step, "steps": progress.step, "device": str(device)}
    return {**figures, **counts, **added, "decided": decided, **to_learn.figures(), **steps}


def choose_unfreezing(model: torch.nn.Module, config: FinetuneConfig, items: int) -> optim.BeforeStep:
    """The function that decides before each step which parameters train."""
    return (
        optim.unfreeze_gradually(model, plan(config, items).steps)
        if config.gradual_unfreezing
        else optim.change_nothing
    )


def train(task: TrainingTask, model: Any, config: FinetuneConfig, out_dir: Path, to_learn: RowsToLearn) -> Progress:
    """Train on the labelled rows, and leave the best weights in the model.

    Raises:
        ModelError: freezing or layer-wise rates need the layers, but they aren't found.
        RecipeError: an option doesn't fit the model, the method or the device.
    """
    items = task.items(task.dataset.train, training=True)
    device = next(model.parameters()).device
    with memory.explain_exhausted_memory(config, device, "earlier rows"):
        penalty = forgetting.create_penalty(to_learn, task, model)
    loss = replace(create_loss(task, items), penalty=penalty)
    rate = config.learning_rate or defaults.LEARNING_RATES[config.method]
    before_step = choose_unfreezing(model, config, len(items))
    with memory.explain_exhausted_memory(config, device, "set up"):
        trainer = Trainer(
            model,
            loss,
            create_evaluation(task, model),
            config,
            rate,
            out_dir,
            "finetune",
            before_step,
            task.score_name(task.dataset.labels),
        )
    return trainer.fit()


def save_merged(task: TrainingTask, model: Any, config: FinetuneConfig, source: str, out_dir: Path) -> dict[str, Any]:
    """Merge the adapter, check the merge and save the model; returns the figures of both models."""
    methods.compute_in_float32(model)
    adapter = evaluate.predict_splits(task, model)
    with memory.explain_exhausted_memory(config, next(model.parameters()).device, "merge"):
        merged = methods.merge(model, config, source, task.head(task.dataset.labels), out_dir)
    task.tokenizer, task.max_length = methods.merged_tokenizer(task.tokenizer, config)
    task.finish(merged)
    predictions = evaluate.predict_splits(task, merged)
    figures = evaluate.measure_predictions(task, merged, predictions, out_dir, None if merged is model else adapter)
    if merged is not model:
        before, after = (
            np.concatenate([task.logits_to_compare(form[split]) for split in evaluate.SPLITS])
            for form in (adapter, predictions)
        )
        figures["merge_difference"] = methods.check_merge(before, after, config.merge_tolerance)
        figures["adapter"] = evaluate.score_splits(task, adapter, None)
    model_folder.save(merged, task.tokenizer, out_dir, task.max_length)
    return figures | scrutiny.analyze_model(task, merged, predictions["test"], config)


def named_files(recipe: Recipe) -> dict[str, Path]:
    """The local model folder and the file of identity terms that fine-tuning reads."""
    folder = model_sources.find(recipe.finetune.model or "")
    model = {"model": folder} if isinstance(folder, Path) else {}
    return {**model, **identity_swaps.terms_file(recipe.finetune.identity_terms)}


def check(recipe: Recipe) -> None:
    """Check that model, method, options and rows go together.

    Raises:
        RecipeError: there is no model, or the options don't fit.
        ModelError: the model can't be used.
    """
    config, form = recipe.finetune, form_of(recipe).name
    if config.model is None:
        raise RecipeError("finetune.model: no model; give --model FOLDER, a Hugging Face id or demo:all-minilm-l6-v2")
    forgetting.check(config, recipe.update.run is not None)
    methods.check(config, model_facts.read_facts(config.model), tasks.task_class(form))
    mitigation.check(config, form)
    model_folder.load_tokenizer(config.model)
    check_training("finetune", config)
    if config.processes == 1:
        processes.check(config)


def gate_lines(results: Mapping[str, StageResult]) -> list[GateLine]:
    """The line of the adapter model, if there is one, and that of the teacher."""
    metrics, method = results["finetune"].metrics, results["finetune"].config["method"]
    if "adapter" not in metrics:
        return [GateLine(name="teacher", metrics=metrics, note=method)]
    note = f"merged; logits within {metrics['merge_difference']:.0e} of the adapter's"
    return [
        GateLine(name="adapter", metrics=metrics["adapter"], note=method),
        GateLine(name="teacher", metrics=metrics, note=note),
    ]


def layer_passes(work: Work) -> float:
    """The passes of training and evaluation."""
    trained = TRAINED_PASSES * work.epochs * work.train_rows
    return work.teacher_layers * (trained + EVALUATION_PASSES * work.evaluated_rows)


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

"""Stage `distill`: the teacher becomes a smaller student."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from edgeft.compress.distill import distillation_data, recover
from edgeft.compress.distill.narrow import narrow
from edgeft.compress.distill.teacher import cache_folder
from edgeft.data.formats import form_of
from edgeft.errors import ModelError
from edgeft.keys import TRAINING
from edgeft.models import devices, model_facts, model_folder, model_layers, model_sources, shapes
from edgeft.models.model_folder import Head
from edgeft.recipe import DistillConfig, Recipe
from edgeft.stage import GateLine, Work, stage
from edgeft.stage_folder import Inputs, Metrics
from edgeft.train import evaluate, methods, tasks
from edgeft.train.loop.work import check_training
from edgeft.train.tasks import TrainingTask

DIRECTION_ROWS = 256  # whose hidden states say what the principal directions are


def make_student(config: DistillConfig, teacher: str, head: Head, device: Any) -> tuple[Any, Any]:
    """The untrained student and its tokenizer: layers of the teacher, or a checkpoint of the user's or layers of it.

    Raises:
        ModelError: the checkpoint can't be used, or there are no such layers.
    """
    devices.seed_everything(config.seed or 0)
    source = config.student or teacher
    full, tokenizer = model_folder.load(source, head), model_folder.load_tokenizer(source)
    layers = config.layers
    if config.student is None and layers is None:
        layers = model_layers.spread_layers(len(shapes.encoder_layers(full)), config.num_layers)
    return (full if layers is None else model_layers.copy_layers(full, layers)).to(device), tokenizer


def narrow_student(config: DistillConfig, task: TrainingTask, student: Any) -> None:
    """Bring a student to the wanted width, in place.

    Raises:
        ModelError: it hasn't got so many features, or its architecture isn't known.
    """
    if config.width is None:
        return
    items = task.items(task.dataset.train)

    def run() -> None:
        for place in range(min(DIRECTION_ROWS, len(items))):  # one at a time: padding has states of its own
            task.targets(student, items, [place])

    narrow(student, config.width, run)


def fill(config: DistillConfig, inputs: Inputs, out_dir: Path) -> Metrics:
    """Make the student and train it under the teacher.

    Args:
        config: of the stage.
        inputs: `data` (a data folder), `teacher` (a model folder) and, where it is a local folder, `student`.
        out_dir: becomes a model folder.

    Returns:
        Metrics of the student; `agreement` is with the teacher.
    """
    distillation_data.check(config, "distill")
    dataset = recover.load_teachable(inputs["data"], "distill")
    device, _ = devices.choose_device(config.device)
    teacher = inputs["teacher"]
    before = evaluate.load_or_predict(teacher, inputs["data"], dataset, device)
    kind = tasks.task_class(dataset.kind)
    student, tokenizer = make_student(config, str(teacher), kind.head(dataset.labels), device)
    max_length = min(model_folder.load_tokenizer(str(teacher)).model_max_length, tokenizer.model_max_length)
    task = tasks.create_task(dataset, tokenizer, max_length, config)
    task.prepare(student)
    narrow_student(config, task, student)
    taught = distillation_data.prepare_data(config, task, student, teacher, cache_folder(out_dir))
    progress = recover.learn(config, task, student, taught, out_dir, "distill")
    task.finish(student)
    found = evaluate.measure_model(task, student, out_dir, before)
    model_folder.save(student, tokenizer, out_dir, max_length)
    return {**found, "best_step": progress.best_step, "steps": progress.step}


def named_files(recipe: Recipe) -> dict[str, Path]:
    """The folder of the student, where the recipe names a local one."""
    place = model_sources.find(recipe.distill.student) if recipe.distill.student else None
    return {"student": place} if isinstance(place, Path) else {}


def check(recipe: Recipe) -> None:
    """Whether there is something to learn and a student to learn it.

    Raises:
        RecipeError: no loss has a weight, or options that do nothing.
        ModelError: a student without a head for the rows, or without the layers.
    """
    config = recipe.distill
    distillation_data.check(config, "distill")
    if config.student:
        model_folder.load_tokenizer(config.student)
        task = tasks.task_class(form_of(recipe).name)
        methods.check_head(model_facts.read_facts(config.student), task, "distill.student")
    check_layers(config, config.student or recipe.finetune.model or "")
    check_training("distill", config)


def check_layers(config: DistillConfig, source: str) -> None:
    """Whether the model that the student starts from has the layers that are asked for.

    Raises:
        ModelError: it hasn't.
    """
    there = model_facts.read_facts(source).layers
    if config.layers is not None and max(config.layers) >= there:
        raise ModelError(f"distill.layers: layer {max(config.layers)} of {source}, which has layers 0 to {there - 1}")
    if config.layers is None and config.student is None:
        model_layers.spread_layers(there, config.num_layers)


def layer_passes(work: Work) -> float:
    """The teacher's outputs, which pruning reads too, and the student's training."""
    return work.teacher_layers * (work.train_rows + work.unlabelled_rows) + recover.layer_passes(
        work, work.recipe.distill
    )


run = stage(
    "distill",
    together=True,
    libraries=TRAINING,
    reads=lambda recipe: {"data": "rows", "teacher": "teacher"},
    gives=("model",),
    config=lambda recipe: distillation_data.with_bits(recipe.distill, recipe.export),
    wanted=lambda recipe: recipe.distill.enabled,
    named_files=named_files,
    takes=lambda form: form.can_be_distilled,
    check=check,
    gate_lines=lambda results: [GateLine(name="distilled", metrics=results["distill"].metrics)],
    is_shared=True,
    layer_passes=layer_passes,
)(fill)

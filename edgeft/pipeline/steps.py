"""The stages of a run in their order, and what each one reads."""

from __future__ import annotations

import dataclasses
import importlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from edgeft import budget, models, shapes
from edgeft.cleaning import cleaner
from edgeft.data import sources
from edgeft.data.clean import cleaning_of
from edgeft.data.dataset import check_trainable
from edgeft.data.kinds import kind_of
from edgeft.errors import ModelError, RecipeError, require
from edgeft.pipeline import update
from edgeft.recipe import AugmentConfig, BaselineConfig, DistillConfig, PruneConfig, Recipe, StageConfig, UpdateConfig
from edgeft.stage import Inputs, Run, StageResult
from edgeft.train import augment, forgetting, methods, tasks

ROOMS = {
    "data": "edgeft.data.prepare",
    "baseline": "edgeft.train.baseline",
    "finetune": "edgeft.train.finetune",
    "augment": "edgeft.train.augment",
    "distill": "edgeft.compress.distill",
    "prune": "edgeft.compress.prune",
    "export": "edgeft.export.export",
    "calibrate": "edgeft.compress.calibrate",
    "package": "edgeft.export.package",
    "bench": "edgeft.pipeline.measure",
    "update": "edgeft.pipeline.kept",
    "update_artifact": "edgeft.pipeline.kept_artifact",
}
MERGE = "edgeft.data.merge"


@dataclass(frozen=True)
class Step:
    """One stage of a run.

    Attributes:
        name: of the stage, and of its folder in the run folder.
        config: its part of the recipe.
        inputs: gives the folders it reads.
        room: the module whose `run` it is; empty: that of `ROOMS`.
    """

    name: str
    config: StageConfig
    inputs: Callable[[], Inputs]
    room: str = ""

    def run(self, out_dir: Path) -> StageResult:
        """Run the stage; its room is imported now."""
        run: Run = importlib.import_module(self.room or ROOMS[self.name]).run
        return run(self.config, self.inputs(), out_dir)


def steps(recipe: Recipe, run_dir: Path) -> list[Step]:
    """The stages that this recipe asks for, all but the last one, which ships.

    Args:
        recipe: resolved.
        run_dir: the run folder.
    """
    folder = _folders(recipe, run_dir)
    data, rows, teacher = folder["data"], folder["rows"], folder["finetune"]
    model = folder["prune"] if recipe.prune.enabled else folder["student"]
    found = [
        Step(
            "data",
            recipe.data,
            lambda: {**sources.local_files(recipe.data), **earlier(recipe, "data")},
            MERGE if recipe.update.run else "",
        ),
        Step("baseline", recipe.baseline, lambda: {"data": data}),
        Step("finetune", recipe.finetune, lambda: {"data": data, **local_model(recipe)}),
        Step("update", recipe.update, lambda: {"data": data, "model": teacher, **earlier(recipe, "finetune")}),
        Step("augment", recipe.augment, lambda: {"data": data, **augmenting(recipe, teacher)}),
        Step("distill", recipe.distill, lambda: {"data": rows, "teacher": teacher, **local_student(recipe)}),
        Step("prune", recipe.prune, lambda: {"data": rows, "model": folder["student"], "teacher": teacher}),
        Step("export", recipe.export, lambda: {"data": data, "model": model}),
        Step("calibrate", recipe.calibrate, lambda: {"data": data, "artifact": folder["export"]}),
        Step(
            "package",
            StageConfig(seed=recipe.seed),
            lambda: {"data": data, "export": folder["export"], "calibrate": folder["calibrate"]},
        ),
        Step(
            "bench",
            recipe.bench,
            lambda: {"data": data, "package": folder["package"], "teacher": teacher},
        ),
        Step(
            "update_artifact",
            recipe.update,
            lambda: {"data": data, "package": folder["package"], **earlier(recipe, "artifact")},
        ),
    ]
    shipped = update.shipped(recipe)
    return [step for step in found if wanted(step.config) and (step.name != "update_artifact" or shipped)]


def wanted(config: StageConfig) -> bool:
    """Whether the recipe asks for the stage; calibration runs in any case, at temperature 1 where it is off."""
    if isinstance(config, AugmentConfig | BaselineConfig | DistillConfig | PruneConfig):
        return config.enabled
    return not isinstance(config, UpdateConfig) or config.run is not None


def _folders(recipe: Recipe, run_dir: Path) -> dict[str, Path]:
    folders = {name: run_dir / name for name in ROOMS}
    folders["student"] = folders["distill"] if recipe.distill.enabled else folders["finetune"]
    folders["rows"] = folders["augment"] if recipe.augment.enabled else folders["data"]
    return folders


def earlier(recipe: Recipe, name: str) -> dict[str, Path]:
    """The folder of a stage of the run that is updated, where there is one."""
    return {"earlier": Path(recipe.update.run) / name} if recipe.update.run else {}


def local_model(recipe: Recipe) -> dict[str, Path]:
    """The folder of the model to fine-tune, where it is a local one."""
    place = models.find(recipe.finetune.model or "")
    return {"model": place} if isinstance(place, Path) else {}


def local_student(recipe: Recipe) -> dict[str, Path]:
    """The folder of the student, where the recipe names a local one."""
    place = models.find(recipe.distill.student) if recipe.distill.student else None
    return {"student": place} if isinstance(place, Path) else {}


def augmenting(recipe: Recipe, teacher: Path) -> dict[str, Path]:
    """The folders of models that make and judge new rows."""
    judge = {"teacher": teacher} if recipe.augment.teacher_agrees else {}
    return {**judge, **augment.local_models(recipe.augment)}


def preflight(recipe: Recipe) -> None:
    """Everything that can fail before the first row is read, so that nobody learns of it after an hour.

    Raises:
        RecipeError: no data file or no model.
        ModelError: a model folder that can't be used.
        MissingExtraError: a package that a later stage needs.
    """
    if recipe.data.file is None:
        raise RecipeError("data.file: no data; give --data FILE, or a recipe that names it")
    if recipe.finetune.model is None:
        raise RecipeError("finetune.model: no model; give --model FOLDER, a Hugging Face id or demo:all-minilm-l6-v2")
    sources.local_files(recipe.data)
    forgetting.check(recipe.finetune, recipe.update.run is not None)
    update.check(recipe)
    kind = kind_of(recipe.data, ()).name
    check_trainable(kind)
    cleaner(cleaning_of(recipe.data))
    methods.check(recipe.finetune, models.facts(recipe.finetune.model), tasks.class_of(kind))
    for source in filter(None, (recipe.finetune.model, recipe.distill.student)):
        models.load_tokenizer(source)
    check_shapes(recipe)
    if recipe.augment.enabled:
        augment.check(recipe.augment, kind)
    needed = {"onnxruntime": "to run the artifact", "onnx": "to export", "sklearn": "for the metrics"}
    needed |= {"jinja2": "for the report", "matplotlib": "for the report's plots"}
    needed |= {"torch_pruning": "to prune"} if recipe.prune.enabled else {}
    for module, purpose in needed.items():
        require(module, purpose)


def check_shapes(recipe: Recipe) -> None:
    """Whether the model has the positions and layers that the recipe asks for, and is one that pruning knows.

    Raises:
        ModelError: names the option and both numbers.
    """
    facts = models.facts(recipe.finetune.model or "")
    if recipe.finetune.max_length > facts.positions:
        raise ModelError(
            f"finetune.max_length={recipe.finetune.max_length} is more than the {facts.positions} tokens "
            f"that {recipe.finetune.model} has positions for"
        )
    if recipe.distill.enabled and recipe.distill.student is None:
        if recipe.distill.layers is None:
            models.spread(facts.layers, recipe.distill.num_layers)
        elif max(recipe.distill.layers) >= facts.layers:
            raise ModelError(
                f"distill.layers: layer {max(recipe.distill.layers)} of {recipe.finetune.model}, "
                f"which has layers 0 to {facts.layers - 1}"
            )
    student = models.facts(recipe.distill.student).kind if recipe.distill.student else facts.kind
    if recipe.prune.enabled and not shapes.prunable(student):
        raise ModelError(f"{shapes.UNKNOWN.format(student)}; use --set prune.enabled=false")


def with_budget(recipe: Recipe) -> Recipe:
    """The recipe, its pruning held to the budget's largest drop; both are against the teacher."""
    drops = [limit.bound for limit in budget.parse(recipe.budget or "") if limit.quantity == "drop"]
    own = recipe.prune.max_teacher_drop_points
    bound = min([*drops, *([] if own is None else [own])], default=None)
    return dataclasses.replace(recipe, prune=dataclasses.replace(recipe.prune, max_teacher_drop_points=bound))

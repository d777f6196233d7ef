"""The stages of a run in their order, and what each one reads."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from edgeft import budget
from edgeft.cleaning import cleaner
from edgeft.compress.calibrate import selective
from edgeft.compress.distill import lesson
from edgeft.compress.prune import goals
from edgeft.data.clean.clean import cleaning_of
from edgeft.data.formats import NAMED, kind_of
from edgeft.data.read import sources
from edgeft.errors import ModelError, RecipeError, require
from edgeft.export.quantize import rounding
from edgeft.models import model_folder, shapes
from edgeft.pipeline import launch
from edgeft.pipeline.launch import ROOMS
from edgeft.pipeline.update import update
from edgeft.recipe import (
    AugmentConfig,
    BaselineConfig,
    BenchConfig,
    DistillationConfig,
    DistillConfig,
    PruneConfig,
    Recipe,
    StageConfig,
    UpdateConfig,
)
from edgeft.stage import Inputs, StageResult
from edgeft.train import forgetting, methods, mitigation, swapped, tasks
from edgeft.train.augment import augment
from edgeft.train.loop import optim, processes, reporting

TRAINING = ("data", "baseline", "finetune", "update", "augment", "distill", "prune")  # what ends with a torch model
LATENCY_TABLE = "latency.json"
BASELINE = "single-label"  # the form of rows that TF-IDF takes
MERGE = "edgeft.data.merge"

Trained = TypeVar("Trained", bound=DistillationConfig)


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
        return launch.run(self.name, self.config, self.inputs(), out_dir, self.room)

    def key(self) -> str:
        """The key of its result with the inputs as they are; its room is imported now.

        Raises:
            UserError: an input is not there.
        """
        return launch.stage_of(self.name, self.room).key(self.config, self.inputs())

    def is_complete(self, out_dir: Path) -> bool:
        """Whether a folder holds its result for the inputs as they are."""
        return launch.stage_of(self.name, self.room).is_complete(self.config, self.inputs(), out_dir)


def steps(recipe: Recipe, folder: Mapping[str, Path]) -> list[Step]:
    """The stages that this recipe asks for, all but the last one, which ships.

    Args:
        recipe: resolved.
        folder: of each stage, as of `in_run`; those after the teacher may be put in while the stages run.
    """
    data, teacher = folder["data"], folder["finetune"]
    rows = folder["augment"] if recipe.augment.enabled else data
    student = "distill" if recipe.distill.enabled else "finetune"
    model = "prune" if recipe.prune.enabled else student
    found = [
        Step(
            "data",
            recipe.data,
            lambda: {**sources.local_files(recipe.data), **earlier(recipe, "data")},
            MERGE if recipe.update.run else "",
        ),
        Step("baseline", recipe.baseline, lambda: {"data": data}),
        Step("finetune", recipe.finetune, lambda: {"data": data, **finetuning(recipe)}),
        Step("update", recipe.update, lambda: {"data": data, "model": teacher, **earlier(recipe, "finetune")}),
        Step("augment", recipe.augment, lambda: {"data": data, **augmenting(recipe, teacher)}),
        Step(
            "distill",
            knowing_bits(recipe, recipe.distill),
            lambda: {"data": rows, "teacher": teacher, **local_student(recipe)},
        ),
        Step("latency", timing(recipe), lambda: {"data": data, "model": folder[student]}),
        Step(
            "prune",
            knowing_bits(recipe, recipe.prune),
            lambda: {"data": rows, "model": folder[student], "teacher": teacher, **latency_file(recipe, folder)},
        ),
        Step("export", recipe.export, lambda: {"data": data, "model": folder[model]}),
        Step("calibrate", recipe.calibrate, lambda: {"data": data, "artifact": folder["export"]}),
        Step(
            "package",
            StageConfig(seed=recipe.seed),
            lambda: {"data": data, "export": folder["export"], "calibrate": folder["calibrate"]},
        ),
        Step(
            "bench",
            recipe.bench,
            lambda: {"data": data, "package": folder["package"], "teacher": teacher, **raced(recipe, folder)},
        ),
        Step(
            "update_artifact",
            recipe.update,
            lambda: {"data": data, "package": folder["package"], **earlier(recipe, "artifact")},
        ),
    ]
    without = [] if update.shipped(recipe) else ["update_artifact"]
    without += [] if measures_latency(recipe) else ["latency"]
    return [step for step in found if wanted(step.config) and step.name not in without]


def measures_latency(recipe: Recipe) -> bool:
    """Whether pruning aims at a latency, and nobody measured what widths cost."""
    return recipe.prune.enabled and recipe.prune.max_latency_ms is not None and recipe.prune.latency_table is None


def timing(recipe: Recipe) -> BenchConfig:
    """The options of the bench that the latency table depends on."""
    bench = recipe.bench
    return BenchConfig(queries=bench.queries, warmup=bench.warmup, threads=bench.threads, seed=bench.seed)


def knowing_bits(recipe: Recipe, config: Trained) -> Trained:
    """The options of a training in int8, told of the bits that the export writes."""
    if not config.int8_epochs:
        return config
    unset = {name: getattr(recipe.export, name) for name in lesson.BITS if getattr(config, name) is None}
    return dataclasses.replace(config, **unset)


def latency_file(recipe: Recipe, folder: Mapping[str, Path]) -> dict[str, Path]:
    """The latency table that pruning reads, where it aims at a latency."""
    if recipe.prune.max_latency_ms is None:
        return {}
    own = recipe.prune.latency_table
    return {"latency": Path(own) if own else folder["latency"] / LATENCY_TABLE}


def raced(recipe: Recipe, folder: Mapping[str, Path]) -> dict[str, Path]:
    """The stages whose models the bench races beside the package and its teacher."""
    configs: dict[str, StageConfig] = {"baseline": recipe.baseline, "distill": recipe.distill, "prune": recipe.prune}
    names = [*(name for name, config in configs.items() if wanted(config)), "export"]
    return {name: folder[name] for name in names if folder[name].exists()}


def form(recipe: Recipe) -> str:
    """The form of the recipe's rows, as far as the recipe tells."""
    return kind_of(recipe.data, ()).name


def wanted(config: StageConfig) -> bool:
    """Whether the recipe asks for the stage; calibration runs in any case, and changes nothing where it is off."""
    if isinstance(config, AugmentConfig | BaselineConfig | DistillConfig | PruneConfig):
        return config.enabled
    return not isinstance(config, UpdateConfig) or config.run is not None


def in_run(run_dir: Path) -> dict[str, Path]:
    """The folder of each stage in a run folder."""
    return {name: run_dir / name for name in ROOMS}


def earlier(recipe: Recipe, name: str) -> dict[str, Path]:
    """The folder of a stage of the run that is updated, where there is one."""
    return {"earlier": Path(recipe.update.run) / name} if recipe.update.run else {}


def local_model(recipe: Recipe) -> dict[str, Path]:
    """The folder of the model to fine-tune, where it is a local one."""
    place = model_folder.find(recipe.finetune.model or "")
    return {"model": place} if isinstance(place, Path) else {}


def finetuning(recipe: Recipe) -> dict[str, Path]:
    """The local model and the file of identity terms that fine-tuning reads."""
    return {**local_model(recipe), **swapped.terms_file(recipe.finetune.identity_terms)}


def local_student(recipe: Recipe) -> dict[str, Path]:
    """The folder of the student, where the recipe names a local one."""
    place = model_folder.find(recipe.distill.student) if recipe.distill.student else None
    return {"student": place} if isinstance(place, Path) else {}


def augmenting(recipe: Recipe, teacher: Path) -> dict[str, Path]:
    """The folders of models that make and judge new rows."""
    judge = {"teacher": teacher} if recipe.augment.teacher_agrees else {}
    return {**judge, **augment.local_models(recipe.augment)}


def preflight(recipe: Recipe, names: Collection[str] | None = None) -> None:
    """Everything that can fail before the first row is read, so that nobody learns of it after an hour.

    Args:
        recipe: resolved.
        names: the stages that will run; None: all.

    Raises:
        RecipeError: no data file or no model, or rows that can't be trained on or made an artifact of.
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
    if recipe.export.precision == "fp16":
        raise RecipeError("export.precision: fp16 is for a GPU, and a pipeline measures on the CPU; use edgeft export")
    rounding.check(recipe.export)
    kind, names = form(recipe), {*ROOMS, "artifact"} if names is None else set(names)
    check_ships(recipe, kind, names)
    cleaner(cleaning_of(recipe.data))
    methods.check(recipe.finetune, model_folder.facts(recipe.finetune.model), tasks.class_of(kind))
    mitigation.check(recipe.finetune, kind)
    selective.check(recipe.calibrate, kind)
    for source in filter(None, (recipe.finetune.model, recipe.distill.student if "distill" in names else None)):
        model_folder.load_tokenizer(source)
    if recipe.distill.enabled and recipe.distill.student and "distill" in names:
        methods.check_head(model_folder.facts(recipe.distill.student), tasks.class_of(kind), "distill.student")
    check_shapes(recipe, names)
    for name, stage in (("finetune", recipe.finetune), ("distill", recipe.distill), ("prune", recipe.prune)):
        if wanted(stage) and name in names:
            reporting.check(name, stage)
            optim.check(stage, model_folder.device(stage.device)[0], f"{name}.")
    if recipe.finetune.processes == 1:
        processes.check(recipe.finetune)
    if recipe.augment.enabled and "augment" in names:
        augment.check(recipe.augment, kind)
    for module, purpose in modules_needed(recipe, names).items():
        require(module, purpose)


def modules_needed(recipe: Recipe, names: Collection[str]) -> dict[str, str]:
    """What the stages import late, each module with its purpose, so that a run doesn't stop for it in the middle."""
    needed = {"sklearn": "for the metrics", "jinja2": "for the report", "matplotlib": "for the report's plots"}
    needed |= {"onnxruntime": "to run the artifact", "onnx": "to export"} if "export" in names else {}
    return needed | ({"torch_pruning": "to prune"} if recipe.prune.enabled and "prune" in names else {})


def check_ships(recipe: Recipe, kind: str, names: Collection[str]) -> None:
    """Whether the stages after the teacher take rows of this form.

    Raises:
        RecipeError: they don't, and one of them would run.
    """
    if not tasks.class_of(kind).ships and not set(names) <= set(TRAINING):
        last = "update" if recipe.update.run else "finetune"
        can = ", ".join(name for name in NAMED if tasks.class_of(name).ships)
        raise RecipeError(
            f"task: {kind} rows can be trained on, but what is trained can't become an artifact yet "
            f"({can} rows can); --until {last} trains the model"
        )


def check_shapes(recipe: Recipe, names: Collection[str]) -> None:
    """Whether the model has the positions and layers that the recipe asks for, and is one that pruning knows.

    Args:
        recipe: resolved.
        names: the stages that will run.

    Raises:
        ModelError: names the option and both numbers.
    """
    facts = model_folder.facts(recipe.finetune.model or "")
    for name, config in (("distill", recipe.distill), ("prune", recipe.prune)):
        if name in names and config.enabled:
            lesson.check(config, name)
    if "distill" in names and recipe.distill.enabled:
        check_layers(recipe.distill, recipe.distill.student or recipe.finetune.model or "")
    if "prune" not in names or not recipe.prune.enabled:
        return
    goals.check(recipe.prune, form(recipe))
    if measures_latency(recipe) and recipe.export.precision not in ("auto", "int8"):
        raise RecipeError(
            f"prune.max_latency_ms: the table is measured in int8, and export.precision is {recipe.export.precision}; "
            "give prune.latency_table"
        )
    student = model_folder.facts(recipe.distill.student).kind if recipe.distill.student else facts.kind
    if not shapes.prunable(student):
        raise ModelError(f"{shapes.UNKNOWN.format(student)}; use --set prune.enabled=false")


def check_layers(config: DistillConfig, source: str) -> None:
    """Whether the model that the student starts from has the layers that are asked for.

    Raises:
        ModelError: it hasn't.
    """
    there = model_folder.facts(source).layers
    if config.layers is not None and max(config.layers) >= there:
        raise ModelError(f"distill.layers: layer {max(config.layers)} of {source}, which has layers 0 to {there - 1}")
    if config.layers is None and config.student is None:
        model_folder.spread(there, config.num_layers)


def left_out(recipe: Recipe) -> list[str]:
    """The stages that the recipe asks for and that don't take its rows; the teacher itself goes on then."""
    kind = form(recipe)
    configs: dict[str, Any] = {"baseline": recipe.baseline} if kind != BASELINE else {}
    if not tasks.class_of(kind).distills:
        configs |= {"distill": recipe.distill, "prune": recipe.prune}
    return [name for name, config in configs.items() if config.enabled]


def feasible(recipe: Recipe) -> Recipe:
    """The recipe without those stages."""
    changed = {name: dataclasses.replace(getattr(recipe, name), enabled=False) for name in left_out(recipe)}
    return with_budget(dataclasses.replace(recipe, **changed))


def with_budget(recipe: Recipe) -> Recipe:
    """The recipe, its pruning held to the budget's largest drop; both are against the teacher."""
    drops = [limit.bound for limit in budget.parse(recipe.budget or "") if limit.quantity == "drop"]
    own = recipe.prune.max_teacher_drop_points
    bound = min([*drops, *([] if own is None else [own])], default=None)
    return dataclasses.replace(recipe, prune=dataclasses.replace(recipe.prune, max_teacher_drop_points=bound))

"""Checks before the first row is read: which stages take the rows, and whether every stage can run."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection

from edgeft import tasks
from edgeft.data.formats import form_of
from edgeft.errors import RecipeError, require
from edgeft.models.hub import OutOfReachError
from edgeft.pipeline.stages import MODULES, stage_of, wanted_stages
from edgeft.pipeline.update import update_recipe
from edgeft.progress import say
from edgeft.recipe import Recipe, budget
from edgeft.stage import Stage

REPORT_MODULES = {"jinja2": "for the report", "matplotlib": "for the report's plots"}


def preflight(recipe: Recipe, names: Collection[str] | None = None, needs_hub: bool = True) -> None:
    """Check everything that can fail before the first row is read, so that a run doesn't fail after an hour.

    Args:
        recipe: resolved.
        names: the stages that will run; None: all.
        needs_hub: whether to refuse a model on an unreachable hub; if not, a line says that it wasn't checked.

    Raises:
        RecipeError: no data file or no model, or rows that can't be trained on or can't end in an artifact.
        ModelError: an unusable model folder.
        MissingExtraError: a package that a later stage needs.
    """
    names = {*MODULES} if names is None else set(names)
    update_recipe.check(recipe)  # also refuses options of an update if there is none
    check_ships(recipe, names)
    unreachable: list[OutOfReachError] = []
    for stage in wanted_stages(recipe):
        if stage.name in names:
            _check_stage(stage, recipe, unreachable)
    if unreachable and needs_hub:
        raise unreachable[0]
    for line in dict.fromkeys(map(str, unreachable)):
        say(f"pipeline: the model is not looked into, so the run may still be refused: {line}")
    for module, purpose in modules_needed(recipe, names).items():
        require(module, purpose)


def _check_stage(stage: Stage, recipe: Recipe, unreachable: list[OutOfReachError]) -> None:
    """Check a stage; collect the error if its model is on an unreachable hub."""
    try:
        stage.check(recipe)
    except OutOfReachError as error:
        unreachable.append(error)


def modules_needed(recipe: Recipe, names: Collection[str]) -> dict[str, str]:
    """The modules that the stages import late, each with its purpose, so that a run doesn't stop half-way."""
    needed = dict(REPORT_MODULES)
    for stage in wanted_stages(recipe):
        if stage.name in names:
            needed |= stage.modules
    return needed


def check_ships(recipe: Recipe, names: Collection[str]) -> None:
    """Check that the stages after the teacher take rows of this form, if one of them will run.

    Raises:
        RecipeError: they don't.
    """
    form = form_of(recipe)
    runs_graphs = any(name not in MODULES or stage_of(name).kernels for name in names)
    if runs_graphs and not form.can_ship:
        last = "update" if recipe.update.run else "finetune"
        can = ", ".join(tasks.name_forms(lambda other: other.has_rows and other.can_ship))
        raise RecipeError(
            f"task: {form.name} rows can be trained on, but what is trained can't become an artifact yet "
            f"({can} rows can); --until {last} trains the model"
        )


def stages_left_out(recipe: Recipe) -> list[str]:
    """The stages that the recipe asks for but that don't take its rows; the teacher is passed on unchanged."""
    form = form_of(recipe)
    return [stage.name for stage in wanted_stages(recipe) if stage.takes is not None and not stage.takes(form)]


def without_unfit_stages(recipe: Recipe) -> Recipe:
    """The recipe without the stages that don't take its rows, its pruning held to the budget."""
    changed = {name: dataclasses.replace(getattr(recipe, name), enabled=False) for name in stages_left_out(recipe)}
    return with_budget(dataclasses.replace(recipe, **changed))


def with_budget(recipe: Recipe) -> Recipe:
    """The recipe with its pruning limited to the budget's drop; both are relative to the teacher."""
    drops = [limit.bound for limit in budget.parse(recipe.budget or "") if limit.quantity == "drop"]
    recipe_bound = recipe.prune.max_teacher_drop_points
    bound = min([*drops, *([] if recipe_bound is None else [recipe_bound])], default=None)
    return dataclasses.replace(recipe, prune=dataclasses.replace(recipe.prune, max_teacher_drop_points=bound))

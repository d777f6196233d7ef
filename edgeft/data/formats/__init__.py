"""The forms of rows, task by task; a new task is one file here."""

from __future__ import annotations

from collections.abc import Sequence

from edgeft import tasks
from edgeft.data.formats.base import BadRow, Cleaner, Columns, Kind
from edgeft.errors import RecipeError
from edgeft.recipe import DataConfig, Recipe
from edgeft.tasks import RowForm

__all__ = ["BadRow", "Cleaner", "Columns", "Kind", "class_of", "form_of", "kind_of", "stored_kind", "task_of"]


def task_of(config: DataConfig) -> str:
    """The task's tag.

    Raises:
        RecipeError: no such task, or one without rows of its own.
    """
    task = tasks.known(config.task or tasks.DEFAULT)
    if task.tag not in tasks.SUPPORTED:
        raise RecipeError(f"task: {task.tag} has no labelled rows; the data room takes the other tasks")
    return task.tag


def class_of(form: RowForm) -> type[Kind]:
    """The `Kind` class of a form of rows.

    Raises:
        DataError: no file can have such rows.
    """
    kind: type[Kind] = tasks.load_part(form, "rows")
    return kind


def stored_kind(name: str) -> Kind:
    """The `Kind` of a dataset folder, whose columns have their canonical names.

    Args:
        name: of the form, as dataset.json has it.
    """
    return class_of(tasks.find_form(name))(DataConfig())


def form_of(recipe: Recipe) -> RowForm:
    """The form of a recipe's rows, as far as the recipe alone determines it."""
    return kind_of(recipe.data, ()).form


def kind_of(config: DataConfig, present: Sequence[str]) -> Kind:
    """The form of the rows of a source.

    Args:
        config: names the task and the columns.
        present: the columns of the source; they decide between the forms of one task.
    """
    kinds = map(class_of, tasks.TASKS[task_of(config)].forms)
    return next(kind for kind in kinds if kind.matches(config, present)).of_source(config, present)

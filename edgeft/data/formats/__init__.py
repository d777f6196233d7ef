"""What rows look like, task by task; a new task is one file here."""

from __future__ import annotations

from collections.abc import Sequence

from edgeft import tasks
from edgeft.data.formats.base import BadRow, Cleaner, Columns, Kind
from edgeft.data.formats.classification import MultiLabel, Regression, SingleLabel
from edgeft.data.formats.generation import Messages, Pairs, PlainText, PromptCompletion
from edgeft.data.formats.questions import Squad
from edgeft.data.formats.tags import Spans, Tokens
from edgeft.errors import RecipeError
from edgeft.recipe import DataConfig, Recipe

__all__ = ["BadRow", "Cleaner", "Columns", "Kind", "NAMED", "form_of", "kind_of", "task_of"]

DEFAULT_TASK = "text-classification"
# As dataset.json names them; spans are stored as the tokens that they become.
NAMED: dict[str, type[Kind]] = {
    kind.name: kind
    for kind in (SingleLabel, MultiLabel, Regression, Tokens, Squad, PlainText, PromptCompletion, Messages, Pairs)
}


def task_of(config: DataConfig) -> str:
    """The task's tag.

    Raises:
        RecipeError: no such task, or one without rows of its own.
    """
    task = tasks.known(config.task or DEFAULT_TASK)
    if task.tag == "feature-extraction":
        raise RecipeError("task: feature-extraction has no labelled rows; the data room takes the other tasks")
    return task.tag


def form_of(recipe: Recipe) -> str:
    """The name of the form of a recipe's rows, as far as the recipe tells."""
    return kind_of(recipe.data, ()).name


def kind_of(config: DataConfig, present: Sequence[str]) -> Kind:
    """The form of the rows of a source.

    Args:
        config: names the task and the columns.
        present: the columns of the source; they decide between the forms of one task.
    """
    match task_of(config):
        case "text-classification":
            return MultiLabel(config) if config.multi_label else SingleLabel(config)
        case "text-regression":
            return Regression(config)
        case "token-classification":
            spans = config.spans_column in present and config.tokens_column not in present
            return Spans(config) if spans else Tokens(config)
        case "question-answering":
            return Squad(config)
        case "text2text-generation":
            return Pairs(config)
    if config.messages_column in present:
        return Messages(config)
    if config.prompt_column in present or config.completion_column in present:
        return PromptCompletion(config)
    return PlainText(config)

"""What a task is: its columns, its prediction, the metric that leads. Tags are the ecosystem's own."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from edgeft.errors import RecipeError

TaskTag = Literal[
    "text-classification",
    "text-regression",
    "token-classification",
    "question-answering",
    "text-generation",
    "text2text-generation",
    "feature-extraction",
]


@dataclass(frozen=True, kw_only=True)
class Task:
    """One task.

    Attributes:
        tag: the ecosystem's name.
        columns: the columns a row must have, inputs first.
        prediction: what one prediction looks like to a user.
        lead_metric: the metric that gates and tables are about; higher is better.
        has_labels: whether the label column holds names from a closed set.
    """

    tag: TaskTag
    columns: tuple[str, ...]
    prediction: str
    lead_metric: str
    has_labels: bool


TASKS: dict[str, Task] = {
    task.tag: task
    for task in (
        Task(
            tag="text-classification",
            columns=("text", "label"),
            prediction='{"label": str, "score": float}',
            lead_metric="accuracy",
            has_labels=True,
        ),
        Task(
            tag="text-regression",
            columns=("text", "target"),
            prediction='{"label": "score", "score": float}',
            lead_metric="pearson",
            has_labels=False,
        ),
        Task(
            tag="token-classification",
            columns=("tokens", "tags"),
            prediction='[{"entity": str, "score": float, "start": int, "end": int, "word": str}]',
            lead_metric="span_f1",
            has_labels=True,
        ),
        Task(
            tag="question-answering",
            columns=("question", "context", "answers"),
            prediction='{"answer": str, "score": float, "start": int, "end": int}',
            lead_metric="token_f1",
            has_labels=False,
        ),
        Task(
            tag="text-generation",
            columns=("text",),
            prediction='{"generated_text": str}',
            lead_metric="negative_perplexity",
            has_labels=False,
        ),
        Task(
            tag="text2text-generation",
            columns=("source", "target"),
            prediction='{"generated_text": str}',
            lead_metric="chrf",
            has_labels=False,
        ),
        Task(
            tag="feature-extraction",
            columns=("text",),
            prediction="[float, ...]",
            lead_metric="spearman",
            has_labels=False,
        ),
    )
}

# The tasks that have rows of their own to train on.
SUPPORTED = tuple(tag for tag in TASKS if tag != "feature-extraction")


def known(tag: str) -> Task:
    """The task with this tag, whether or not every room can take it.

    Raises:
        RecipeError: no such task.
    """
    if tag not in TASKS:
        raise RecipeError(f"task: {tag!r} is not a task; the tasks are {', '.join(TASKS)}")
    return TASKS[tag]


def get(tag: str) -> Task:
    """The task with this tag, which can be trained.

    Raises:
        RecipeError: no such task, or one that has no rows to train on.
    """
    task = known(tag)
    if tag not in SUPPORTED:
        raise RecipeError(f"task: {tag!r} can't be trained; what can: {', '.join(SUPPORTED)}")
    return task

"""The part of each task that training needs, looked up by the form of the rows; a new task is one file here."""

from __future__ import annotations

from typing import Any

from edgeft.artifact import Manifest
from edgeft.data.dataset import Dataset
from edgeft.errors import ArtifactError
from edgeft.recipe import TrainingConfig
from edgeft.tasks import find_form, load_part
from edgeft.train.tasks.base import Items, TrainingTask

__all__ = ["Items", "TrainingTask", "create_artifact_task", "create_task", "task_class"]


def task_class(kind: str) -> type[TrainingTask]:
    """The class of the task for a form of rows.

    Args:
        kind: name of the form, as in dataset.json.
    """
    task: type[TrainingTask] = load_part(find_form(kind), "training")
    return task


def create_artifact_task(dataset: Dataset, manifest: Manifest, config: TrainingConfig | None = None) -> TrainingTask:
    """The task of a dataset, without a tokenizer, to get and judge the predictions of an artifact.

    Raises:
        ArtifactError: artifact and rows are of different kinds.
    """
    if manifest.kind != dataset.kind:
        raise ArtifactError(f"the artifact answers as {manifest.kind}, but the rows are {dataset.kind}")
    return create_task(dataset, None, manifest.inputs.max_length, config or TrainingConfig())


def create_task(dataset: Dataset, tokenizer: Any, max_length: int, config: TrainingConfig) -> TrainingTask:
    """The task of a dataset; arguments as of `TrainingTask`."""
    return task_class(dataset.kind)(dataset, tokenizer, max_length, config)

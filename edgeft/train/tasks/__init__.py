"""What training needs to know of each task, looked up by the form of its rows; a new task is one file here."""

from __future__ import annotations

from typing import Any

from edgeft.artifact import Manifest
from edgeft.data.dataset import Dataset
from edgeft.errors import ArtifactError
from edgeft.recipe import TrainingConfig
from edgeft.tasks import find_form, load_part
from edgeft.train.tasks.base import Items, TrainingTask

__all__ = ["Items", "TrainingTask", "class_of", "of", "of_artifact"]


def class_of(kind: str) -> type[TrainingTask]:
    """The task of a form of rows.

    Args:
        kind: as dataset.json names it.
    """
    task: type[TrainingTask] = load_part(find_form(kind), "training")
    return task


def of_artifact(dataset: Dataset, manifest: Manifest, config: TrainingConfig | None = None) -> TrainingTask:
    """The task of a dataset, to ask and judge an artifact with; it has no tokenizer.

    Raises:
        ArtifactError: the artifact is of another kind than the rows.
    """
    if manifest.kind != dataset.kind:
        raise ArtifactError(f"the artifact answers as {manifest.kind}, but the rows are {dataset.kind}")
    return of(dataset, None, manifest.inputs.max_length, config or TrainingConfig())


def of(dataset: Dataset, tokenizer: Any, max_length: int, config: TrainingConfig) -> TrainingTask:
    """The task of a dataset; arguments as of `TrainingTask`."""
    return class_of(dataset.kind)(dataset, tokenizer, max_length, config)

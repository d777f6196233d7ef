"""Learning from a teacher, by the one training loop: distillation, and recovery after pruning."""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import nn

from edgeft.compress.distill.distillation_data import DistillationData, build_objective
from edgeft.compress.distill.states import HIDDEN, PROJECTION
from edgeft.compress.quantization_aware.int8 import int8, settle
from edgeft.data.dataset import Dataset
from edgeft.data.dataset import load as load_dataset
from edgeft.errors import RecipeError
from edgeft.models import shapes
from edgeft.progress import say
from edgeft.recipe import DistillationConfig
from edgeft.stage import Work
from edgeft.stage_folder import CHECKPOINTS
from edgeft.train.finetune import create_evaluation
from edgeft.train.loop.loop import HISTORY, Loss, Progress, Trainer, copy_parameters, restore_parameters
from edgeft.train.loop.work import EVALUATION_PASSES, TRAINED_PASSES
from edgeft.train.tasks import TrainingTask

DEFAULT_RATE = 1e-4
INT8_RATE = 0.5  # of the peak rate, in the epochs that see int8
INT8_HISTORY = "history-int8.jsonl"
INT8_ROWS = 64  # that give the sizes of the activations


def load_teachable(folder: Path, stage: str) -> Dataset:
    """The rows of a data folder, where distillation and pruning can learn from them.

    Raises:
        RecipeError: they are of another kind.
    """
    dataset = load_dataset(folder)
    if not dataset.form.can_be_distilled:
        raise RecipeError(f"{stage}: takes no {dataset.kind} rows; the model itself can go on")
    return dataset


def learn(
    config: DistillationConfig, task: TrainingTask, student: Any, data: DistillationData, out_dir: Path, title: str
) -> Progress:
    """Train the student under the teacher, the last epochs in int8 where that is asked for.

    Args:
        config: losses, epochs, rates.
        task: of the student.
        student: ends with its best weights.
        data: what it learns from.
        out_dir: for checkpoints and history.
        title: of the progress bar.

    Returns:
        Of the training before int8.
    """
    with with_projections(student, data):
        progress = _trainer(config, task, student, data, out_dir, title).fit()
        if config.int8_epochs:
            _learn_int8(config, task, student, data, out_dir, title)
    return progress


def _trainer(
    config: DistillationConfig, task: TrainingTask, student: Any, data: DistillationData, out_dir: Path, title: str
) -> Trainer:
    items = data.items

    def names(places: Sequence[int]) -> str:
        labelled = [int(items.rows[place]) for place in places if place < data.labelled]
        return task.dataset.train.where(labelled) if labelled else "unlabelled texts"

    loss = Loss(build_objective(config, task, student, data), items.lengths, items.weights.tolist(), names)
    rate = config.learning_rate or DEFAULT_RATE
    score_name = task.score_name(task.dataset.labels)
    return Trainer(student, loss, create_evaluation(task, student), config, rate, out_dir, title, score_name=score_name)


def _learn_int8(
    config: DistillationConfig, task: TrainingTask, student: Any, data: DistillationData, out_dir: Path, title: str
) -> None:
    """Further epochs in which every product is int8; the best weights are those that are best in int8."""
    if not shapes.prunable(kind := student.config.model_type):
        say(
            f"{title}, int8: how the graph of {kind} models joins their products isn't known; each is rounded by itself"
        )
    rate = INT8_RATE * (config.learning_rate or DEFAULT_RATE)
    late = dataclasses.replace(config, epochs=config.int8_epochs, learning_rate=rate)
    folder = out_dir / CHECKPOINTS / "int8"
    folder.mkdir(parents=True, exist_ok=True)

    def run() -> None:
        student.eval()
        for place in range(min(INT8_ROWS, data.labelled)):  # one at a time: padding has sizes of its own
            task.targets(student, data.items, [place])

    bits = {"embedding_bits": config.embedding_bits or 8, "weight_bits": config.weight_bits or 8}
    with int8(student, run, **bits):
        trainer = _trainer(late, task, student, data, folder, f"{title}, int8")
        before = trainer.evaluate()["score"]
        started = copy_parameters(trainer.parameters)
        found = trainer.fit()
        if found.best is None or found.best["score"] < before:  # it was better before
            restore_parameters(trainer.parameters, started)
    settle(student, **bits)
    shutil.copyfile(folder / HISTORY, out_dir / INT8_HISTORY)


@contextmanager
def with_projections(student: Any, data: DistillationData) -> Iterator[None]:
    """Give a student of another width a projection of its hidden states to the teacher's, which learns with it."""
    width = shapes.width(student)
    arrays = data.taught.arrays if data.taught is not None else {}
    of_teacher = arrays[HIDDEN].shape[1] if HIDDEN in arrays else width
    if width != of_teacher:
        device = next(student.parameters()).device
        with torch.random.fork_rng(devices=[]):
            setattr(student, PROJECTION, nn.Linear(width, of_teacher, bias=False, device=device))
    try:
        yield
    finally:
        if width != of_teacher:
            delattr(student, PROJECTION)


def layer_passes(work: Work, config: DistillationConfig) -> float:
    """How many rows go through a layer of the student while it learns, as of `Stage.layer_passes`."""
    rows = work.train_rows + work.unlabelled_rows
    return work.student_layers * (
        TRAINED_PASSES * (config.epochs or 1) * rows + EVALUATION_PASSES * work.evaluated_rows
    )

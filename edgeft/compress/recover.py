"""Learning from a teacher, by the one training loop: distillation, and recovery after pruning."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from edgeft.compress import losses
from edgeft.compress.teacher import TeacherOutputs, outputs
from edgeft.data.dataset import Dataset
from edgeft.data.dataset import load as load_dataset
from edgeft.errors import RecipeError
from edgeft.progress import say
from edgeft.recipe import DistillationConfig
from edgeft.train.batches import collate, encode
from edgeft.train.finetune import validation
from edgeft.train.loop import Loss, Objective, Progress, Trainer
from edgeft.train.tasks import SingleLabel
from edgeft.train.tasks.sequences import weights_of

DEFAULT_RATE = 1e-4


def labelled_rows(folder: Path, stage: str) -> Dataset:
    """The rows of a data folder, where distillation and pruning can learn from them.

    Raises:
        RecipeError: they are of another kind.
    """
    dataset = load_dataset(folder)
    if dataset.kind not in SingleLabel.kinds:
        taken = ", ".join(SingleLabel.kinds)
        raise RecipeError(f"{stage}: takes {taken} rows so far, not {dataset.kind}; export the teacher itself")
    return dataset


@dataclass(frozen=True)
class Lesson:
    """What the student learns from.

    Attributes:
        ids: token ids of each text, by the student's tokenizer.
        labels: of each text, int64, -1 where there is none.
        weights: (L,) of each label in the loss, None where all count alike.
        teacher: the teacher's outputs on the same texts.
        hidden: whether hidden states can be compared (same tokens, same width).
    """

    ids: list[list[int]]
    labels: NDArray[np.int64]
    weights: torch.Tensor | None
    teacher: TeacherOutputs
    hidden: bool


def lesson(
    config: DistillationConfig,
    task: SingleLabel,
    student: Any,
    teacher: Path,
    cache: Path,
) -> Lesson:
    """The training texts with labels and the teacher's outputs.

    Args:
        config: whether unlabelled text counts.
        task: with labelled training rows, unlabelled texts and the student's tokenizer.
        student: the model that learns.
        teacher: model folder.
        cache: folder where the teacher's outputs are kept.
    """
    dataset, max_length = task.dataset, task.max_length
    extra = dataset.unlabelled if config.unlabelled else []
    texts = [*dataset.train.texts, *extra]
    labels = np.concatenate([dataset.train.labels, np.full(len(extra), losses.UNLABELLED, dtype=np.int64)])
    found = outputs(teacher, texts, max_length, cache, next(student.parameters()).device)
    ids = encode(task.tokenizer, texts, max_length)
    same = ids == found.ids and student.config.hidden_size == found.hidden.shape[1]
    if config.hidden_weight and not same:
        say("distill: student and teacher differ in tokens or width, so the hidden-state loss is left out")
    weights = weights_of(dataset.class_weights, next(student.parameters()).device)
    hidden = same and config.hidden_weight > 0
    return Lesson(ids=ids, labels=labels, weights=weights, teacher=found, hidden=hidden)


def objective(config: DistillationConfig, lesson: Lesson, pad_token_id: int, device: torch.device) -> Objective:
    """The weighted sum of soft labels, hard labels and hidden states, for each row."""

    def loss(model: torch.nn.Module, rows: list[int]) -> torch.Tensor:
        batch = collate([lesson.ids[row] for row in rows], pad_token_id, device)
        answer = model(**batch, output_hidden_states=lesson.hidden)
        logits = answer.logits.float()
        taught = torch.from_numpy(lesson.teacher.logits[rows]).to(device)
        total = config.soft_weight * losses.soft_labels(logits, taught, config.temperature)
        labels = torch.as_tensor(lesson.labels[rows], device=device)
        total = total + config.hard_weight * losses.hard_labels(logits, labels, lesson.weights, config.label_smoothing)
        if lesson.hidden:
            states = lesson.teacher.hidden_of(rows, batch["input_ids"].shape[1]).to(device)
            mask = batch["attention_mask"]
            total = total + config.hidden_weight * losses.hidden_states(answer.hidden_states[-1].float(), states, mask)
        return total

    return loss


def learn(
    config: DistillationConfig,
    task: SingleLabel,
    student: Any,
    teacher: Path,
    out_dir: Path,
    title: str,
    cache: Path,
) -> Progress:
    """Train the student under the teacher; it ends with its best weights."""
    taught = lesson(config, task, student, teacher, cache)
    device = next(student.parameters()).device
    lengths, ones = list(map(len, taught.ids)), [1.0] * len(taught.ids)

    def names(places: Sequence[int]) -> str:
        train = task.dataset.train
        labelled = [place for place in places if place < len(train)]  # unlabelled texts follow
        return train.where(labelled) if labelled else "unlabelled texts"

    trainer = Trainer(
        student,
        Loss(objective(config, taught, task.tokenizer.pad_token_id, device), lengths, ones, names),
        validation(task, student),
        config,
        config.learning_rate or DEFAULT_RATE,
        out_dir,
        title,
    )
    return trainer.fit()

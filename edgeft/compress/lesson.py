"""What a student learns from: the training items, and what the teacher says of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from edgeft import models
from edgeft.compress import losses, teacher
from edgeft.compress.states import HIDDEN, RELATIONS, knows_relations, watched, width_of
from edgeft.compress.teacher import IDS, LOGITS, Question, TeacherOutputs
from edgeft.data.dataset import Split
from edgeft.errors import RecipeError
from edgeft.progress import say
from edgeft.recipe import DistillationConfig
from edgeft.train import tasks
from edgeft.train.loop import Objective
from edgeft.train.targets import Targets
from edgeft.train.tasks import Items, TrainingTask

PROJECTION = "edgeft_projection"  # of a student's hidden states to the teacher's width, while it learns
RELATION_HEADS = 12


@dataclass(frozen=True, eq=False)
class Lesson:
    """What a student learns from.

    Attributes:
        items: as the student reads them, labelled ones first.
        labelled: how many have labels.
        targets: first target of each item, int64 (items + 1,).
        taught: the teacher's outputs on the same rows.
        same: (items,) whether student and teacher read the same tokens.
        states: names of the teacher's states that are compared.
        heads: relation heads of each of the `RELATIONS`.
    """

    items: Items
    labelled: int
    targets: NDArray[np.int64]
    taught: TeacherOutputs
    same: NDArray[np.bool_]
    states: tuple[str, ...]
    heads: dict[str, int]

    def places(self, items: Sequence[int]) -> NDArray[np.int64]:
        """Places of all targets of some items."""
        return np.concatenate([np.arange(self.targets[item], self.targets[item + 1]) for item in items])


# ----------------------------------------------------------------------------------------------------------- preparing


def check(config: DistillationConfig, stage: str) -> None:
    """Whether there is anything to learn.

    Raises:
        RecipeError: no loss has a weight.
    """
    named = ("soft_weight", "reverse_weight", "hard_weight", "hidden_weight", "relation_weight")
    if not any(getattr(config, name) for name in named):
        raise RecipeError(f"{stage}: {', '.join(named)} are all 0, so there is nothing to learn; give one a weight")


def lesson(config: DistillationConfig, task: TrainingTask, student: Any, folder: Path, cache: Path) -> Lesson:
    """The training items with the teacher's outputs.

    Args:
        config: the losses' weights, and whether unlabelled text counts.
        task: of the student, with its tokenizer.
        student: the model that learns.
        folder: the teacher's model folder.
        cache: folder where the teacher's outputs are kept.

    Raises:
        RecipeError: teacher and student can't be compared on these rows.
    """
    device = next(student.parameters()).device
    tokenizer = models.load_tokenizer(str(folder))
    own = tasks.of(task.dataset, tokenizer, tokenizer.model_max_length, config)
    extra = texts(task) if config.unlabelled else []
    items, read = (with_texts(one, extra) for one in (task, own))
    counts = task.target_counts(items)
    same = same_tokens(task.tokenizer, items, tokenizer, read)
    check_comparable(task, same, counts, own.target_counts(read))
    likeliest = config.teacher_top_k if type(task).vocabulary else 0
    question = Question(folder, own, read, likeliest, config.temperature)
    states = _states(config, task, student, same)
    taught = teacher.outputs(question, states, cache, device)
    heads = {name: _heads(student, name, taught) for name in states if name != HIDDEN}
    labelled = len(items) - len(extra)
    return Lesson(items, labelled, np.concatenate([[0], np.cumsum(counts)]), taught, same, states, heads)


def texts(task: TrainingTask) -> list[str]:
    """The unlabelled texts that this task can learn from."""
    if task.dataset.unlabelled and not type(task).unlabelled:
        say(f"unlabelled text: {task.dataset.kind} rows can't learn from it; it is left out")
        return []
    return task.dataset.unlabelled


def with_texts(task: TrainingTask, extra: Sequence[str]) -> Items:
    """The training items, and one for each text, whose label nobody reads."""
    items = task.items(task.dataset.train, training=True)
    if not extra:
        return items
    labels = np.zeros((len(extra), *task.dataset.train.labels.shape[1:]), dtype=task.dataset.train.labels.dtype)
    more = task.items(Split({"text": list(extra)}, labels, np.arange(len(extra)) + 1))
    return Items(
        items.inputs + more.inputs,
        np.concatenate([items.rows, more.rows]),
        np.concatenate([items.weights, more.weights]),
    )


def same_tokens(one: Any, items: Items, other: Any, read: Items) -> NDArray[np.bool_]:
    """(items,) whether two tokenizers make the same tokens of each item; none, where they make other items."""
    if len(items) != len(read):
        return np.zeros(len(items), dtype=bool)
    ids = other.get_vocab()
    names = one.convert_ids_to_tokens(range(len(one)))
    renamed = {place: ids.get(name) for place, name in enumerate(names)}
    return np.array(
        [
            [renamed.get(token) for token in item["input_ids"]] == list(seen["input_ids"])
            for item, seen in zip(items.inputs, read.inputs, strict=True)
        ],
        dtype=bool,
    )


def check_comparable(
    task: TrainingTask, same: NDArray[np.bool_], counts: NDArray[np.int64], of_teacher: NDArray[np.int64]
) -> None:
    """Whether the teacher says something of each of the student's targets.

    Raises:
        RecipeError: targets are tokens, and the two read other ones; or they count otherwise.
    """
    if type(task).of_tokens and not same.all():
        raise RecipeError(
            f"{task.dataset.kind} rows are learnt token by token, so student and teacher must have the same tokenizer "
            f"and max_length; of {len(same)} items {int((~same).sum())} have other tokens"
        )
    if counts.sum() != of_teacher.sum():
        raise RecipeError(
            f"the student reads {counts.sum()} targets in the training rows and the teacher {of_teacher.sum()}; "
            "give them the same max_length"
        )


def _states(config: DistillationConfig, task: TrainingTask, student: Any, same: NDArray[np.bool_]) -> tuple[str, ...]:
    """The states that can be compared; what can't be is said."""
    wanted: tuple[str, ...] = (HIDDEN,) if config.hidden_weight else ()
    if config.relation_weight:
        wanted += RELATIONS
        if not knows_relations(student):
            raise RecipeError(f"relation_weight: queries and keys of {student.config.model_type} models aren't known")
    if wanted and not same.any():
        say("student and teacher read other tokens, so hidden states and relations are left out of the loss")
        return ()
    if wanted and not same.all():
        say(f"hidden states and relations are compared on {same.mean():.0%} of the rows, those of the same tokens")
    return wanted


def _heads(student: Any, name: str, taught: TeacherOutputs) -> int:
    """Relation heads that divide both widths: as near to `RELATION_HEADS` as can be."""
    widths = width_of(student, name), taught.arrays[name].shape[1]
    common = [heads for heads in range(1, min(widths) + 1) if not any(width % heads for width in widths)]
    return min(common, key=lambda heads: abs(heads - RELATION_HEADS))


# ------------------------------------------------------------------------------------------------------------ the loss


def objective(config: DistillationConfig, task: TrainingTask, student: Any, lesson: Lesson) -> Objective:
    """The weighted sum of the losses, for each item.

    Args:
        config: the weights.
        task: of the student.
        student: the model itself, inside of whatever wraps it in training.
        lesson: for this student.
    """

    def loss(model: torch.nn.Module, places: list[int]) -> torch.Tensor:
        with watched(student, lesson.states) as seen:
            found = task.targets(model, lesson.items, places)
        total = found.summed(_of_targets(config, task, lesson, found, places), len(places))
        if not seen or not lesson.same[places].any():
            return total
        weights = torch.as_tensor(lesson.items.weights[places] * lesson.same[places], device=total.device)
        return total + _of_states(config, student, lesson, seen, places) * weights.to(total.dtype)

    return loss


def _of_targets(
    config: DistillationConfig, task: TrainingTask, lesson: Lesson, found: Targets, places: list[int]
) -> torch.Tensor:
    """(m,) labels, and what the teacher thinks of each target."""
    device = found.logits.device
    total = torch.zeros(len(found.owners), device=device)
    if config.hard_weight:
        labelled = torch.tensor([place < lesson.labelled for place in places], device=device)[found.owners]
        total = total + config.hard_weight * task.target_losses(found) * labelled
    if not config.soft_weight and not config.reverse_weight:
        return total
    rows = lesson.places(places)
    given, wanted = found.logits, lesson.taught.of_targets(LOGITS, rows).to(device)
    if IDS in lesson.taught.arrays:
        ids = lesson.taught.of_targets(IDS, rows).long().to(device)
        given = losses.folded(given, ids, config.temperature)
    given = given.clamp_min(losses.HIDDEN_SCORE)
    wanted = task.taught(wanted)[:, : given.shape[1]]
    soft = SOFT[type(task).answer]
    each = config.soft_weight * soft(given, wanted, config.temperature)
    if config.reverse_weight:
        each = each + config.reverse_weight * soft(wanted, given, config.temperature)
    share = torch.as_tensor(lesson.items.weights[places] / np.diff(lesson.targets)[places], device=device)
    return total + each * share[found.owners].to(each.dtype)


SOFT = {"one": losses.soft_labels, "several": losses.soft_bits, "number": losses.soft_numbers}


def _of_states(
    config: DistillationConfig, student: Any, lesson: Lesson, seen: dict[str, torch.Tensor], places: list[int]
) -> torch.Tensor:
    """(B,) hidden states and relations of each item."""
    device = next(iter(seen.values())).device
    longest = next(iter(seen.values())).shape[1]
    lengths = torch.tensor([lesson.items.lengths[place] for place in places], device=device)
    mask = (torch.arange(longest, device=device)[None, :] < lengths[:, None]).long()  # (B, T)
    # Items of other tokens may be longer, and count nothing.
    fitting = [place if lesson.same[place] else None for place in places]
    total = torch.zeros(len(places), device=device)
    for name in lesson.states:
        wanted = lesson.taught.of_tokens(name, fitting, longest).to(device)
        if name == HIDDEN:
            given = student.edgeft_projection(seen[name]) if hasattr(student, PROJECTION) else seen[name]
            total = total + config.hidden_weight * losses.hidden_states(given, wanted, mask)
        else:
            total = total + config.relation_weight * losses.relations(seen[name], wanted, mask, lesson.heads[name])
    return total

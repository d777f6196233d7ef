"""What a student learns from: the training items, and what the teacher says of them."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray

from edgeft.compress.distill import losses, teacher
from edgeft.compress.distill.shared_tokens import NONE, SharedTokens, none_shared, shared_tokens
from edgeft.compress.distill.states import HIDDEN, RELATIONS, knows_relations, watch_states, width_of
from edgeft.compress.distill.teacher import IDS, LOGITS, Question, TeacherOutputs
from edgeft.data.dataset import Split
from edgeft.errors import RecipeError
from edgeft.models import model_folder
from edgeft.progress import say
from edgeft.recipe import DistillationConfig, ExportConfig
from edgeft.train import tasks
from edgeft.train.loop.loop import Objective
from edgeft.train.targets import Targets
from edgeft.train.tasks import Items, TrainingTask

Trained = TypeVar("Trained", bound=DistillationConfig)

OF_STATES = ("hidden_weight", "relation_weight")
BITS = ("embedding_bits", "weight_bits")
OF_TEACHER = ("soft_weight", "reverse_weight", *OF_STATES)
RELATION_HEADS = 12
MIN_SHARED = 0.5  # of the tokens, for states to be compared


@dataclass(frozen=True, eq=False)
class DistillationData:
    """What a student learns from.

    Attributes:
        items: as the student reads them, labelled ones first.
        labelled: how many have labels.
        targets: first target of each item, int64 (items + 1,).
        taught: the teacher's outputs on the same rows; None: labels alone are learnt.
        rows: (targets,) row of each in the teacher's outputs; -1: the teacher has none.
        shared: tokens that student and teacher both read.
        states: names of the teacher's states that are compared.
        heads: relation heads of each of the `RELATIONS`.
    """

    items: Items
    labelled: int
    targets: NDArray[np.int64]
    taught: TeacherOutputs | None
    rows: NDArray[np.int64]
    shared: SharedTokens
    states: tuple[str, ...]
    heads: dict[str, int]

    def rows_of(self, items: Sequence[int]) -> NDArray[np.int64]:
        """Rows of all targets of some items in the teacher's outputs."""
        return np.concatenate([self.rows[self.targets[item] : self.targets[item + 1]] for item in items])


def with_bits(config: Trained, export: ExportConfig) -> Trained:
    """The options of a training in int8, told of the bits that the export writes."""
    if not config.int8_epochs:
        return config
    unset = {name: getattr(export, name) for name in BITS if getattr(config, name) is None}
    return dataclasses.replace(config, **unset)


# ----------------------------------------------------------------------------------------------------------- preparing


def check(config: DistillationConfig, stage: str) -> None:
    """Whether there is anything to learn.

    Raises:
        RecipeError: no loss has a weight.
    """
    named = (*OF_TEACHER, "hard_weight")
    if not any(getattr(config, name) for name in named):
        raise RecipeError(f"{stage}: {', '.join(named)} are all 0, so there is nothing to learn; give one a weight")
    for name in BITS:
        if getattr(config, name) is not None and not config.int8_epochs:
            raise RecipeError(
                f"{stage}.{name}: decides nothing without {stage}.int8_epochs; export.{name} is the file's"
            )


def prepare_data(
    config: DistillationConfig, task: TrainingTask, student: Any, folder: Path, cache: Path
) -> DistillationData:
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
    asks = any(getattr(config, name) for name in OF_TEACHER)
    extra = unlabelled_texts(task) if config.unlabelled and asks else []
    items = add_texts(task, extra)
    labelled = len(items) - len(extra)
    targets = np.concatenate([[0], np.cumsum(task.target_counts(items))])
    if not asks:
        return DistillationData(items, labelled, targets, None, np.full(targets[-1], -1), none_shared(items), (), {})
    tokenizer = model_folder.load_tokenizer(str(folder))
    own = tasks.create_task(task.dataset, tokenizer, tokenizer.model_max_length, config)
    read = add_texts(own, extra)
    shared = shared_tokens(task, items, own, read)
    check_comparable(task, shared)
    rows = match_targets(task.target_keys(items), own.target_keys(read))
    likeliest = config.teacher_top_k if type(task).vocabulary else 0
    question = Question(folder, own, read, likeliest, config.temperature)
    states = _comparable_states(config, student, shared)
    taught = teacher.load_outputs(question, states, cache, next(student.parameters()).device)
    heads = {name: _relation_heads(student, name, taught) for name in states if name != HIDDEN}
    return DistillationData(items, labelled, targets, taught, rows, shared, states, heads)


def match_targets(keys: NDArray[np.int64], of_teacher: NDArray[np.int64]) -> NDArray[np.int64]:
    """(targets,) place of each of the student's targets among the teacher's; -1 where it isn't there.

    Args:
        keys: what tells the student's targets apart.
        of_teacher: likewise.
    """
    places = {key: place for place, key in enumerate(of_teacher.tolist())}
    return np.array([places.get(key, -1) for key in keys.tolist()], dtype=np.int64)


def unlabelled_texts(task: TrainingTask) -> list[str]:
    """The unlabelled texts that this task can learn from."""
    if task.dataset.unlabelled and not task.form.has_lone_text:
        say(f"unlabelled text: {task.dataset.kind} rows can't learn from it; it is left out")
        return []
    return task.dataset.unlabelled


def add_texts(task: TrainingTask, extra: Sequence[str]) -> Items:
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


def check_comparable(task: TrainingTask, shared: SharedTokens) -> None:
    """Whether the teacher says something of each of the student's targets.

    Raises:
        RecipeError: targets are tokens, and the two read other ones.
    """
    if type(task).of_tokens and not shared.whole.all():
        raise RecipeError(
            f"{task.dataset.kind} rows are learnt token by token, so student and teacher must have the same tokenizer "
            f"and max_length; of {len(shared.whole)} items {int((~shared.whole).sum())} have other tokens"
        )


def _comparable_states(config: DistillationConfig, student: Any, shared: SharedTokens) -> tuple[str, ...]:
    """The states that can be compared; what can't be is said.

    Args:
        config: the weights.
        student: the model that learns.
        shared: tokens that both read.

    Raises:
        RecipeError: nothing is left to learn, or the student's queries and keys aren't known.
    """
    wanted: tuple[str, ...] = (HIDDEN,) if config.hidden_weight else ()
    if config.relation_weight:
        wanted += RELATIONS
        if not knows_relations(student):
            raise RecipeError(f"relation_weight: queries and keys of {student.config.model_type} models aren't known")
    if wanted and shared.share < MIN_SHARED:
        say(
            "hidden states and relations are left out of the loss: student and teacher share "
            f"{shared.share:.0%} of the tokens, less than {MIN_SHARED:.0%}"
        )
        wanted = ()
    if not (wanted or config.soft_weight or config.reverse_weight or config.hard_weight):
        raise RecipeError(f"{', '.join(OF_STATES)}: nothing of the teacher's can be compared; give soft_weight")
    if wanted and not shared.whole.all():
        say(f"hidden states and relations are compared at {shared.share:.1%} of the tokens, those that both read")
    return wanted


def _relation_heads(student: Any, name: str, taught: TeacherOutputs) -> int:
    """Relation heads that divide both widths: as near to `RELATION_HEADS` as can be."""
    widths = width_of(student, name), taught.arrays[name].shape[1]
    common = [heads for heads in range(1, min(widths) + 1) if not any(width % heads for width in widths)]
    return min(common, key=lambda heads: abs(heads - RELATION_HEADS))


# ------------------------------------------------------------------------------------------------------------ the loss


def build_objective(config: DistillationConfig, task: TrainingTask, student: Any, data: DistillationData) -> Objective:
    """The weighted sum of the losses, for each item.

    Args:
        config: the weights.
        task: of the student.
        student: the model itself, inside of whatever wraps it in training.
        data: for this student.
    """

    def loss(model: torch.nn.Module, places: list[int]) -> torch.Tensor:
        with watch_states(student, data.states) as seen:
            found = task.targets(model, data.items, places)
        with torch.autocast(found.logits.device.type, enabled=False):  # half precision has too few digits for these
            total = found.sum_by_item(_target_losses(config, task, data, found, places), len(places))
            if not seen:
                return total
            weights = torch.as_tensor(data.items.weights[places], device=total.device)
            return total + _state_losses(config, data, seen, places) * weights.to(total.dtype)

    return loss


def _target_losses(
    config: DistillationConfig, task: TrainingTask, data: DistillationData, found: Targets, places: list[int]
) -> torch.Tensor:
    """(m,) labels, and what the teacher thinks of each target."""
    device = found.logits.device
    total = 0 * found.logits.clamp_min(losses.HIDDEN_SCORE).mean(dim=-1)  # the head has a gradient in any case
    if config.hard_weight:
        labelled = torch.tensor([place < data.labelled for place in places], device=device)[found.owners]
        total = total + config.hard_weight * task.target_losses(found) * labelled
    if data.taught is None or not (config.soft_weight or config.reverse_weight):
        return total
    share = torch.as_tensor(data.items.weights[places] / np.diff(data.targets)[places], device=device)
    rows = data.rows_of(places)
    known = torch.as_tensor(rows >= 0, device=device)
    each = _teacher_losses(config, task, data.taught, found.logits, rows)
    return total + each * known * share[found.owners].to(each.dtype)


def _teacher_losses(
    config: DistillationConfig, task: TrainingTask, taught: TeacherOutputs, given: torch.Tensor, rows: NDArray[np.int64]
) -> torch.Tensor:
    """(m,) the divergences of the student's logits, (m, C), from rows of the teacher's."""
    wanted = taught.of_targets(LOGITS, rows).to(given.device)
    if IDS in taught.arrays:
        given = losses.fold_classes(given, taught.of_targets(IDS, rows).long().to(given.device), config.temperature)
    given = given.clamp_min(losses.HIDDEN_SCORE)
    wanted = task.to_training_scale(wanted)[:, : given.shape[1]].clamp_min(losses.HIDDEN_SCORE)
    soft = SOFT[type(task).answer]
    each = config.soft_weight * soft(given, wanted, config.temperature)
    if config.reverse_weight:
        each = each + config.reverse_weight * soft(wanted, given, config.temperature)
    return each


SOFT = {"one": losses.soft_labels, "several": losses.soft_bits, "number": losses.soft_numbers}


def _state_losses(
    config: DistillationConfig, data: DistillationData, seen: dict[str, torch.Tensor], places: list[int]
) -> torch.Tensor:
    """(B,) hidden states and relations of each item, of the tokens that student and teacher share."""
    assert data.taught is not None
    device = next(iter(seen.values())).device
    longest = next(iter(seen.values())).shape[1]
    shared = [data.shared.of(place) for place in places]
    mask = torch.zeros(len(places), longest, dtype=torch.long)
    for index, of_item in enumerate(shared):
        mask[index, : len(of_item)] = torch.from_numpy(of_item != NONE)
    mask = mask.to(device)
    total = torch.zeros(len(places), device=device)
    for name in data.states:
        wanted = data.taught.of_tokens(name, places, shared, longest).to(device)
        if name == HIDDEN:
            total = total + config.hidden_weight * losses.hidden_states(seen[name], wanted, mask)
        else:
            total = total + config.relation_weight * losses.relations(seen[name], wanted, mask, data.heads[name])
    return total

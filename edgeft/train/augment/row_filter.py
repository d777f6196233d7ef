"""Which new rows are kept: texts that are new, are in no evaluation split, and keep the meaning of their original."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from edgeft import tasks
from edgeft.data.dataset import Dataset
from edgeft.errors import ModelError, RecipeError
from edgeft.models import devices, model_folder
from edgeft.progress import track
from edgeft.recipe import AugmentConfig
from edgeft.train.augment.word_edits import normalize
from edgeft.train.generate import read_config
from edgeft.train.loop.batches import encode
from edgeft.train.tasks import sequences

# What becomes of a new row, in the order of the checks.
Outcome = Literal["unchanged", "in_evaluation", "duplicates", "disagreed", "kept"]
KEEP_LABEL = ("counterfactual",)  # methods whose rows keep their label even if the teacher disagrees
OUTCOMES: tuple[Outcome, ...] = ("unchanged", "in_evaluation", "duplicates", "disagreed", "kept")


@dataclass(frozen=True)
class Candidate:
    """A new row before the checks.

    Attributes:
        method: that created it.
        origin: index of the original in the training split.
        text: the new text.
    """

    method: str
    origin: int
    text: str


def check_texts(created: Sequence[Candidate], dataset: Dataset) -> list[Outcome]:
    """The outcome of each candidate, decided by its text alone.

    Texts are compared regardless of case and white space, so that no near copy of a validation or test row is learned.
    """
    held_out = {normalize(text) for split in (dataset.validation, dataset.test) for text in split.texts}
    originals = [normalize(text) for text in dataset.train.texts]
    seen = set(originals)
    outcomes: list[Outcome] = []
    for candidate in created:
        text = normalize(candidate.text)
        if text in ("", originals[candidate.origin]):
            outcomes.append("unchanged")
        elif text in held_out:
            outcomes.append("in_evaluation")
        elif text in seen:
            outcomes.append("duplicates")
        else:
            outcomes.append("kept")
            seen.add(text)
    return outcomes


# ---------------------------------------------------------------------------------------------------------- the teacher


def labels_agree(
    created: Sequence[Candidate], dataset: Dataset, teacher: Path, config: AugmentConfig
) -> NDArray[np.bool_]:
    """(candidates,) whether the teacher gives a candidate the same label as its original.

    The teacher's own label of the original counts, not the true one: otherwise every row that the teacher gets wrong
    would lose all its copies.
    """
    origins = sorted({candidate.origin for candidate in created})
    texts = [*(candidate.text for candidate in created), *(dataset.train.texts[origin] for origin in origins)]
    predicted = teacher_labels(texts, dataset, teacher, config)
    of_origin = dict(zip(origins, predicted[len(created) :].tolist(), strict=True))
    same: NDArray[np.bool_] = predicted[: len(created)] == [of_origin[candidate.origin] for candidate in created]
    return same


def teacher_labels(texts: Sequence[str], dataset: Dataset, teacher: Path, config: AugmentConfig) -> NDArray[np.int64]:
    """The teacher's label of each text, int64 (texts,)."""
    device, _ = devices.choose_device(config.device)
    tokenizer = model_folder.load_tokenizer(teacher)
    model = model_folder.load_classifier(teacher, dataset.labels, device=device)
    ids = encode(tokenizer, texts, tokenizer.model_max_length)
    order = sorted(range(len(ids)), key=lambda index: -len(ids[index]))
    predicted = np.empty(len(ids), dtype=np.int64)
    size = config.batch_size
    for batch in track([order[first : first + size] for first in range(0, len(order), size)], "augment: teacher"):
        logits = sequences.predict_encoded(model, [ids[index] for index in batch], tokenizer.pad_token_id, size)
        predicted[batch] = logits.argmax(axis=1)
    return predicted


def check_labels(teacher: Path, dataset: Dataset) -> None:
    """Refuse a teacher whose labels in config.json differ from those of the rows.

    Raises:
        ModelError: they differ; the message has both lists.
    """
    known = sorted(read_config(str(teacher)).id2label.values())
    if known != sorted(dataset.labels):
        raise ModelError(
            f"{teacher}: a teacher must have the labels of the rows, {', '.join(sorted(dataset.labels))}; "
            f"it has {', '.join(known)}"
        )


def check_form(kind: str) -> None:
    """Refuse rows of a form that can't be augmented.

    Raises:
        RecipeError: they can't.
    """
    if not tasks.find_form(kind).can_be_augmented:
        raise RecipeError(
            f"augment: {kind} rows can't be augmented yet "
            f"({', '.join(tasks.name_forms(lambda form: form.can_be_augmented))} rows can); "
            "use --set augment.enabled=false"
        )


def check_labels_kept(
    created: Sequence[Candidate], so_far: Sequence[Outcome], dataset: Dataset, teacher: Path, config: AugmentConfig
) -> list[Outcome]:
    """The outcomes after the teacher has checked the candidates that were kept so far.

    Copies with swapped identity terms are not checked: a teacher whose answer depends on such a term would reject just
    the copies that unlearn it. They keep the label of their original. A distillation that weighs the teacher's soft
    labels more than the labels passes the bias on all the same, so fix such a teacher first.
    """
    indices = [
        index for index, outcome in enumerate(so_far) if outcome == "kept" and created[index].method not in KEEP_LABEL
    ]
    checked = list(so_far)
    if indices:
        agrees = labels_agree([created[index] for index in indices], dataset, teacher, config)
        for index, same in zip(indices, agrees.tolist(), strict=True):
            checked[index] = "kept" if same else "disagreed"
    return checked

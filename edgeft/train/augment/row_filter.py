"""Which of the new rows are kept: those that are new, stand in no evaluation split, and mean what the row meant."""

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
from edgeft.models import model_folder
from edgeft.progress import track
from edgeft.recipe import AugmentConfig
from edgeft.train.augment.word_edits import sameness
from edgeft.train.generate import config_of
from edgeft.train.loop.batches import encode
from edgeft.train.tasks import sequences

# What becomes of a new row, in the order in which it is looked at.
Outcome = Literal["unchanged", "in_evaluation", "duplicates", "disagreed", "kept"]
HOLDS = ("counterfactual",)  # methods whose rows keep their label whatever the teacher says
OUTCOMES: tuple[Outcome, ...] = ("unchanged", "in_evaluation", "duplicates", "disagreed", "kept")


@dataclass(frozen=True)
class Candidate:
    """A new row before it is looked at.

    Attributes:
        method: that made it.
        origin: place of the original in the training split.
        text: the new text.
    """

    method: str
    origin: int
    text: str


def outcomes(made: Sequence[Candidate], dataset: Dataset) -> list[Outcome]:
    """What becomes of each candidate as far as its text alone tells.

    A text is compared without its case and white space, so that nothing nearly equal to a row of validation or test
    is learned from.
    """
    held_out = {sameness(text) for split in (dataset.validation, dataset.test) for text in split.texts}
    originals = [sameness(text) for text in dataset.train.texts]
    seen = set(originals)
    found: list[Outcome] = []
    for candidate in made:
        text = sameness(candidate.text)
        if text in ("", originals[candidate.origin]):
            found.append("unchanged")
        elif text in held_out:
            found.append("in_evaluation")
        elif text in seen:
            found.append("duplicates")
        else:
            found.append("kept")
            seen.add(text)
    return found


# ---------------------------------------------------------------------------------------------------------- the teacher


def same_label(made: Sequence[Candidate], dataset: Dataset, teacher: Path, config: AugmentConfig) -> NDArray[np.bool_]:
    """(candidates,) whether the teacher gives a candidate the label that it gives its original.

    It is not asked whether that label is right: a row that it takes wrongly would lose all its copies, whatever they
    mean.
    """
    origins = sorted({candidate.origin for candidate in made})
    texts = [*(candidate.text for candidate in made), *(dataset.train.texts[origin] for origin in origins)]
    predicted = teacher_labels(texts, dataset, teacher, config)
    of_origin = dict(zip(origins, predicted[len(made) :].tolist(), strict=True))
    same: NDArray[np.bool_] = predicted[: len(made)] == [of_origin[candidate.origin] for candidate in made]
    return same


def teacher_labels(texts: Sequence[str], dataset: Dataset, teacher: Path, config: AugmentConfig) -> NDArray[np.int64]:
    """The teacher's label of each text, int64 (texts,)."""
    device, _ = model_folder.device(config.device)
    tokenizer = model_folder.load_tokenizer(teacher)
    model = model_folder.load_classifier(teacher, dataset.labels, device=device)
    ids = encode(tokenizer, texts, tokenizer.model_max_length)
    order = sorted(range(len(ids)), key=lambda place: -len(ids[place]))
    predicted = np.empty(len(ids), dtype=np.int64)
    size = config.batch_size
    for batch in track([order[first : first + size] for first in range(0, len(order), size)], "augment: teacher"):
        logits = sequences.predict(model, [ids[place] for place in batch], tokenizer.pad_token_id, size)
        predicted[batch] = logits.argmax(axis=1)
    return predicted


def check_labels(teacher: Path, dataset: Dataset) -> None:
    """Refuse a teacher whose config.json has other labels than the rows.

    Raises:
        ModelError: with both lists.
    """
    known = sorted(config_of(str(teacher)).id2label.values())
    if known != sorted(dataset.labels):
        raise ModelError(
            f"{teacher}: as a teacher it must know the labels of the rows, {', '.join(sorted(dataset.labels))}; "
            f"it knows {', '.join(known)}"
        )


def check_form(kind: str) -> None:
    """Whether rows of a form can be augmented.

    Raises:
        RecipeError: they can't.
    """
    if not tasks.find_form(kind).can_be_augmented:
        raise RecipeError(
            f"augment: {kind} rows can't be augmented yet "
            f"({', '.join(tasks.name_forms(lambda form: form.can_be_augmented))} rows can); "
            "use --set augment.enabled=false"
        )


def judged(
    made: Sequence[Candidate], so_far: Sequence[Outcome], dataset: Dataset, teacher: Path, config: AugmentConfig
) -> list[Outcome]:
    """The outcomes after the teacher looked at what was kept so far.

    Not at copies with swapped identity terms: a teacher whose answer hangs on such a term disagrees with just those
    copies that unlearn it. Their label holds by what they are for; but where distillation weighs the teacher's soft
    labels more than the labels, such a teacher teaches it to the student all the same: mend the teacher first.
    """
    places = [place for place, outcome in enumerate(so_far) if outcome == "kept" and made[place].method not in HOLDS]
    found = list(so_far)
    if places:
        agreed = same_label([made[place] for place in places], dataset, teacher, config)
        for place, same in zip(places, agreed.tolist(), strict=True):
            found[place] = "kept" if same else "disagreed"
    return found

"""Splitting by content: where a row goes depends on its text alone, never on its place in the file or its name."""

from __future__ import annotations

import hashlib
import unicodedata
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from edgeft.data import checks
from edgeft.data.table import Rows, some
from edgeft.errors import DataError
from edgeft.progress import say
from edgeft.recipe import DataConfig

# Changing a salt moves every row of every user.
SPLIT_SALT = b"edgeft split 1"
CHOICE_SALT = b"edgeft choice 1"

SplitName = Literal["train", "validation", "test"]


@dataclass(frozen=True)
class Parts:
    """The rows of each split.

    Attributes:
        labels: (L,) all label names, sorted.
        unlabelled: texts of training rows that `max_train_rows` cut off.
        leaks: how many rows were taken out because their text also stands in the test or validation rows; none but
            where the user named files for these.
    """

    labels: list[str]
    train: Rows
    validation: Rows
    test: Rows
    unlabelled: list[str]
    leaks: dict[str, int]


def content(text: str) -> str:
    """What makes two texts the same: NFC, without white space around it."""
    return unicodedata.normalize("NFC", text).strip()


def uniform(text: str, salt: bytes) -> float:
    """A number in [0, 1) that depends on the content of a text alone."""
    digest = hashlib.blake2b(content(text).encode(), digest_size=8, key=salt).digest()
    return (int.from_bytes(digest, "big") >> 11) / 2**53  # 53 bits: what a float holds exactly


def assign(text: str, validation_fraction: float, test_fraction: float) -> SplitName:
    """The split of a text.

    The test takes the low end and validation the high end, so that changing one fraction moves no row of the other.
    """
    place = uniform(text, SPLIT_SALT)
    if place < test_fraction:
        return "test"
    return "validation" if place >= 1 - validation_fraction else "train"


# ------------------------------------------------------------------------------------------------- choosing some rows


def quotas(counts: Sequence[int], total: int) -> list[int]:
    """How many rows of each label to take: proportional (largest remainder), at least one of each.

    Args:
        counts: (L,) rows there are of each label, each >= 1.
        total: how many to take, L <= total <= sum(counts).
    """
    exact = [count * total / sum(counts) for count in counts]
    taken = [max(1, int(share)) for share in exact]
    while sum(taken) < total:
        open_labels = [i for i in range(len(counts)) if taken[i] < counts[i]]
        taken[max(open_labels, key=lambda i: exact[i] - taken[i])] += 1
    while sum(taken) > total:
        taken[max((i for i in range(len(counts)) if taken[i] > 1), key=lambda i: taken[i] - exact[i])] -= 1
    return taken


def choose(rows: Rows, limit: int | None, option: str) -> tuple[Rows, Rows]:
    """At most `limit` rows, stratified by label, those with the smallest hash; and the rest.

    Args:
        rows: what to choose from.
        limit: how many; None for all.
        option: the recipe's name of the limit.

    Raises:
        DataError: fewer rows than labels asked for.
    """
    if limit is None or len(rows) <= limit:
        return rows, rows.pick([])
    of_label: dict[str, list[int]] = {}
    for index, label in enumerate(rows.labels):
        of_label.setdefault(label, []).append(index)
    if limit < len(of_label):
        raise DataError(f"{option} {limit} is less than the {len(of_label)} labels; every label needs a row")
    names = sorted(of_label)
    hashes = [uniform(text, CHOICE_SALT) for text in rows.texts]
    chosen: set[int] = set()
    for name, quota in zip(names, quotas([len(of_label[name]) for name in names], limit), strict=True):
        chosen.update(sorted(of_label[name], key=lambda index: (hashes[index], rows.texts[index]))[:quota])
    return rows.pick(sorted(chosen)), rows.pick([index for index in range(len(rows)) if index not in chosen])


# ------------------------------------------------------------------------------------------------------------ dividing


def divide(rows: Rows, own_validation: Rows | None, own_test: Rows | None, config: DataConfig) -> Parts:
    """Split the rows, honouring validation and test rows of the user's own.

    A text that also stands in the test leaves training and validation; one that stands in validation leaves training.

    Raises:
        DataError: an empty split, a label without training row, a label that training doesn't know.
    """
    checks.enough_of_each_label(rows)
    labels = checks.sort_labels(set(rows.labels))
    for own in (own_validation, own_test):
        if own is not None:
            checks.labels_known(own, labels)
    validation_fraction = config.validation_fraction if own_validation is None else 0.0
    split = _by_content(rows, validation_fraction, config.test_fraction if own_test is None else 0.0)
    test = split["test"] if own_test is None else own_test
    validation, between = _without(split["validation"] if own_validation is None else own_validation, test)
    train, in_test = _without(split["train"], test)
    train, in_validation = _without(train, validation)
    train, rest = choose(train, config.max_train_rows, "data.max_train_rows")
    parts = Parts(
        labels=labels,
        train=train,
        validation=choose(validation, config.max_eval_rows, "data.max_eval_rows")[0],
        test=choose(test, config.max_eval_rows, "data.max_eval_rows")[0],
        unlabelled=rest.texts,
        leaks={"train_in_test": in_test, "train_in_validation": in_validation, "validation_in_test": between},
    )
    _check(parts, rows)
    return parts


def _by_content(rows: Rows, validation_fraction: float, test_fraction: float) -> dict[SplitName, Rows]:
    indices: dict[SplitName, list[int]] = {"train": [], "validation": [], "test": []}
    for index, text in enumerate(rows.texts):
        indices[assign(text, validation_fraction, test_fraction)].append(index)
    return {name: rows.pick(places) for name, places in indices.items()}


def _without(rows: Rows, held_out: Rows) -> tuple[Rows, int]:
    """The rows whose text is not among the held-out ones, and how many left."""
    contents = {content(text) for text in held_out.texts}
    kept = [index for index, text in enumerate(rows.texts) if content(text) not in contents]
    return rows.pick(kept), len(rows) - len(kept)


# ------------------------------------------------------------------------------------------------------------ checking


def _check(parts: Parts, rows: Rows) -> None:
    """No empty split, every label in training; a label that validation or test lacks is worth a warning."""
    for name, part, option in (
        ("training", parts.train, "smaller fractions"),
        ("validation", parts.validation, "a larger data.validation_fraction, or a data.validation_file"),
        ("test", parts.test, "a larger data.test_fraction, or a data.test_file"),
    ):
        if not len(part):
            leaks = sum(parts.leaks.values())
            taken = f" and taking out {leaks} that stand in your own validation or test file" if leaks else ""
            checks.fail(
                rows.name,
                [f"the {name} split is empty after splitting {len(rows):,} rows{taken}; add rows, or set {option}"],
            )
    _check_training_labels(parts, rows)
    for name, part in (("validation", parts.validation), ("test", parts.test)):
        absent = missing_labels(parts.labels, part.labels)
        if absent:
            say(f"data: warning: the {name} split has no row with label {some([repr(label) for label in absent])}")


def _check_training_labels(parts: Parts, rows: Rows) -> None:
    absent = missing_labels(parts.labels, parts.train.labels)
    if absent:
        counts = Counter(rows.labels)
        found = some([f"{label!r} ({counts[label]} rows)" for label in absent])
        checks.fail(rows.name, [f"no training row left for label {found}; add rows of it, or set smaller fractions"])


def missing_labels(labels: Sequence[str], present: Iterable[str]) -> list[str]:
    """The labels that are not present, in order."""
    there = set(present)
    return [label for label in labels if label not in there]

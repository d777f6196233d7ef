"""Balancing of labels in training: weights in the loss, or repeated or fewer rows."""

from __future__ import annotations

from collections import Counter

import numpy as np

from edgeft import tasks
from edgeft.data.formats.rows import Rows
from edgeft.data.split.splits import by_choice
from edgeft.errors import RecipeError
from edgeft.recipe import name_option


def check(balance: str, kind: str) -> None:
    """Check that rows of a form can be balanced this way.

    Raises:
        RecipeError: they can't.
    """
    takes = tasks.name_forms(lambda form: balance in form.balanced_by)
    if balance != "none" and kind not in takes:
        option = name_option("data.balance")
        raise RecipeError(f"{option}: {balance} is for {', '.join(takes)} rows, and these are {kind} rows")


def class_weights(rows: Rows, labels: list[str]) -> list[float]:
    """(L,) weight of each label, n / (L * n_label) as scikit-learn's `balanced`; multi-label negatives / positives,
    with at least one negative, so that a label that every row has is still learned."""
    counts = Counter(label for of_row in rows.kind.labels_of(rows.columns) or () for label in of_row)
    if rows.kind.form.has_several_labels:
        return [max(len(rows) - counts[label], 1) / counts[label] for label in labels]
    total = sum(counts.values())
    return [total / (len(labels) * counts[label]) for label in labels]


def resample(rows: Rows, balance: str) -> Rows:
    """Single-label rows with equally many of each label: rare ones repeated, or frequent ones dropped, by content."""
    if balance not in ("oversample", "undersample"):
        return rows
    of_label: dict[str, list[int]] = {}
    for index in by_choice(rows).tolist():
        of_label.setdefault(rows.columns["label"][index], []).append(index)
    sizes = [len(indices) for indices in of_label.values()]
    target_size = max(sizes) if balance == "oversample" else min(sizes)
    chosen = [np.resize(np.array(indices, dtype=np.int64), target_size) for indices in of_label.values()]
    return rows.pick(np.sort(np.concatenate(chosen), kind="stable"))

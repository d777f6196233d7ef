"""The rows of an update: those of an earlier run, followed by new rows that it doesn't have.

The result is an ordinary dataset folder. Its earlier.json says how many rows of each split come from the earlier run;
those come first, in their old order.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from edgeft.data import dataset
from edgeft.data.clean import checks, near, overlap
from edgeft.data.clean.clean import cleaning_of
from edgeft.data.clean.content import hashes
from edgeft.data.clean.overlap import NONE
from edgeft.data.dataset import Dataset, Split
from edgeft.data.formats import class_of
from edgeft.data.formats.rows import Rows, join_rows
from edgeft.data.prepare import assemble, measure, prepare, write_removed
from edgeft.data.split import balance, splits
from edgeft.data.split.splits import LEAK, Parts
from edgeft.errors import DataError
from edgeft.files import write_json
from edgeft.progress import say
from edgeft.recipe import DataConfig
from edgeft.stage_folder import Inputs, Metrics

EARLIER = "earlier.json"
KNOWN = "stands in the earlier run"
OTHER = "stands in the earlier run with another answer"
NEAR = "near duplicate of a row of the earlier run"

BySplit = dict[str, Rows]


def fill(config: DataConfig, inputs: Inputs, out_dir: Path) -> Metrics:
    """Fill a dataset folder with earlier and new rows.

    Args:
        config: the new rows, how to clean and how to split; the cleaning must be that of the earlier run.
        inputs: `earlier` (a dataset folder), and the local files of the config.
        out_dir: the folder to fill.

    Returns:
        As `prepare.fill`, with counts of the new rows only; and `update`: the old and new rows of each split.

    Raises:
        DataError: rows of another form, a label that the earlier rows don't have, or nothing new.
    """
    old = dataset.load(inputs["earlier"])
    check_cleaning(old, config)
    earlier = {name: _rows(old, name, config) for name in dataset.SPLITS}
    parts, metrics = prepare(config, lambda rows, *_: divide(rows, earlier, old.labels, config), check)
    merged = merge(old, parts, config)
    dataset.save(merged, out_dir)
    counts = {name: len(old.split(name)) for name in dataset.SPLITS}
    write_json(out_dir / EARLIER, counts)
    write_removed(parts.removed, out_dir)
    rows = {name: {"old": count, "new": len(merged.split(name)) - count} for name, count in counts.items()}
    return measure(merged) | metrics | {"update": rows}


def earlier_rows(folder: Path) -> dict[str, int] | None:
    """How many rows at the beginning of each split come from an earlier run; None if the folder is no update.

    Raises:
        DataError: earlier.json is not valid.
    """
    path = folder / EARLIER
    if not path.exists():
        return None
    try:
        return msgspec.json.decode(path.read_bytes(), type=dict[str, int])
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: not the counts of an update: {error}") from None


# ------------------------------------------------------------------------------------------------------------- new rows


def check_cleaning(old: Dataset, config: DataConfig) -> None:
    """Check that old and new rows are cleaned the same way: a model has one cleaning.

    Raises:
        DataError: they aren't.
    """
    if cleaning_of(config) != old.cleaning:
        raise DataError(
            "data.clean, data.anonymise: the new rows would be cleaned in another way than those of the earlier run; "
            "leave these options as they were there"
        )


def divide(rows: Rows, earlier: BySplit, labels: list[str], config: DataConfig) -> Parts:
    """Split the new rows, without those that the earlier run already has, exactly or nearly.

    Args:
        rows: cleaned.
        earlier: the rows of each split of the earlier run.
        labels: (L,) its labels.
        config: how to split.

    Raises:
        DataError: rows of another form, an unknown label, or nothing new.
    """
    earlier_rows = join_rows(list(earlier.values()))
    if rows.kind.name != earlier_rows.kind.name:
        checks.fail(rows.name, [f"{rows.kind.name} rows, but the earlier run has {earlier_rows.kind.name} rows"])
    _check_labels(rows, labels)
    fresh, taken = _unknown(rows, earlier_rows)
    if not len(fresh):
        checks.fail(rows.name, [f"all {len(rows):,} rows stand in the earlier run already; there is nothing new"])
    parts = splits.split_by_sources(fresh, labels, config, config.validation_fraction, config.test_fraction)
    parts.removed = taken
    _take_out_leaks(parts, earlier)
    if "near_duplicates" in (config.clean or ()):
        _take_out_near(parts, earlier, config.near_duplicate_similarity)
    return parts


def _check_labels(rows: Rows, labels: list[str]) -> None:
    try:
        checks.labels_known(rows, labels)
    except DataError as error:
        raise DataError(
            f"{error}; an update learns no new label: take these rows out, or train on all rows with edgeft pipeline"
        ) from None


def _unknown(rows: Rows, earlier_rows: Rows) -> tuple[Rows, overlap.Removed]:
    """The rows whose input isn't in the earlier run, and the removed ones."""
    twin = overlap.twins(hashes(rows.inputs), hashes(earlier_rows.inputs))
    repeated = np.flatnonzero(twin != NONE)
    answers, before = overlap.target_hashes(rows), overlap.target_hashes(earlier_rows)
    removed = overlap.Removed()
    differs = np.zeros(len(repeated), dtype=bool)
    if answers is not None and before is not None:
        differs = answers[repeated] != before[twin[repeated]]
    for reason, chosen in ((KNOWN, repeated[~differs]), (OTHER, repeated[differs])):
        removed.add(reason, rows, chosen, earlier_rows, twin[chosen])
    return rows.without(repeated), removed


def _take_out_leaks(parts: Parts, earlier: BySplit) -> None:
    """Remove new rows that leak into another split of the earlier run."""
    for split in dataset.SPLITS:
        for other in dataset.SPLITS:
            if split != other:
                rows: Rows = getattr(parts, split)
                indices, twins = overlap.leaks(rows, earlier[other])
                parts.removed.add(f"{LEAK}{split}_in_{other}", rows, indices, earlier[other], twins)
                setattr(parts, split, rows.without(indices))


def _take_out_near(parts: Parts, earlier: BySplit, similarity: float) -> None:
    """Remove new rows that are near duplicates of earlier rows, where the form forbids such pairs."""
    earlier_rows = join_rows(list(earlier.values()))
    split_of = np.repeat(list(earlier), [len(rows) for rows in earlier.values()])
    for split in dataset.SPLITS:
        rows: Rows = getattr(parts, split)
        texts = rows.kind.texts_to_compare(earlier_rows.columns) + rows.kind.texts_to_compare(rows.columns)
        twin = near.earlier_similar(texts, similarity)[len(earlier_rows) :]
        hit = np.flatnonzero((twin != NONE) & (twin < len(earlier_rows)))
        indices = hit if rows.kind.near_within else hit[split_of[twin[hit]] != split]
        parts.removed.add(NEAR, rows, indices, earlier_rows, twin[indices])
        setattr(parts, split, rows.without(indices))


def check(parts: Parts, rows: int, name: str) -> None:
    """Check that there are training rows; warn if there are no new test rows to judge the update by.

    Raises:
        DataError: no training row.
    """
    if not len(parts.train):
        checks.fail(name, [f"no new training row is left of {rows:,} rows; add rows"])
    if not len(parts.test):
        say("data: warning: none of the new rows is a test row, so the update is judged on the old ones alone")


# -------------------------------------------------------------------------------------------------------- old and new


def _rows(old: Dataset, name: str, config: DataConfig) -> Rows:
    """A split of a dataset as rows."""
    split = old.split(name)
    names = split.files or [old.source] * len(split)
    files = list(dict.fromkeys(names)) or [old.source]
    index_of = {file: index for index, file in enumerate(files)}
    return Rows(
        kind=class_of(old.form)(config),
        columns=split.columns,
        rows=split.rows,
        files=files,
        file=np.array([index_of[file] for file in names], dtype=np.int32),
    )


def merge(old: Dataset, parts: Parts, config: DataConfig) -> Dataset:
    """The merged dataset; label weights are computed from all training rows."""
    weighted = config.balance == "class_weights"
    new = assemble(parts, dataclasses.replace(config, balance="none") if weighted else config)
    splits = {
        name: _one_after_the_other(_with_file_names(old, name), _with_file_names(new, name)) for name in dataset.SPLITS
    }
    merged = dataclasses.replace(
        old,
        train=splits["train"],
        validation=splits["validation"],
        test=splits["test"],
        unlabelled=_unlabelled(old, new, splits),
        source=f"{old.source} and {new.source}",
    )
    weights = balance.class_weights(_rows(merged, "train", config), merged.labels) if weighted else []
    return dataclasses.replace(merged, class_weights=weights)


def _with_file_names(data: Dataset, name: str) -> Split:
    """A split with a file name for each row."""
    split = data.split(name)
    return split if split.files else dataclasses.replace(split, files=[data.source] * len(split))


def _one_after_the_other(first: Split, second: Split) -> Split:
    """The rows of both splits, one after the other, with all their columns."""
    names = [field.name for field in dataclasses.fields(Split)]
    sliced = list(dict.fromkeys([*first.slices, *second.slices]))
    sides = [dataclasses.replace(side, slices={name: _of(side, name) for name in sliced}) for side in (first, second)]
    return Split(**{name: _chain(getattr(sides[0], name), getattr(sides[1], name)) for name in names})


def _of(split: Split, name: str) -> list[str | None]:
    """A slice column; a side without the column gives None for each of its rows."""
    return list(split.slices.get(name) or [None] * len(split))


def _chain(first: Any, second: Any) -> Any:
    if isinstance(first, dict):
        return {key: _chain(first[key], second[key]) for key in first}
    return np.concatenate([first, second]) if isinstance(first, np.ndarray) else [*first, *second]


def _unlabelled(old: Dataset, new: Dataset, splits: dict[str, Split]) -> list[str]:
    """Unlabelled texts of both, without duplicates and without those that now have a label."""
    texts = [*old.unlabelled, *new.unlabelled]
    if not texts:
        return []
    seen = {value for split in splits.values() for value in hashes(split.texts).tolist()}
    unlabelled: list[str] = []
    for text, value in zip(texts, hashes(texts).tolist(), strict=True):
        if value not in seen:
            seen.add(value)
            unlabelled.append(text)
    return unlabelled

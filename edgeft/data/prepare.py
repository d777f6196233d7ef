"""The data stage: read, check, clean and split the rows, write the dataset folder and measure it."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from edgeft.cleaning import cleaner
from edgeft.data import dataset
from edgeft.data.clean import checks, clean
from edgeft.data.clean.clean import Counts
from edgeft.data.clean.overlap import Removed
from edgeft.data.dataset import Dataset, Split, split_of
from edgeft.data.formats import stored_kind, task_of
from edgeft.data.formats.rows import Rows, join_skipped
from edgeft.data.read import sources, unlabelled
from edgeft.data.read.table import describe_locations, where
from edgeft.data.split import balance, splits
from edgeft.data.split.splits import LEAK, LEAKS, Parts
from edgeft.errors import DataError, EncodingError, RecipeError, require
from edgeft.keys import CLEANING, READING
from edgeft.progress import Bar, say
from edgeft.recipe import DataConfig, Recipe, name_option
from edgeft.stage import stage
from edgeft.stage_folder import Inputs, Metrics

REMOVED = "removed.parquet"
SHOWN = 10

Divide = Callable[[Rows, Rows | None, Rows | None, DataConfig], Parts]
Check = Callable[[Parts, int, str], None]


def fill(config: DataConfig, inputs: Inputs, out_dir: Path) -> Metrics:
    """Fill a dataset folder.

    Args:
        config: the sources, how to clean and how to split.
        inputs: `sources.local_files(config)`, which are used for the stage's key only; for an update also
            `earlier`, the dataset folder of the run to update.
        out_dir: the folder to fill.

    Returns:
        `rows` of each split, `labels` with their rows in each, `text_characters`, and the counts of problems and
        removals: `duplicates`, `conflicts`, `near_duplicates`, `leaks`, `cleaning`, `removed`, `skipped`, `split`.
    """
    if "earlier" in inputs:
        from edgeft.data import merge

        return merge.fill(config, inputs, out_dir)
    parts, metrics = prepare(config)
    prepared = assemble(parts, config)
    dataset.save(prepared, out_dir)
    write_removed(parts.removed, out_dir)
    return measure(prepared) | metrics


def prepare(config: DataConfig, divide: Divide = splits.divide, check: Check = splits.check) -> tuple[Parts, Metrics]:
    """Read, clean and split the sources of a config.

    Args:
        config: the sources, how to clean and how to split.
        divide: splits the rows, given the user's own validation and test rows.
        check: raises if the splits are unusable; gets the splits, the number of rows and the source's name.

    Raises:
        DataError: one line, with row numbers.
    """
    read = read_all(config)
    name, skipped = read["file"].name, join_skipped(read.values())
    balance.check(config.balance, read["file"].kind.name)
    unlabelled.check(config, read["file"].kind)
    counts, removed = Counts(), Removed()
    cleaned = _clean_fields(read, config, counts, removed)
    rows = len(cleaned["file"])
    repeats = clean.count_repeats(cleaned["file"])
    usable = clean.drop_conflicts(cleaned["file"], config, removed)
    checks.check_some_left(name, len(usable), rows, clean.conflicts_reason())
    parts = divide(usable, cleaned.get("validation_file"), cleaned.get("test_file"), config)
    leaks = _leaks(parts)
    near = drop_rows(parts, config)
    parts.removed = _join_removed(removed, parts.removed)
    splits.limit(parts, config)
    check(parts, rows, name)
    if line := checks.numbers_as_classes(parts.train):
        say(f"data: {line}")
    metrics = {
        **repeats,
        "near_duplicates": near,
        "leaks": leaks,
        "cleaning": {"changed": dict(counts.changed), "personal": dict(counts.personal)},
        "removed": dict(Counter(parts.removed.reason)),
        "skipped": {problem: len(skipped_rows) for problem, skipped_rows in skipped.items()},
        "split": {"begins": parts.begins},
    }
    _print_removed(skipped, parts.removed)
    return parts, metrics


def _clean_fields(read: dict[str, Rows], config: DataConfig, counts: Counts, removed: Removed) -> dict[str, Rows]:
    """Clean the rows of each field, releasing the uncleaned ones, so that a million rows are in memory once.

    Raises:
        DataError: a field has no rows left.
    """
    cleaning, cleaned = clean.cleaning_of(config), dict[str, Rows]()
    for field in list(read):
        rows = read.pop(field)
        checks.check_some_left(
            rows.name, len(rows), len(rows) + sum(map(len, rows.skipped.values())), "none can be used"
        )
        cleaned[field] = clean.clean_texts(rows, cleaning, counts, removed)
        why = f"cleaning left none of them a text ({name_option('data.clean')})"
        checks.check_some_left(rows.name, len(cleaned[field]), len(rows), why)
    return cleaned


def drop_rows(parts: Parts, config: DataConfig) -> dict[str, int]:
    """Remove the duplicates that the recipe asks to remove; near duplicates are always counted."""
    clean.drop_duplicates(parts, config)
    with Bar("near duplicates", sum(map(len, parts.splits().values()))) as bar:
        return clean.near_duplicates(parts, config, bar)


def read_all(config: DataConfig) -> dict[str, Rows]:
    """The checked rows of each field that a config names."""
    sources.local_files(config)  # raises for every missing file before the first is read
    with Bar("read", None) as bar:
        named = [field for field in sources.specs(config) if field in sources.ROW_FIELDS]
        return {field: sources.read_rows(config, field, bar) for field in named}


def read_usable(config: DataConfig) -> dict[str, Rows]:
    """As `read_all`, but skip and count unusable rows; a file in another encoding is still refused.

    Raises:
        EncodingError: the whole file decodes in another encoding, so its rows aren't bad.
    """
    if not config.skip_bad_rows and not sources.are_utf8(config):
        try:
            return read_all(config)
        except EncodingError:
            raise
        except DataError:
            pass
    return read_all(dataclasses.replace(config, skip_bad_rows=True))


def assemble(parts: Parts, config: DataConfig) -> Dataset:
    """The dataset of split rows."""
    kind = parts.train.kind
    weights = balance.class_weights(parts.train, parts.labels) if config.balance == "class_weights" else []
    train = balance.resample(parts.train, config.balance)
    rest = parts.rest.columns["text"] if kind.form.has_lone_text else []
    known_texts = [text for rows in (*parts.splits().values(), parts.rest) for text in rows.columns.get("text", ())]
    return Dataset(
        task=task_of(config),
        labels=parts.labels,
        train=_split(train, parts.labels),
        validation=_split(parts.validation, parts.labels),
        test=_split(parts.test, parts.labels),
        unlabelled=[*rest, *unlabelled.unknown(unlabelled.read(config), known_texts)],
        kind=kind.name,
        source=sources.source_name(config),
        columns=kind.sources(),
        cleaning=clean.cleaning_of(config),
        class_weights=weights,
    )


def _split(rows: Rows, labels: list[str]) -> Split:
    names = short_names(rows.files)
    files = [names[rows.files[i]] for i in rows.file.tolist()] if len(rows.files) > 1 else []
    return split_of(rows.columns, rows.rows, labels, files, rows.slices)


def short_names(files: Sequence[str]) -> dict[str, str]:
    """Map each file to the shortest unique end of its path; the full path is never stored."""
    parts = {file: Path(file).parts or (file,) for file in files}
    most = max(map(len, parts.values()), default=1)
    for count in range(1, most + 1):
        names = {file: "/".join(of_file[-count:]) for file, of_file in parts.items()}
        if len(set(names.values())) == len(names):
            break
    return names


# ----------------------------------------------------------------------------------------------------- what was found


def _leaks(parts: Parts) -> Metrics:
    """Count the rows that were in two splits, and name the first of them with their twins."""
    leaks: Metrics = {leak: parts.removed.count(LEAK + leak) for leak in LEAKS}
    leaks["total"] = sum(leaks.values())
    removed = parts.removed
    names = short_names(removed.files())
    leaks["rows"] = [
        f"{names[file]} row {row} is {names[twin[0]]} row {twin[1]}"
        for reason, (file, row), twin in zip(removed.reason, removed.row, removed.because, strict=True)
        if reason.startswith(LEAK) and twin
    ][:SHOWN]
    return leaks


def _join_removed(first: Removed, second: Removed) -> Removed:
    return Removed(first.reason + second.reason, first.row + second.row, first.because + second.because)


def _print_removed(skipped: dict[str, list[tuple[str, int]]], removed: Removed) -> None:
    """Print one line for each reason for which rows were skipped or removed."""
    reasons = {
        reason: [location for name, location in zip(removed.reason, removed.row, strict=True) if name == reason]
        for reason in dict.fromkeys(removed.reason)
    }
    for what, rows_of in (("left out", skipped), ("taken out", reasons)):
        for reason, locations in rows_of.items():
            rows = f"{len(locations):,} row{'s' if len(locations) > 1 else ''}"
            say(f"data: {rows} {what}: {reason} ({_where(locations)})")


def _where(locations: list[tuple[str, int]]) -> str:
    """Rows in words, with their files if there are several."""
    names = short_names(list(dict.fromkeys(file for file, _ in locations)))
    if len(names) == 1:
        return where(sorted(row for _, row in locations))
    return describe_locations((names[file], row) for file, row in sorted(locations))


def write_removed(removed: Removed, folder: Path) -> None:
    """Write removed.parquet: each removed row, the reason, and the row that it repeats; no file if none was removed."""
    if not removed.row:
        return
    arrow, parquet = require("pyarrow", dataset.PURPOSE), require("pyarrow.parquet", dataset.PURPOSE)
    names = short_names(removed.files())
    others = [(names[location[0]], location[1]) if location else (None, None) for location in removed.because]
    columns: dict[str, tuple[list[Any], Any]] = {
        "file": ([names[file] for file, _ in removed.row], arrow.string()),
        "row": ([row for _, row in removed.row], arrow.int64()),
        "reason": (removed.reason, arrow.string()),
        "other_file": ([file for file, _ in others], arrow.string()),
        "other_row": ([row for _, row in others], arrow.int64()),
    }
    table = arrow.table({name: arrow.array(values, kind) for name, (values, kind) in columns.items()})
    parquet.write_table(table, folder / REMOVED, compression="zstd")


# ----------------------------------------------------------------------------------------------------------- measuring


def measure(data: Dataset) -> Metrics:
    """Measure a dataset: rows and labels of each split, and text lengths."""
    splits = {name: data.split(name) for name in dataset.SPLITS}
    kind = stored_kind(data.kind)
    texts = [text for split in splits.values() for text in kind.inputs(split.columns)] + data.unlabelled
    return {
        "task": data.task,
        "kind": data.kind,
        "rows": {name: len(split) for name, split in splits.items()} | {"unlabelled": len(data.unlabelled)},
        "labels": _label_counts(splits, data),
        "text_characters": _lengths(texts),
    }


def _label_counts(splits: dict[str, Split], data: Dataset) -> dict[str, dict[str, int]]:
    """Label -> its number of rows (for tags: of tokens) in each split."""
    kind = stored_kind(data.kind)
    counts = {
        name: Counter(label for of_row in kind.labels_of(split.columns) or () for label in of_row)
        for name, split in splits.items()
    }
    return {label: {name: count_of[label] for name, count_of in counts.items()} for label in data.labels}


def _lengths(texts: list[str]) -> dict[str, float]:
    lengths = [len(text) for text in texts]
    return {"median": float(np.median(lengths)), "p95": float(np.percentile(lengths, 95)), "max": float(max(lengths))}


def named_files(recipe: Recipe) -> dict[str, Path]:
    """The local files of a recipe's rows, and, for an update, the dataset of the earlier run."""
    earlier = {"earlier": Path(recipe.update.run) / "data"} if recipe.update.run else {}
    return {**sources.local_files(recipe.data), **earlier}


def check(recipe: Recipe) -> None:
    """Check that the data files exist and the cleaning steps can run.

    Raises:
        RecipeError: no data file.
        DataError: a missing file.
        MissingExtraError: a package that a step needs.
    """
    if recipe.data.file is None:
        raise RecipeError("data.file: no data; give --data FILE, or a recipe that names it")
    sources.local_files(recipe.data)
    cleaner(clean.cleaning_of(recipe.data))


run = stage(
    "data",
    libraries=(*READING, *CLEANING),
    gives=("rows",),
    named_files=named_files,
    check=check,
    is_shared=True,
)(fill)

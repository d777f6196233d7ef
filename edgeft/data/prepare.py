"""The data stage: read, check, clean, split, write the dataset folder, and say what the rows are like."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np

from edgeft.data import balance, clean, dataset, sources, splits
from edgeft.data.clean import Counts
from edgeft.data.dataset import Dataset, Split, split_of
from edgeft.data.kinds import NAMED, task_of
from edgeft.data.overlap import Removed
from edgeft.data.rows import Rows
from edgeft.data.splits import LEAK, LEAKS, Parts
from edgeft.data.table import where
from edgeft.errors import require
from edgeft.progress import Bar, say
from edgeft.recipe import DataConfig
from edgeft.stage import Inputs, Metrics, stage

REMOVED = "removed.parquet"
SHOWN = 10


@stage("data")
def run(config: DataConfig, inputs: Inputs, out_dir: Path) -> Metrics:
    """Fill a dataset folder.

    Args:
        config: the sources, how to clean and how to split.
        inputs: `sources.local_files(config)`; only the stage's key comes from them.
        out_dir: the folder to fill.

    Returns:
        `rows` of each split, `labels` with their rows in each, `text_characters`, and what was found and done:
        `duplicates`, `conflicts`, `near_duplicates`, `leaks`, `cleaning`, `removed`, `skipped`, `split`.
    """
    parts, found = prepare(config)
    made = assemble(parts, config)
    dataset.save(made, out_dir)
    _write_removed(parts.removed, out_dir)
    return measure(made) | found


def prepare(config: DataConfig) -> tuple[Parts, Metrics]:
    """Read, clean and split the sources of a config.

    Raises:
        DataError: one line, with row numbers.
    """
    read = read_all(config)
    counts, removed = Counts(), Removed()
    cleaning = clean.cleaning_of(config)
    cleaned = {field: clean.clean_texts(rows, cleaning, counts, removed) for field, rows in read.items()}
    rows, repeats = clean.drop_repeats(cleaned["file"], config, removed)
    parts = splits.divide(rows, cleaned.get("validation_file"), cleaned.get("test_file"), config)
    leaks = _leaks(parts)
    with Bar("near duplicates", sum(map(len, (parts.train, parts.validation, parts.test)))) as bar:
        near = clean.near_duplicates(parts, config, bar)
    if "label_errors" in (config.clean or ()) and parts.train.kind.name == "single-label":
        clean.label_errors(parts, config)
    parts.removed = _together(removed, parts.removed)
    splits.limit(parts, config)
    splits.check(parts, len(read["file"]), read["file"].name)
    balance.check(config.balance, parts.train.kind.name)
    found = {
        **repeats,
        "near_duplicates": near,
        "leaks": leaks,
        "cleaning": {"changed": dict(counts.changed), "personal": dict(counts.personal)},
        "removed": dict(Counter(parts.removed.reason)),
        "skipped": _skipped(read),
        "split": {"begins": parts.begins},
    }
    _tell(found, parts)
    return parts, found


def read_all(config: DataConfig) -> dict[str, Rows]:
    """The checked rows of each field that a config names."""
    sources.local_files(config)  # every missing file is known before the first is read
    with Bar("read", None) as bar:
        return {field: sources.read_rows(config, field, bar) for field in sources.specs(config)}


def assemble(parts: Parts, config: DataConfig) -> Dataset:
    """The dataset of split rows."""
    kind = parts.train.kind
    weights = balance.class_weights(parts.train, parts.labels) if config.balance == "class_weights" else []
    train = balance.resample(parts.train, config.balance)
    unlabelled = parts.rest.columns["text"] if "text" in kind.types and kind.name != "text" else []
    return Dataset(
        task=task_of(config),
        labels=parts.labels,
        train=_split(train, parts.labels),
        validation=_split(parts.validation, parts.labels),
        test=_split(parts.test, parts.labels),
        unlabelled=unlabelled,
        kind=kind.name,
        source=sources.source_name(config),
        columns=kind.sources(),
        cleaning=clean.cleaning_of(config),
        class_weights=weights,
    )


def _split(rows: Rows, labels: list[str]) -> Split:
    files = [rows.files[i] for i in rows.file.tolist()] if len(rows.files) > 1 else []
    return split_of(rows.columns, rows.rows, labels, files)


# ----------------------------------------------------------------------------------------------------- what was found


def _leaks(parts: Parts) -> Metrics:
    """How many rows stood in two splits, and the first of them with their twins."""
    found: Metrics = {leak: parts.removed.count(LEAK + leak) for leak in LEAKS}
    found["total"] = sum(found.values())
    pairs = zip(parts.removed.reason, parts.removed.row, parts.removed.because, strict=True)
    found["rows"] = [
        {"row": row, "also": twin, "leak": reason.removeprefix(LEAK)}
        for reason, row, twin in pairs
        if reason.startswith(LEAK)
    ][:SHOWN]
    return found


def _together(first: Removed, second: Removed) -> Removed:
    return Removed(first.reason + second.reason, first.row + second.row, first.because + second.because)


def _skipped(read: dict[str, Rows]) -> dict[str, int]:
    """Problem to the number of rows that were left out because of it."""
    found = Counter[str]()
    for rows in read.values():
        found.update({problem: len(places) for problem, places in rows.skipped.items()})
    return dict(found)


def _tell(found: Metrics, parts: Parts) -> None:
    """One line for what a user should know of: rows that were left out or taken out."""
    for problem, count in found["skipped"].items():
        say(f"data: {count:,} rows left out: {problem}")
    for reason, count in found["removed"].items():
        rows = [row for name, row in zip(parts.removed.reason, parts.removed.row, strict=True) if name == reason]
        say(f"data: {count:,} rows taken out: {reason} ({where(sorted(number for _, number in rows))})")


def _write_removed(removed: Removed, folder: Path) -> None:
    """removed.parquet: every row that was taken out, why, and because of which other row; only where there are any."""
    if not removed.row:
        return
    arrow, parquet = require("pyarrow", dataset.PURPOSE), require("pyarrow.parquet", dataset.PURPOSE)
    nowhere = [at or (None, None) for at in removed.because]
    columns: dict[str, tuple[list[Any], Any]] = {
        "file": ([file for file, _ in removed.row], arrow.string()),
        "row": ([row for _, row in removed.row], arrow.int64()),
        "reason": (removed.reason, arrow.string()),
        "other_file": ([file for file, _ in nowhere], arrow.string()),
        "other_row": ([row for _, row in nowhere], arrow.int64()),
    }
    table = arrow.table({name: arrow.array(values, kind) for name, (values, kind) in columns.items()})
    parquet.write_table(table, folder / REMOVED, compression="zstd")


# ----------------------------------------------------------------------------------------------------------- measuring


def measure(data: Dataset) -> Metrics:
    """What a dataset is like: rows and labels of each split, and lengths."""
    held = {name: data.split(name) for name in dataset.SPLITS}
    kind = NAMED[data.kind](DataConfig())
    texts = [text for split in held.values() for text in kind.inputs(split.columns)] + data.unlabelled
    return {
        "task": data.task,
        "kind": data.kind,
        "rows": {name: len(split) for name, split in held.items()} | {"unlabelled": len(data.unlabelled)},
        "labels": _label_counts(held, data),
        "text_characters": _lengths(texts),
    }


def _label_counts(held: dict[str, Split], data: Dataset) -> dict[str, dict[str, int]]:
    """Label to its number of rows (tags: of tokens) in each split."""
    kind = NAMED[data.kind](DataConfig())
    counts = {
        name: Counter(label for of_row in kind.labels_of(split.columns) or () for label in of_row)
        for name, split in held.items()
    }
    return {label: {name: found[label] for name, found in counts.items()} for label in data.labels}


def _lengths(texts: list[str]) -> dict[str, float]:
    lengths = [len(text) for text in texts]
    return {"median": float(np.median(lengths)), "p95": float(np.percentile(lengths, 95)), "max": float(max(lengths))}

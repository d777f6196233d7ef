"""The data stage: read, check, split, write the dataset folder, and say what the rows are like."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np

from edgeft.data import dataset, sources, splits
from edgeft.data.dataset import Dataset, Split
from edgeft.data.table import Rows
from edgeft.recipe import DataConfig
from edgeft.stage import Inputs, Metrics, stage

TASK = "text-classification"


@stage("data")
def run(config: DataConfig, inputs: Inputs, out_dir: Path) -> Metrics:
    """Fill a dataset folder.

    Args:
        config: the sources and how to split.
        inputs: `sources.local_files(config)`; only the stage's key comes from them.
        out_dir: the folder to fill.

    Returns:
        `rows` of each split, `labels` with their rows in each, `text_characters`, `duplicates` and `conflicts` of
        training, `leaks` that were taken out.
    """
    parts = read(config)
    made = assemble(parts, config)
    dataset.save(made, out_dir)
    return measure(made) | {"leaks": parts.leaks | {"total": sum(parts.leaks.values())}}


def read(config: DataConfig) -> splits.Parts:
    """Read and split the sources of a config.

    Raises:
        DataError: one line, with row numbers.
    """
    sources.local_files(config)  # every missing file is known before the first is read
    found = {name: sources.read_labelled(spec, config) for name, spec in sources.specs(config).items()}
    return splits.divide(found["file"], found.get("validation_file"), found.get("test_file"), config)


def assemble(parts: splits.Parts, config: DataConfig) -> Dataset:
    """The dataset of split rows, labels as ids."""
    ids = {label: place for place, label in enumerate(parts.labels)}
    return Dataset(
        task=TASK,
        labels=parts.labels,
        train=_split(parts.train, ids),
        validation=_split(parts.validation, ids),
        test=_split(parts.test, ids),
        unlabelled=parts.unlabelled,
        source=sources.source_name(str(config.file or "")),
        columns={"text": config.text_column, "label": config.label_column},
    )


def _split(rows: Rows, ids: dict[str, int]) -> Split:
    labels = np.array([ids[label] for label in rows.labels], dtype=np.int64)
    return Split(rows.texts, labels, np.array(rows.rows, dtype=np.int64))


# ----------------------------------------------------------------------------------------------------------- measuring


def measure(data: Dataset) -> Metrics:
    """What a dataset is like: rows and labels of each split, lengths, repeated and contradictory training rows."""
    labelled = {name: data.split(name) for name in dataset.SPLITS}
    texts = [text for split in labelled.values() for text in split.texts] + data.unlabelled
    return {
        "rows": {name: len(split) for name, split in labelled.items()} | {"unlabelled": len(data.unlabelled)},
        "labels": _label_counts(labelled, data.labels),
        "text_characters": _lengths(texts),
        "duplicates": duplicates(data.train),
        "conflicts": conflicts(data.train),
    }


def _label_counts(labelled: dict[str, Split], labels: list[str]) -> dict[str, dict[str, int]]:
    """Label to its number of rows in each split."""
    counts = {name: np.bincount(split.labels, minlength=len(labels)) for name, split in labelled.items()}
    return {label: {name: int(found[i]) for name, found in counts.items()} for i, label in enumerate(labels)}


def _lengths(texts: list[str]) -> dict[str, float]:
    lengths = [len(text) for text in texts]
    return {"median": float(np.median(lengths)), "p95": float(np.percentile(lengths, 95)), "max": float(max(lengths))}


def duplicates(split: Split) -> int:
    """How many rows repeat the text and label of an earlier one."""
    seen = Counter(zip(map(splits.content, split.texts), split.labels.tolist(), strict=True))
    return sum(count - 1 for count in seen.values())


def conflicts(split: Split) -> int:
    """How many texts stand there with more than one label."""
    pairs = set(zip(map(splits.content, split.texts), split.labels.tolist(), strict=True))
    return sum(count > 1 for count in Counter(text for text, _ in pairs).values())

"""Hugging Face datasets: a saved folder, or `org/name` with optional `:CONFIG` and `#SPLIT`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from edgeft.data.clean import checks
from edgeft.data.read.table import Reading, Table
from edgeft.errors import DataError, require
from edgeft.progress import say
from edgeft.recipe import spell_option


def without_split(spec: str) -> tuple[str, str | None]:
    """Split `folder#test` into folder and split name; the latter is empty without `#`."""
    base, mark, split = spec.rpartition("#")
    return (base, split) if mark and base and split else (spec, None)


def read(spec: str, folder: Path | None, reading: Reading) -> Table:
    """Read the requested columns of a dataset.

    Args:
        spec: as the user gave it.
        folder: its local folder; None for a hub id.
        reading: the columns to read, and how.
    """
    base, split = (spec, None) if folder == Path(spec) else without_split(spec)
    dataset = _one_split(_load(base, folder), spec, split)
    columns = reading.choose(dataset.column_names)
    checks.check_columns(spec, columns, dataset.column_names, reading.hint(dataset.column_names))
    values = {column: list(_values(dataset, column)) for column in columns}
    if reading.bar:
        reading.bar.advance(len(dataset))
    return Table(spec, values, list(range(1, len(dataset) + 1)))


def _load(base: str, folder: Path | None) -> Any:
    """The dataset, or mapping of splits, behind a folder or a hub id."""
    datasets = require("datasets", "to read a Hugging Face dataset")
    try:
        if folder and any((folder / name).exists() for name in ("state.json", "dataset_dict.json")):
            return datasets.load_from_disk(str(folder))
        if folder:
            return datasets.load_dataset(str(folder))
        name, _, config = base.partition(":")
        return datasets.load_dataset(name, config or None)
    except Exception as error:  # noqa: BLE001 - a loader runs several libraries, each with its own errors
        detail = " ".join(str(error).split()) or type(error).__name__
        what = "the folder can't be read as a dataset" if folder else "no such file, and the hub gives no such dataset"
        raise DataError(f"{base}: {what}: {detail}") from None


def _one_split(loaded: Any, spec: str, split: str | None) -> Any:
    """The requested split, else "train", else the only one."""
    if not isinstance(loaded, dict):
        if split:
            raise DataError(f"{spec}: the dataset has no splits; leave #{split} out")
        return loaded
    names = [str(name) for name in loaded]
    chosen = split or ("train" if "train" in names or len(names) != 1 else names[0])
    if chosen not in names:
        named = f"name one as {without_split(spec)[0]}#SPLIT"
        raise DataError(f"{spec}: no split {chosen!r}; the splits are {', '.join(names)} ({named})")
    others = [name for name in names if name != chosen]
    if others and not split:
        use = spell_option("data.test_file", f"{spec}#{others[-1]}")
        say(f"data: {spec}: read {chosen}, not {', '.join(others)}; to use one: {use}")
    return loaded[chosen]


def _values(dataset: Any, column: str) -> Iterator[Any]:
    """A column's values; ids of a ClassLabel become names, in lists too, and its -1 becomes None."""
    feature = dataset.features[column]
    names = getattr(feature, "names", None)
    inner = getattr(getattr(feature, "feature", None), "names", None)
    for value in dataset[column]:
        if names:
            yield _name(names, value)
        elif inner and value is not None:
            yield [_name(inner, item) for item in value]
        else:
            yield value


def _name(names: list[str], value: int | None) -> str | None:
    return names[value] if value is not None and value >= 0 else None

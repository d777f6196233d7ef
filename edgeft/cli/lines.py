"""Command lines to run next, quoted as a user would type them."""

from __future__ import annotations

import dataclasses
import importlib.util
import itertools
import os
import shlex
from pathlib import Path
from typing import Any

from edgeft.cli.tokens import DEMO, DEMO_MODEL, DEMO_PACKAGE
from edgeft.recipe import DataConfig, flag_words, setting

Things = list[dict[str, Any]]
FOLDER = "data"


def data_line(config: DataConfig, things: Things) -> str:
    """The `edgeft data` that writes a data folder with everything done that there is to do.

    Args:
        config: what the user set.
        things: what to do, of a profile.
    """
    words = ["edgeft", "data", *_flags(_set_by_user(config) | _useful_options(config, things))]
    return shlex.join([*words, "--out", _new_folder(config)])


def advise_line(config: DataConfig) -> str:
    """The `edgeft advise` on the same rows."""
    return shlex.join(["edgeft", "advise", *_flags(_set_by_user(config))])


def pipeline_line(config: DataConfig, advice: Things, things: Things) -> str:
    """The `edgeft pipeline` that follows advice.

    Args:
        config: what the user set.
        advice: options of fine-tuning.
        things: what to do about the rows.
    """
    options = _set_by_user(config) | _useful_options(config, things)
    files, task = _as_list(options.pop("file", "FILE")), options.pop("task", None)
    settings = ({"task": task} if task else {}) | {f"data.{name}": value for name, value in options.items()}
    settings |= {item["option"]: item["value"] for item in advice}
    model = settings.pop("finetune.model")
    if model == DEMO_MODEL and importlib.util.find_spec(DEMO_PACKAGE):
        model = DEMO
    words = ["edgeft", "pipeline", *(word for file in files for word in flag_words("--data", file))]
    words += flag_words("--model", model)
    return shlex.join([*words, *(word for pair in settings.items() for word in ("--set", setting(*pair)))])


def _set_by_user(config: DataConfig) -> dict[str, Any]:
    """Options that differ from their defaults."""
    default = DataConfig()
    pairs = [(field.name, getattr(config, field.name)) for field in dataclasses.fields(config)]
    return {name: value for name, value in pairs if value != getattr(default, name)}


def _useful_options(config: DataConfig, things: Things) -> dict[str, Any]:
    """The options of the data stage that there is reason to set, with those steps that are set already."""
    from edgeft.data.profile import recommendations

    chosen = {
        name.removeprefix("data."): value for name, value in recommendations.settings(things).items() if "data." in name
    }
    steps = [*(config.clean or ()), *chosen.pop("clean", ())]
    return chosen | ({"clean": steps} if steps else {})


def _as_list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def _flags(options: dict[str, Any]) -> list[str]:
    """Options as flags; files stand first and without one, unless a name looks like a flag."""
    files = _as_list(options.get("file", []))
    plain = not any(file.startswith("-") for file in files)
    words = list(files) if plain else [word for file in files for word in flag_words("--file", file)]
    for name, value in options.items():
        if name != "file":
            words += flag_words(f"--{name.replace('_', '-')}", value)
    return words


def _new_folder(config: DataConfig) -> str:
    """A name that no file or folder has, and that no input begins with, as a hub id may."""
    from edgeft.data.read import sources

    taken = {Path(spec).parts[:1] for field in sources.FILE_FIELDS for spec in _as_list(getattr(config, field) or [])}
    names = itertools.chain([FOLDER], (f"{FOLDER}-{number}" for number in itertools.count(2)))
    return next(name for name in names if not os.path.lexists(name) and (name,) not in taken)

"""Command lines to run next, as a user would type them."""

from __future__ import annotations

import dataclasses
import importlib.util
import shlex
from typing import Any

from edgeft.cli.tokens import DEMO, DEMO_MODEL, DEMO_PACKAGE
from edgeft.recipe import DataConfig

Things = list[dict[str, Any]]


def data_line(config: DataConfig, things: Things) -> str:
    """The `edgeft data` that writes a data folder with everything done that there is to do.

    Args:
        config: what the user set.
        things: what to do, of a profile.
    """
    return " ".join(["edgeft data", *_flags(_set_by_user(config) | _wanted(config, things)), "--out data"])


def advise_line(config: DataConfig) -> str:
    """The `edgeft advise` on the same rows."""
    return " ".join(["edgeft advise", *_flags(_set_by_user(config))])


def pipeline_line(config: DataConfig, advice: Things, things: Things) -> str:
    """The `edgeft pipeline` that follows advice.

    Args:
        config: what the user set.
        advice: options of fine-tuning.
        things: what to do about the rows.
    """
    options = _set_by_user(config) | _wanted(config, things)
    file, task = options.pop("file", "FILE"), options.pop("task", None)
    settings = {f"data.{name}": value for name, value in options.items()}
    settings |= {item["option"]: item["value"] for item in advice}
    model = settings.pop("finetune.model")
    if model == DEMO_MODEL and importlib.util.find_spec(DEMO_PACKAGE):
        model = DEMO
    if isinstance(file, list):
        settings = {"data.file": file} | settings
    words = ["edgeft pipeline", *([] if isinstance(file, list) else [f"--data {shlex.quote(file)}"])]
    words += [f"--model {shlex.quote(model)}", *([f"--set task={task}"] if task else [])]
    return " ".join([*words, *(f"--set {_setting(name, value)}" for name, value in settings.items())])


def _set_by_user(config: DataConfig) -> dict[str, Any]:
    """The options that differ from their defaults."""
    default = DataConfig()
    pairs = [(field.name, getattr(config, field.name)) for field in dataclasses.fields(config)]
    return {name: value for name, value in pairs if value != getattr(default, name)}


def _wanted(config: DataConfig, things: Things) -> dict[str, Any]:
    """The options of the data stage that there is reason to set, with those steps that are set already."""
    from edgeft.data import todo

    chosen = {name.removeprefix("data."): value for name, value in todo.settings(things).items() if "data." in name}
    steps = [*(config.clean or ()), *chosen.pop("clean", ())]
    return chosen | ({"clean": steps} if steps else {})


def _flags(options: dict[str, Any]) -> list[str]:
    """Options as flags; files without one."""
    words = []
    for name, value in sorted(options.items(), key=lambda item: item[0] != "file"):
        flag = "" if name == "file" else f"--{name.replace('_', '-')}"
        for one in value if isinstance(value, list) else [value]:
            words.append(flag if one is True else f"{flag} {shlex.quote(str(one))}".strip())
    return words


def _setting(name: str, value: Any) -> str:
    """One option as --set takes it: the value in YAML's flow style."""
    shown = f"[{', '.join(map(str, value))}]" if isinstance(value, list) else str(value)
    return shlex.quote(f"{name}={'true' if value is True else shown}")

"""Recipe files: read, override by settings, resolve, write."""

from __future__ import annotations

import dataclasses
import difflib
from collections.abc import Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any

import msgspec
import yaml

from edgeft.errors import RecipeError
from edgeft.recipe import bounded_yaml
from edgeft.recipe.base import StageConfig
from edgeft.recipe.check import from_tree
from edgeft.recipe.stages import Recipe

LONGEST_SHOWN = 80  # most characters of a setting in a message


def builtin_names() -> list[str]:
    """The names of the recipes that ship with edgeft."""
    folder = resources.files("edgeft") / "recipes"
    return sorted(item.name.removesuffix(".yaml") for item in folder.iterdir() if item.name.endswith(".yaml"))


def _read_text(source: str) -> str:
    path = Path(source)
    if path.is_file():
        return bounded_yaml.text_of(path)
    if source in builtin_names():
        return (resources.files("edgeft") / "recipes" / f"{source}.yaml").read_text(encoding="utf-8")
    names = builtin_names()
    close = difflib.get_close_matches(source, names, n=1)
    hint = f"; did you mean {close[0]}?" if close else f"; the built-in ones are {', '.join(names)}"
    raise RecipeError(f"recipe {source!r} is neither a file nor a built-in recipe{hint}")


def read_tree(source: str) -> dict[str, Any]:
    """The plain tree of a recipe file or of a built-in recipe.

    Raises:
        RecipeError: no such recipe, or not YAML.
    """
    try:
        tree = bounded_yaml.read(_read_text(source)) or {}
    except UnicodeDecodeError as error:
        raise RecipeError(f"recipe {source!r} is not YAML: {error}") from None
    except bounded_yaml.BadYaml as error:
        raise RecipeError(f"recipe {source!r} is not YAML that can be read: {error}") from None
    if not isinstance(tree, dict):
        raise RecipeError(f"recipe {source!r}: expected a mapping of options, got {type(tree).__name__}")
    return tree


def with_settings(tree: Mapping[str, Any], settings: Mapping[str, Any]) -> dict[str, Any]:
    """A copy of the tree, overridden by dotted settings, as in `{"distill.epochs": 2}`.

    Raises:
        RecipeError: a setting under something that is not a mapping.
    """
    copy: dict[str, Any] = msgspec.to_builtins(dict(tree))
    for path, value in settings.items():
        *stages, last = path.split(".")
        node = copy
        for stage in stages:
            if node.get(stage) is None:
                node[stage] = {}
            node = node[stage]
            if not isinstance(node, dict):
                raise RecipeError(f"{path}: {stage} is {node!r}, not a mapping of options")
        node[last] = value
    return copy


def parse_settings(items: Sequence[str]) -> dict[str, Any]:
    """`["distill.epochs=2"]` as a mapping; values are read as YAML.

    Raises:
        RecipeError: an item without `=`.
    """
    settings: dict[str, Any] = {}
    for item in items:
        path, equals, value = item.partition("=")
        if not equals:
            raise RecipeError(f"--set {item}: expected stage.field=value, as in --set distill.epochs=2")
        try:
            settings[path.strip()] = bounded_yaml.read(value)
        except bounded_yaml.BadYaml as error:
            raise RecipeError(f"--set {_short(item)}: the value is not YAML ({error})") from None
    return settings


def _short(item: str) -> str:
    line = " ".join(item.split())
    return line if len(line) <= LONGEST_SHOWN else f"{line[:LONGEST_SHOWN]}..."


def load(source: str | None, settings: Mapping[str, Any] | None = None) -> Recipe:
    """Read a recipe and override it by settings.

    Args:
        source: a file, the name of a built-in recipe, or None for the defaults.
        settings: dotted path -> value.

    Raises:
        RecipeError: every problem, one line each.
    """
    return from_tree(with_settings(read_tree(source) if source else {}, settings or {}))


def resolve(recipe: Recipe) -> Recipe:
    """The recipe with every seed, the task of its rows and the augmenter's identity terms written out."""
    stages: dict[str, Any] = {}
    for field in dataclasses.fields(recipe):
        stage = getattr(recipe, field.name)
        if isinstance(stage, StageConfig) and stage.seed is None:
            stages[field.name] = dataclasses.replace(stage, seed=recipe.seed)
    stages["data"] = dataclasses.replace(stages.get("data", recipe.data), task=recipe.task)
    if "counterfactual" in (recipe.augment.methods or ()) and recipe.augment.identity_terms is None:
        augment = stages.get("augment", recipe.augment)
        stages["augment"] = dataclasses.replace(augment, identity_terms=recipe.finetune.identity_terms)
    return dataclasses.replace(recipe, **stages)


def to_yaml(recipe: Recipe, reasons: Mapping[str, str] | None = None) -> str:
    """The recipe as YAML that `load` reads back to an equal recipe.

    Args:
        recipe: any.
        reasons: dotted path -> reason of the option's value, written beside it as a comment.
    """
    text = yaml.safe_dump(msgspec.to_builtins(recipe), sort_keys=False, allow_unicode=True)
    lines, stage = text.split("\n"), ""
    for index, line in enumerate(lines):
        name = line.split(":")[0]
        stage = stage if name.startswith((" ", "-")) else name
        path = f"{stage}.{name.strip()}" if name.startswith("  ") else name
        if path in (reasons or {}):
            lines[index] = f"{line}  # {' '.join((reasons or {})[path].split())}"
    return "\n".join(lines)

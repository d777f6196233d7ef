"""Checking a tree of plain values: every problem at once, each with its path and the nearest valid key."""

from __future__ import annotations

import dataclasses
import datetime
import difflib
import math
import re
import types
from collections.abc import Callable, Iterator, Mapping
from typing import Annotated, Any, Literal, TypeVar, Union, cast, get_args, get_origin, get_type_hints

import msgspec

from edgeft import tasks
from edgeft.errors import RecipeError
from edgeft.recipe import budget
from edgeft.recipe.base import StageConfig
from edgeft.recipe.options import is_config, leaves
from edgeft.recipe.rows import DataConfig
from edgeft.recipe.spelling import name_option
from edgeft.recipe.stages import Recipe

C = TypeVar("C")

# Choices of earlier versions, and why they are gone.
GONE = {
    "data.clean": {
        "label_errors": "is gone: of the rows that it took out of training, only 36 to 40% had a wrong label; take it "
        "off the list, and look at the rows that `edgeft data` ranks"
    }
}


def _walk(cls: type, tree: Any, path: str, problems: list[str]) -> dict[str, Any]:
    """Check one mapping against one config class; problems are collected, good values are returned converted."""
    if not isinstance(tree, Mapping):
        problems.append(f"{path or 'recipe'}: expected a mapping of options, got {tree!r}")
        return {}
    hints = get_type_hints(cls, include_extras=True)
    good: dict[str, Any] = {}
    for key, value in tree.items():
        where = f"{path}.{key}" if path else str(key)
        if key not in hints:
            problems.append(f"{where}: unknown key{_nearest(str(key), hints, path)}")
        elif is_config(hints[key]):
            good[key] = _build(hints[key], _walk(hints[key], {} if value is None else value, where, problems))
        else:
            converted = _convert(value, hints[key], where, problems)
            if converted is not _BAD:
                good[key] = converted
    return good


_BAD = object()


def _convert(value: Any, hint: Any, where: str, problems: list[str]) -> Any:
    if gone := [name for name in GONE.get(where, ()) if isinstance(value, list) and name in value]:
        problems.append(f"{where}: {gone[0]} {GONE[where][gone[0]]}")
        return _BAD
    if isinstance(value, datetime.date):  # YAML reads 2024-01-20 as a date
        value = value.isoformat()
    try:
        converted = msgspec.convert(value, hint, strict=not isinstance(value, str))
        if not isinstance(converted, float) or math.isfinite(converted):
            return converted
        problems.append(f"{where}: {value} is not a finite number")
        return _BAD
    except msgspec.ValidationError as error:
        problems.append(f"{where}: {_list_problem(value, hint) or _plain(str(error))}, not {value!r}{_choices(hint)}")
        return _BAD


def _list_problem(value: Any, hint: Any) -> str | None:
    """The problem with a value for a list: it isn't a list, or has items that aren't among the choices."""
    listed = next((part for part in _parts(hint) if get_origin(part) is list), None)
    if listed is None:
        return None
    if not isinstance(value, list):
        return "expected a list, as in [one, two]" if str not in _parts(hint) else None
    choices = get_args(get_args(listed)[0])
    unknown = [item for item in value if choices and item not in choices]
    if not unknown:
        return None
    close = difflib.get_close_matches(str(unknown[0]), map(str, choices), n=1)
    return f"{unknown[0]!r} is none of {', '.join(map(str, choices))}{f' (did you mean {close[0]}?)' if close else ''}"


def _parts(hint: Any) -> tuple[Any, ...]:
    """The members of a union, without annotations."""
    bare = get_args(hint)[0] if get_origin(hint) is Annotated else hint
    return get_args(bare) if get_origin(bare) in (Union, types.UnionType) else (bare,)


def _plain(message: str) -> str:
    what = message.split(" - at ")[0].split(", got ")[0]
    return "expected one of the choices" if what.startswith("Invalid enum") else what[:1].lower() + what[1:]


def _choices(hint: Any) -> str:
    bare = get_args(hint)[0] if get_origin(hint) is Annotated else hint
    return f"; one of {', '.join(map(str, get_args(bare)))}" if get_origin(bare) is Literal else ""


def _nearest(key: str, hints: Mapping[str, Any], path: str) -> str:
    """`; did you mean ...`, with the nearest of this config's keys, else of the keys of all stages."""
    everywhere = {name.rsplit(".", 1)[-1]: name for name, _ in reversed(list(leaves(Recipe)))}
    close = difflib.get_close_matches(key, hints, n=1, cutoff=0.5)
    if close and key not in everywhere:
        return f"; did you mean {path + '.' if path else ''}{close[0]}?"
    close = difflib.get_close_matches(key, everywhere, n=1, cutoff=0.7)
    return f"; did you mean {everywhere[close[0]]}?" if close else f"; the keys here are {', '.join(hints)}"


def _build(cls: type[C], good: Mapping[str, Any]) -> C:
    return cls(**good)


def _data_checks(data: DataConfig) -> Iterator[str]:
    """Rules on the rows' options that need more than one field: an option without effect is refused."""
    if data.validation_fraction + data.test_fraction >= 1:
        yield (
            f"data: validation_fraction {data.validation_fraction} + test_fraction {data.test_fraction} "
            "leave no training rows; their sum must stay under 1"
        )
    for split in ("validation", "test"):
        if getattr(data, f"{split}_from") is None:
            continue
        if data.time_column is None:
            yield f"data.{split}_from: there is no data.time_column that it could be about"
        elif getattr(data, f"{split}_file") is not None:
            yield f"data.{split}_from: data.{split}_file has the {split} rows already; set one of them"
    for option in ("anonymise_kinds", "anonymise_names"):
        if getattr(data, option) is not None and not data.anonymise:
            yield f"data.{option}: nothing is anonymised; set data.anonymise=true"
    yield from _task_checks(data)
    if data.slice_columns is not None and len(set(data.slice_columns)) < max(1, len(data.slice_columns)):
        problem = "one column stands there twice" if data.slice_columns else "the list is empty"
        yield f"data.slice_columns: {problem}; name each column once, or leave it unset"
    if data.delimiter is not None and len(data.delimiter) != 1:
        yield f"data.delimiter: {data.delimiter!r} is not one character"


def _task_checks(data: DataConfig) -> Iterator[str]:
    """Rules on the rows' options that depend on the task."""
    task = tasks.TASKS.get(data.task or tasks.DEFAULT)
    if task is None:  # reported elsewhere
        return
    steps, several_labels = data.clean or [], any(form.has_several_labels for form in task.forms)
    if "conflicts" in steps and task.generates:
        yield f"data.clean: conflicts: in {task.tag} one input may well have several answers"
    if data.multi_label and not several_labels:
        can = ", ".join(other.tag for other in tasks.TASKS.values() if any(f.has_several_labels for f in other.forms))
        yield f"data.multi_label: is for {can}, and the task is {task.tag}"


def _cross_checks(recipe: Recipe) -> Iterator[str]:
    """Rules that need more than one field."""
    yield from _data_checks(dataclasses.replace(recipe.data, task=recipe.data.task or recipe.task))
    if recipe.data.task not in (None, recipe.task):
        yield f"data.task: {recipe.data.task} is not the recipe's task, {recipe.task}; set task"
    if recipe.distill.layers is not None and not recipe.distill.layers:
        yield "distill.layers: the list is empty; name at least one layer, or leave it unset"
    if not recipe.name or "/" in recipe.name or recipe.name in (".", ".."):
        yield f"name: {recipe.name!r} can't name a folder"
    for check, value in ((tasks.get, recipe.task), (budget.parse, recipe.budget)):
        try:
            if value is not None:
                cast(Callable[[str], object], check)(value)
        except RecipeError as error:
            yield str(error)


def from_tree(tree: Mapping[str, Any]) -> Recipe:
    """Check a tree of plain values and convert it to a recipe.

    Raises:
        RecipeError: one line for each problem, all of them at once.
    """
    problems: list[str] = []
    recipe = Recipe(**_walk(Recipe, tree, "", problems))
    problems.extend(_cross_checks(recipe))
    if problems:
        raise RecipeError("\n".join(problems))
    return recipe


def check_stage(name: str, config: StageConfig) -> None:
    """Check a config that was made from flags.

    Raises:
        RecipeError: one line for each problem.
    """
    problems: list[str] = []
    _walk(type(config), msgspec.to_builtins(config), name, problems)
    if isinstance(config, DataConfig):
        problems.extend(_data_checks(config))
    if problems:
        raise RecipeError(re.sub(rf"\b{name}\.\w+", lambda path: name_option(path[0]), "\n".join(problems)))

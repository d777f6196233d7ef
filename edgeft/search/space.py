"""The space of a search: a YAML file of option paths, each with its choices or its range."""

from __future__ import annotations

import difflib
import types
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Union, get_args, get_origin

import msgspec

from edgeft import recipe
from edgeft.errors import RecipeError
from edgeft.recipe import Recipe, bounded_yaml

NEVER = {
    "seed": "that would choose the luckiest seed",
    "evaluations_per_epoch": "trials are compared look by look",
    "checkpoint_steps": "it doesn't change the model",
    "report_to": "it doesn't change the model",
    "device": "it doesn't change the model",
    "processes": "a trial is one process",
    "shard_frozen": "a trial is one process",
}


@dataclass(frozen=True)
class Scope:
    """What a search may be over.

    Attributes:
        rooms: the stages.
        never: option of theirs -> why it is not searched.
        example: of an option's path.
    """

    rooms: tuple[str, ...]
    never: Mapping[str, str]
    example: str

    @property
    def named(self) -> str:
        """The stages in words."""
        *first, last = self.rooms
        return f"{', '.join(first)} and {last}" if first else last


FINETUNE = Scope(("finetune",), NEVER, "finetune.lora_rank")
RANGE_KEYS = ("low", "high", "log", "step")
Plain = str | int | float | bool | None


@dataclass(frozen=True)
class Choices:
    """One of several values."""

    values: tuple[Plain, ...]

    def contains(self, value: Any) -> bool:
        """Whether a trial may have this value."""
        return any(value == own and isinstance(value, bool) == isinstance(own, bool) for own in self.values)


@dataclass(frozen=True)
class Range:
    """Numbers from `low` to `high`, both included.

    Attributes:
        low: the smallest.
        high: the largest.
        log: whether equal ratios are equally likely, not equal differences.
        step: between two values; None for floats of any value.
        whole: integers only.
    """

    low: float
    high: float
    log: bool
    step: float | None
    whole: bool

    def contains(self, value: Any) -> bool:
        """Whether a trial may have this value."""
        if not isinstance(value, int | float) or not self.low <= value <= self.high:
            return False
        steps = (value - self.low) / self.step if self.step else 0.0
        return abs(steps - round(steps)) < 1e-9


Space = Mapping[str, Choices | Range]


def read(file: Path, base: Recipe, scope: Scope = FINETUNE) -> dict[str, Choices | Range]:
    """Read a space and check it against the recipe's types and bounds.

    Args:
        file: YAML, see `parse`.
        base: the recipe whose other options stay.
        scope: what may be searched.

    Raises:
        RecipeError: every problem, one line each.
    """
    try:
        text = bounded_yaml.text_of(file)
    except UnicodeDecodeError as error:
        raise RecipeError(f"{file}: not YAML: {error}") from None
    except OSError as error:
        raise RecipeError(f"--space {file}: can't be read ({error.strerror}); give a YAML file of options") from None
    return parse(text, str(file), base, scope)


def parse(text: str, source: str, base: Recipe, scope: Scope = FINETUNE) -> dict[str, Choices | Range]:
    """`read` of a text.

    Args:
        text: YAML: option path -> list of choices, or a mapping of low, high, log, step.
        source: where it is from, for messages.
        base: the recipe whose other options stay.
        scope: what may be searched.

    Raises:
        RecipeError: every problem, one line each.
    """
    try:
        tree = bounded_yaml.read(text)
    except bounded_yaml.BadYaml as error:
        raise RecipeError(f"{source}: not YAML: {error}") from None
    if not isinstance(tree, Mapping) or not tree:
        raise RecipeError(f"{source}: expected option paths, as in {scope.example}: [4, 8, 16]")
    checker = _Checker(base, scope)
    space = {str(path): checker.option(str(path), given) for path, given in tree.items()}
    if checker.problems:
        raise RecipeError("\n".join(f"{source}: {problem}" for problem in dict.fromkeys(checker.problems)))
    return {path: found for path, found in space.items() if found is not None}


def plain(space: Space) -> dict[str, Any]:
    """The space as JSON has it."""
    found: dict[str, Any] = msgspec.json.decode(msgspec.json.encode(dict(space)))
    return found


class _Wrong(Exception):
    """A problem after which an option of the space needs no further look."""


class _Checker:
    """Collects the problems of a space.

    Args:
        base: the recipe in which single values are tried.
        scope: what may be searched.
    """

    def __init__(self, base: Recipe, scope: Scope) -> None:
        self.scope = scope
        self.tree = msgspec.to_builtins(base)
        self.types = {path: option.type for path, option in recipe.leaves(Recipe)}
        self.problems: list[str] = []

    def option(self, path: str, given: Any) -> Choices | Range | None:
        """One line of the file; None where it has a problem."""
        try:
            self._check_path(path)
            if isinstance(given, list):
                return self._choices(path, given)
            if isinstance(given, Mapping):
                return self._range(path, given)
            raise _Wrong(f"{path}: expected a list of choices, or low and high; one value, {given!r}, goes in --set")
        except _Wrong as wrong:
            self._say(str(wrong))
            return None

    def _say(self, problem: str) -> None:
        self.problems.append(problem)

    def _check_path(self, path: str) -> None:
        if path not in self.types:
            ours = [name for name in self.types if name.startswith(self.scope.rooms)]
            close = difflib.get_close_matches(path, ours, n=1)
            hint = f"did you mean {close[0]}?" if close else f"options are named as in {self.scope.example}"
            raise _Wrong(f"{path}: unknown option; {hint}")
        room, _, option = path.partition(".")
        if room not in self.scope.rooms:
            named = self.scope.named
            raise _Wrong(f"{path}: only options of {named} are searched as yet; set it once with --set {path}=VALUE")
        if reason := self.scope.never.get(option):
            raise _Wrong(f"{path}: is not searched: {reason}")

    def _value(self, path: str, value: Any) -> Any:
        """The value as the recipe converts it."""
        try:
            found: Any = recipe.from_tree(recipe.with_settings(self.tree, {path: value}))
        except RecipeError as error:
            self.problems.extend(str(error).splitlines())
            return None
        for part in path.split("."):
            found = getattr(found, part)
        return found

    def _choices(self, path: str, given: list[Any]) -> Choices | None:
        values = [self._value(path, value) for value in given]
        if any(isinstance(value, list | Mapping) for value in values):
            raise _Wrong(f"{path}: a choice is one value, not a list")
        if len(values) < 2:
            raise _Wrong(f"{path}: {len(values)} choices leave nothing to search; give two, or use --set")
        if len({(type(value), value) for value in values}) < len(values):
            self._say(f"{path}: a choice stands there twice")
        return Choices(tuple(values))

    def _range(self, path: str, given: Mapping[Any, Any]) -> Range | None:
        for key in given:
            if key not in RANGE_KEYS:
                close = difflib.get_close_matches(str(key), RANGE_KEYS, n=1)
                hint = f"did you mean {close[0]}?" if close else f"a range has {', '.join(RANGE_KEYS)}"
                self._say(f"{path}.{key}: unknown key; {hint}")
        number = _number(self.types[path])
        if number is None:
            raise _Wrong(f"{path}: is no number, so it has choices, as in [one, two], and no range")
        missing = [key for key in ("low", "high") if given.get(key) is None]
        if missing:
            raise _Wrong(f"{path}: a range needs low and high; {' and '.join(missing)} not given")
        low, high = (self._value(path, given[key]) for key in ("low", "high"))
        log, step = given.get("log", False), self._step(path, given.get("step"), number)
        if not isinstance(log, bool):
            raise _Wrong(f"{path}.log: expected true or false, not {log!r}")
        if low is None or high is None:
            return None
        found = Range(low, high, log, 1 if number is int and step is None else step, number is int)
        self.problems.extend(f"{path}: {problem}" for problem in _range_problems(found))
        return found

    @staticmethod
    def _step(path: str, step: Any, number: type) -> float | None:
        if step is None:
            return None
        try:
            found = float(step)
        except (TypeError, ValueError):
            found = 0.0
        if isinstance(step, bool) or not 0 < found < float("inf") or (number is int and not found.is_integer()):
            raise _Wrong(f"{path}.step: expected a positive {number.__name__}, not {step!r}")
        return int(found) if number is int else found


def _range_problems(found: Range) -> list[str]:
    problems = []
    if not found.low < found.high:
        problems.append(f"low {found.low:g} must be less than high {found.high:g}")
    elif found.step is not None and found.step > found.high - found.low:
        problems.append(f"step {found.step:g} is more than the {found.high - found.low:g} between low and high")
    if found.log and found.low <= 0:
        problems.append(f"log needs low above 0, not {found.low:g}")
    if found.log and found.step is not None and not (found.whole and found.step == 1):
        problems.append("log and step exclude each other; take one of them")
    return problems


def _number(hint: Any) -> type | None:
    """int or float where the option is a number, unset or not."""
    if get_origin(hint) is Annotated:
        return _number(get_args(hint)[0])
    if get_origin(hint) in (Union, types.UnionType):
        return next((found for found in map(_number, get_args(hint)) if found), None)
    return hint if hint in (int, float) else None

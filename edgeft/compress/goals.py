"""From what a recipe asks for to how much of a model stays: shares, a number of parameters, or milliseconds."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

from edgeft.compress.structure import MULTIPLE, Cut, by_ratios, prune
from edgeft.errors import RecipeError
from edgeft.latency_table import LatencyTable
from edgeft.progress import say
from edgeft.recipe import PruneConfig
from edgeft.shapes import Structure, structure_of
from edgeft.train import tasks

STEPS = 64  # shares that are looked at, evenly between nothing and everything


def check(config: PruneConfig, kind: str) -> None:
    """Whether the goals go together, and with the rows.

    Args:
        config: of the stage.
        kind: form of the rows.

    Raises:
        RecipeError: two numbers want to decide the same thing, or another vocabulary would move the targets.
    """
    if (config.vocabulary_size is not None or config.vocabulary_min_count) and tasks.class_of(kind).of_tokens:
        raise RecipeError(
            f"prune.vocabulary_size: {kind} rows are learnt token by token; the student keeps the teacher's vocabulary"
        )
    if config.max_parameters is not None and config.max_latency_ms is not None:
        raise RecipeError("prune: max_parameters and max_latency_ms both decide how much goes; give one of them")


def aimed(config: PruneConfig) -> bool:
    """Whether a number decides how much goes, not the shares."""
    return config.max_parameters is not None or config.max_latency_ms is not None


def cut_of(config: PruneConfig, model: Any, table: LatencyTable | None) -> Cut:
    """How much of the model stays.

    Args:
        config: shares of layers and width, and of heads and channels unless a number is the goal.
        model: before anything went.
        table: where milliseconds are the goal.

    Raises:
        RecipeError: the goal can't be reached with one head and eight channels a layer.
    """
    ratios = {"width": config.width_ratio, "layers": config.layer_ratio}
    if not aimed(config):
        return by_ratios(model, heads=config.head_ratio, channels=config.channel_ratio, **ratios)

    def cut(share: float) -> Cut:
        return by_ratios(model, heads=share, channels=share, **ratios)

    if config.max_parameters is not None:
        size = _parameters(model)
        return _gentlest(cut, lambda found: size(found) <= (config.max_parameters or 0), "prune.max_parameters")
    assert table is not None
    if table.width != len(structure_of(model).width):
        raise RecipeError(
            f"prune.latency_table: measured at width {table.width}, and the model has {len(structure_of(model).width)}"
        )
    found = _gentlest(
        cut, lambda one: _milliseconds(table, one) <= (config.max_latency_ms or 0), "prune.max_latency_ms"
    )
    say(f"prune: {_milliseconds(table, found):.2f} ms by the latency table, wanted {config.max_latency_ms:g} ms")
    return found


def _gentlest(cut: Callable[[float], Cut], fits: Callable[[Cut], bool], option: str) -> Cut:
    """The smallest share whose cut fits; what fits once fits with any larger share.

    Raises:
        RecipeError: none does.
    """
    low, high = 0, STEPS - 1
    if not fits(cut(high / STEPS)):
        raise RecipeError(f"{option}: can't be reached by heads and channels alone; remove layers, width or vocabulary")
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if fits(cut(middle / STEPS)) else (middle + 1, high)
    return cut(low / STEPS)


def _parameters(model: Any) -> Callable[[Cut], int]:
    """Counts the parameters that a cut leaves, on a copy."""

    def count(cut: Cut) -> int:
        smaller = copy.deepcopy(model)
        prune(smaller, cut, "random")
        return sum(parameter.numel() for parameter in smaller.parameters())

    return count


def _milliseconds(table: LatencyTable, cut: Cut) -> float:
    assert cut.heads is not None
    assert cut.channels is not None
    stay = cut.layers or len(cut.heads)
    return table.predict(cut.heads[:stay], cut.channels[:stay])


def part(cut: Cut, start: Structure, present: Structure, round_: int, rounds: int) -> Cut:
    """How much stays after one of the rounds: each takes an equal part of what goes.

    Args:
        cut: after the last round, of the model before the first.
        start: that model.
        present: what is left of it.
        round_: 1 to `rounds`.
        rounds: how many there are.
    """

    def left(before: int, after: int | None, multiple: int = 1) -> int:
        if after is None or round_ == rounds:
            return before if after is None else after
        return after + (before - after) * (rounds - round_) // rounds // multiple * multiple

    places = [next(at for at, layer in enumerate(start.layers) if layer.layer == own.layer) for own in present.layers]
    none: list[int | None] = [None] * len(start.layers)
    heads, channels = cut.heads or none, cut.channels or none
    return Cut(
        [left(len(start.layers[place].heads), heads[place]) for place in places],
        [left(len(start.layers[place].channels), channels[place], MULTIPLE) for place in places],
        left(len(start.width), cut.width, MULTIPLE),
        left(len(start.layers), cut.layers),
    )

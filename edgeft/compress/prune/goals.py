"""From what a recipe asks for to how much of a model stays: shares, a number of parameters, or milliseconds."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

from edgeft.compress.prune import latency_table
from edgeft.compress.prune.latency_table import LatencyTable
from edgeft.compress.prune.structure import MULTIPLE, Cut, cut_by_ratios, prune
from edgeft.errors import RecipeError
from edgeft.models.shapes import Structure, structure_of
from edgeft.progress import say
from edgeft.recipe import PruneConfig, Recipe
from edgeft.train import tasks

STEPS = 64  # shares that are looked at, evenly between nothing and everything


def check(config: PruneConfig, kind: str) -> None:
    """Whether the goals go together, and with the rows.

    Args:
        config: of the stage.
        kind: form of the rows.

    Raises:
        RecipeError: two options want to decide the same thing, another vocabulary would move the targets, or the table
            can't be read.
    """
    if (config.vocabulary_size is not None or config.vocabulary_min_count) and tasks.task_class(kind).of_tokens:
        raise RecipeError(
            f"prune.vocabulary_size: {kind} rows are learnt token by token; the student keeps the teacher's vocabulary"
        )
    if config.max_parameters is not None and config.max_latency_ms is not None:
        raise RecipeError("prune: max_parameters and max_latency_ms both decide how much goes; give one of them")
    if config.max_latency_ms is not None and config.width_ratio:
        raise RecipeError("prune: max_latency_ms goes by a table of one width; give width_ratio or max_latency_ms")
    if config.across_layers and (config.layer_ratio or config.max_latency_ms is not None):
        raise RecipeError(
            "prune.across_layers: whole layers and milliseconds are decided for layers that lose alike; leave out "
            "layer_ratio and max_latency_ms, or across_layers"
        )
    if config.across_layers and not (config.head_ratio or config.channel_ratio or has_goal(config)):
        raise RecipeError("prune.across_layers: decides nothing without head_ratio or channel_ratio")
    if config.latency_table is not None and config.max_latency_ms is None:
        raise RecipeError("prune.latency_table: decides nothing without prune.max_latency_ms")
    if config.latency_table is not None:
        latency_table.read(Path(config.latency_table))


def has_goal(config: PruneConfig) -> bool:
    """Whether a number decides how much goes, not the shares."""
    return config.max_parameters is not None or config.max_latency_ms is not None


def needs_table(recipe: Recipe) -> bool:
    """Whether pruning aims at a latency, and nobody measured what widths cost."""
    config = recipe.prune
    return config.enabled and config.max_latency_ms is not None and config.latency_table is None


def resolve_goal(config: PruneConfig, model: Any, table: LatencyTable | None, longer: float = 1.0) -> PruneConfig:
    """The config with the shares of heads and channels that reach its goal, nearly equal ones; as it is without one.

    Args:
        config: of the stage.
        model: before anything went, but with its vocabulary cut.
        table: where milliseconds are the goal.
        longer: times the tokens that a text had when the table was measured; as many times the milliseconds are taken.

    Raises:
        RecipeError: the goal can't be reached with one head and eight channels a layer.
    """
    if not has_goal(config):
        return config

    def shared(heads: float, channels: float) -> PruneConfig:
        goals: dict[str, Any] = {"max_parameters": None, "max_latency_ms": None, "latency_table": None}
        return dataclasses.replace(config, head_ratio=heads, channel_ratio=channels, **goals)

    if config.max_parameters is not None:
        size, most = _parameter_counter(model), config.max_parameters
        return shared(
            *_find_gentlest(lambda *one: size(cut_by_config(shared(*one), model)) <= most, "prune.max_parameters")
        )
    assert table is not None
    assert config.max_latency_ms is not None
    if table.width != (width := len(structure_of(model).width)):
        raise RecipeError(f"prune.latency_table: measured at width {table.width}, and the model has {width}")
    wanted = config.max_latency_ms

    def takes(heads: float, channels: float) -> float:
        return longer * _predict_ms(table, cut_by_config(shared(heads, channels), model))

    heads, channels = _find_gentlest(lambda *one: takes(*one) <= wanted, "prune.max_latency_ms")
    predicted = takes(heads, channels)
    say(
        f"prune: {heads:.0%} of heads and {channels:.0%} of channels go: {predicted:.2f} ms by the table, "
        f"wanted {wanted:g} ms"
    )
    return shared(heads, channels)


def cut_by_config(config: PruneConfig, model: Any) -> Cut:
    """How much of the model stays by the config's shares."""
    cut = cut_by_ratios(
        model,
        heads=config.head_ratio,
        channels=config.channel_ratio,
        width=config.width_ratio,
        layers=config.layer_ratio,
    )
    return dataclasses.replace(cut, across=config.across_layers)


def _find_gentlest(fits: Callable[[float, float], bool], option: str) -> tuple[float, float]:
    """The smallest shares of heads and of channels that fit: equal ones, then fewer channels for what is left.

    A head is a large step, and the last of them would overshoot. What fits once fits with any larger share.

    Raises:
        RecipeError: none does.
    """
    if not fits((STEPS - 1) / STEPS, (STEPS - 1) / STEPS):
        raise RecipeError(f"{option}: can't be reached by heads and channels alone; remove layers, width or vocabulary")
    share = _find_smallest(lambda one: fits(one, one))
    return share, _find_smallest(lambda one: fits(share, one))


def _find_smallest(fits: Callable[[float], bool]) -> float:
    low, high = 0, STEPS - 1
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if fits(middle / STEPS) else (middle + 1, high)
    return low / STEPS


def _parameter_counter(model: Any) -> Callable[[Cut], int]:
    """Counts the parameters that a cut leaves, on a copy."""

    def count(cut: Cut) -> int:
        smaller = copy.deepcopy(model)
        prune(smaller, cut, "random")
        return sum(parameter.numel() for parameter in smaller.parameters())

    return count


def _predict_ms(table: LatencyTable, cut: Cut) -> float:
    assert cut.heads is not None
    assert cut.channels is not None
    stay = cut.layers or len(cut.heads)
    return table.predict(cut.heads[:stay], cut.channels[:stay])


def cut_of_round(cut: Cut, start: Structure, present: Structure, round_: int, rounds: int) -> Cut:
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
        cut.across,
    )

"""Structured pruning of attention heads, feed-forward channels, hidden width and whole layers, in place.

A `Cut` says how much stays; which units those are, their importance decides, within each layer.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor
from transformers import PreTrainedModel

from edgeft.compress.prune import importance as policies
from edgeft.compress.prune import units as parts
from edgeft.compress.prune.importance import Batch, Loss
from edgeft.compress.prune.units import Units
from edgeft.compress.quantization_aware.int8 import BLOCK
from edgeft.models.shapes import (
    LayerStructure,
    Structure,
    blocks,
    encoder_layers,
    keep_layers,
    set_structure,
    structure_of,
)

Importance = Literal["taylor", "magnitude", "random"]

MULTIPLE = 8  # of channels and features: what matrix kernels like
ACROSS_MULTIPLE = BLOCK  # of channels where layers compete: what weights of 4 bits like


@dataclass(frozen=True)
class Cut:
    """How much of a model stays; None: all of it.

    Attributes:
        heads: key/value heads of each of its present layers, each with the query heads that share it.
        channels: of the feed-forward part of each of its present layers.
        width: features of the hidden states; heads keep theirs.
        layers: how many layers; what the lists say about the others doesn't matter.
        across: whether the lists only say how much stays in all, and importance decides in which layers.
    """

    heads: Sequence[int] | None = None
    channels: Sequence[int] | None = None
    width: int | None = None
    layers: int | None = None
    across: bool = False


def by_ratios(
    model: PreTrainedModel, *, heads: float = 0, channels: float = 0, width: float = 0, layers: float = 0
) -> Cut:
    """The cut that takes a share of everything that is there now, the same of each layer.

    Args:
        model: it may have been pruned before.
        heads: share of the key/value heads that goes; at least one stays.
        channels: share of the channels that goes; what stays is a multiple of eight.
        width: share of the hidden width that goes; what stays is a multiple of eight.
        layers: share of the layers that goes; at least one stays.

    Raises:
        ModelError: pruning doesn't know this architecture.
    """
    present = structure_of(model)
    return Cut(
        heads=[kept_units(len(layer.heads), heads) for layer in present.layers],
        channels=[kept_features(len(layer.channels), channels) for layer in present.layers],
        width=kept_features(len(present.width), width),
        layers=kept_units(len(present.layers), layers),
    )


def kept_units(count: int, ratio: float) -> int:
    """How many heads or layers stay: the nearest number to the ratio, at least one."""
    return max(1, math.floor(count * (1 - ratio) + 0.5))


def kept_features(count: int, ratio: float) -> int:
    """How many channels or features stay: the nearest multiple of eight, at least eight; all of them at ratio 0."""
    if ratio == 0:
        return count
    nearest = MULTIPLE * math.floor(count * (1 - ratio) / MULTIPLE + 0.5)
    return min(count, max(MULTIPLE, nearest))


def prune(
    model: PreTrainedModel,
    cut: Cut,
    importance: Importance,
    batches: Sequence[Batch] = (),
    loss: Loss = policies.own_loss,
    seed: int = 0,
) -> Structure:
    """Remove heads, channels, width and layers, in place; all are scored before anything goes.

    A layer whose weights have other names than the last one's always stays: ModernBERT's first, which fits no other
    place. The weights become new parameters, so that an optimizer is made after this.

    Args:
        model: of a kind that `shapes.prunable` knows; it may have been pruned before.
        cut: how much stays.
        importance: what decides.
        batches: of inputs, for Taylor; with what `loss` needs.
        loss: of a model on a batch, the mean over its rows, for Taylor.
        seed: of random importance.

    Returns:
        What the model now keeps, in indices of the model before any pruning.

    Raises:
        ModelError: another architecture.
        ValueError: Taylor importance without batches, or more wanted than there is.
    """
    before = structure_of(model)
    with as_it_was(model):
        units = _units(model, before.head_size)
        kept = _kept(model, units, _wanted(cut, before), cut.across, importance, batches, loss, seed)
        for unit, stay in zip(units, kept, strict=True):
            parts.remove(unit, stay)
        model.tie_weights()
    keep_layers(model, kept[-1])
    after = _compose(before, kept)
    if after != before:
        set_structure(model, after)
    return after


def best(scores: Tensor, count: int) -> list[int]:
    """The indices of the highest scores, rising; of equals, the first."""
    order = torch.argsort(scores, descending=True, stable=True)
    return sorted(order[:count].tolist())


def _units(model: PreTrainedModel, head_size: int) -> list[Units]:
    """Every layer's heads, every layer's channels, the hidden width, the layers."""
    graph, found = parts.trace(model), blocks(model)
    heads = [parts.heads(block, head_size) for block in found]
    channels = [parts.channels(graph, block) for block in found]
    return [*heads, *channels, parts.width(graph, found[0]), parts.layers(model)]


def _wanted(cut: Cut, present: Structure) -> list[int]:
    """How many of each of `_units` stay."""
    heads, channels = [len(layer.heads) for layer in present.layers], [len(layer.channels) for layer in present.layers]
    there = [*heads, *channels, len(present.width), len(heads)]
    wanted = [
        *(heads if cut.heads is None else cut.heads),
        *(channels if cut.channels is None else cut.channels),
        len(present.width) if cut.width is None else cut.width,
        len(heads) if cut.layers is None else cut.layers,
    ]
    of_layers = 2 * len(heads) if cut.across else 0  # lists that only say how much stays in all
    known = len(wanted) == len(there) and min(wanted) >= 1
    if not known or any(count > most for count, most in zip(wanted[of_layers:], there[of_layers:], strict=True)):
        raise ValueError(f"{cut} of a model with {heads} heads, {channels} channels and width {len(present.width)}")
    return _in_all(wanted, there, len(heads)) if cut.across else wanted


def _in_all(wanted: list[int], there: list[int], layers: int) -> list[int]:
    """What is wanted of each of `_units` when layers compete: all heads, or channels, where no less is wanted."""
    for places in (slice(layers), slice(layers, 2 * layers)):
        if sum(wanted[places]) >= sum(there[places]):
            wanted[places] = there[places]
    return wanted


def _kept(
    model: PreTrainedModel,
    units: Sequence[Units],
    wanted: Sequence[int],
    across: bool,
    importance: Importance,
    batches: Sequence[Batch],
    loss: Loss,
    seed: int,
) -> list[list[int]]:
    """The indices of what stays of each of `_units`; only what loses some is scored."""
    kept = [list(range(unit.count)) for unit in units]
    cutting = [place for place, count in enumerate(wanted) if count < units[place].count]
    kinds = _kinds(units, wanted) if across else []
    cutting = sorted({*cutting, *(place for places in kinds for place in places)})
    scores = _scores(model, [units[place] for place in cutting], importance, batches, loss, seed)
    if across:
        wanted = _spread(dict(zip(cutting, scores, strict=True)), wanted, kinds)
    for place, score in zip(cutting, scores, strict=True):
        if units[place].where == "update":
            score[_fixed_layers(model)] = math.inf
        kept[place] = best(score, wanted[place])
    return kept


def _kinds(units: Sequence[Units], wanted: Sequence[int]) -> list[range]:
    """Places of the heads, and of the channels, as far as some go."""
    layers = (len(units) - 2) // 2
    kinds = [range(layers), range(layers, 2 * layers)]
    return [places for places in kinds if sum(wanted[at] for at in places) < sum(units[at].count for at in places)]


def _spread(scores: Mapping[int, Tensor], wanted: Sequence[int], kinds: Sequence[range]) -> list[int]:
    """How many of each of `_units` stay when heads, and channels, compete across the layers."""
    spread = list(wanted)
    for places in kinds:
        total = sum(wanted[place] for place in places)
        multiple = ACROSS_MULTIPLE if places.start else 1
        counts = most_important([scores[place] for place in places], total, multiple)
        spread[places.start : places.stop] = counts
    return spread


def most_important(scores: Sequence[Tensor], total: int, multiple: int) -> list[int]:
    """How many units of each layer are among the most important of all layers; no layer goes without.

    Args:
        scores: of each layer's units.
        total: units that stay in all; what doesn't fit into whole groups is lost.
        multiple: units that stay or go together: the best of a layer, the next best, ...
    """
    groups = [layer.sort(descending=True).values[: len(layer) // multiple * multiple] for layer in scores]
    sums = [(float(group.sum()), layer) for layer, own in enumerate(groups) for group in own.split(multiple)[1:]]
    counts = [min(multiple, len(layer)) for layer in scores]
    for _, layer in sorted(sums, key=lambda one: -one[0])[: max(0, total // multiple - len(scores))]:
        counts[layer] += multiple
    return counts


def _scores(
    model: PreTrainedModel,
    units: Sequence[Units],
    importance: Importance,
    batches: Sequence[Batch],
    loss: Loss,
    seed: int,
) -> list[Tensor]:
    if importance == "random":
        return policies.chance(units, seed)
    if importance == "magnitude":
        return [policies.magnitude(unit) for unit in units]
    if not batches:
        raise ValueError("Taylor importance needs example batches")
    return policies.taylor(model, units, batches, loss) if units else []


def _fixed_layers(model: PreTrainedModel) -> list[int]:
    """The layers that fit no other place, since their weights have other names than the last one's."""
    names = [layer.state_dict().keys() for layer in encoder_layers(model)]
    return [place for place, own in enumerate(names) if own != names[-1]]


@contextmanager
def as_it_was(model: PreTrainedModel) -> Iterator[None]:
    """Eval mode with every parameter in the graph (torch-pruning follows gradients); the old flags come back."""
    training = model.training
    frozen = {name for name, parameter in model.named_parameters() if not parameter.requires_grad}
    model.eval().requires_grad_(True)
    try:
        yield
    finally:
        model.train(training)
        for name, parameter in model.named_parameters():
            parameter.requires_grad_(name not in frozen)


def _compose(before: Structure, kept: Sequence[Sequence[int]]) -> Structure:
    """What is left of what was left: indices of the present model become indices of the original."""
    total = len(before.layers)
    layers = []
    for place in kept[-1]:
        layer, heads, channels = before.layers[place], kept[place], kept[total + place]
        layers.append(
            LayerStructure(
                layer.layer, [layer.heads[head] for head in heads], [layer.channels[channel] for channel in channels]
            )
        )
    return Structure(layers, [before.width[feature] for feature in kept[-2]], before.head_size)

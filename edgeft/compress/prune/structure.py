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


def cut_by_ratios(
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
        heads=[count_kept_units(len(layer.heads), heads) for layer in present.layers],
        channels=[count_kept_features(len(layer.channels), channels) for layer in present.layers],
        width=count_kept_features(len(present.width), width),
        layers=count_kept_units(len(present.layers), layers),
    )


def count_kept_units(count: int, ratio: float) -> int:
    """How many heads or layers stay: the nearest number to the ratio, at least one."""
    return max(1, math.floor(count * (1 - ratio) + 0.5))


def count_kept_features(count: int, ratio: float) -> int:
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
    with with_all_gradients(model):
        units = _list_units(model, before.head_size)
        kept_units = _choose_kept(model, units, _count_kept(cut, before), cut.across, importance, batches, loss, seed)
        for unit, stay in zip(units, kept_units, strict=True):
            parts.remove(unit, stay)
        model.tie_weights()
    keep_layers(model, kept_units[-1])
    after = _compose_structures(before, kept_units)
    if after != before:
        set_structure(model, after)
    return after


def pick_best(scores: Tensor, count: int) -> list[int]:
    """The indices of the highest scores, rising; of equals, the first."""
    order = torch.argsort(scores, descending=True, stable=True)
    return sorted(order[:count].tolist())


def _list_units(model: PreTrainedModel, head_size: int) -> list[Units]:
    """Every layer's heads, every layer's channels, the hidden width, the layers."""
    graph, layers = parts.trace(model), blocks(model)
    heads = [parts.heads(block, head_size) for block in layers]
    channels = [parts.channels(graph, block) for block in layers]
    return [*heads, *channels, parts.width(graph, layers[0]), parts.layers(model)]


def _count_kept(cut: Cut, present: Structure) -> list[int]:
    """How many of each of `_list_units` stay."""
    heads, channels = [len(layer.heads) for layer in present.layers], [len(layer.channels) for layer in present.layers]
    present_counts = [*heads, *channels, len(present.width), len(heads)]
    counts = [
        *(heads if cut.heads is None else cut.heads),
        *(channels if cut.channels is None else cut.channels),
        len(present.width) if cut.width is None else cut.width,
        len(heads) if cut.layers is None else cut.layers,
    ]
    of_layers = 2 * len(heads) if cut.across else 0  # lists that only say how much stays in all
    known = len(counts) == len(present_counts) and min(counts) >= 1
    if not known or any(
        count > most for count, most in zip(counts[of_layers:], present_counts[of_layers:], strict=True)
    ):
        raise ValueError(f"{cut} of a model with {heads} heads, {channels} channels and width {len(present.width)}")
    return _keep_uncut_kinds(counts, present_counts, len(heads)) if cut.across else counts


def _keep_uncut_kinds(counts: list[int], present_counts: list[int], layers: int) -> list[int]:
    """What is wanted of each of `_list_units` when layers compete: all heads, or channels, where no less is wanted."""
    for kind in (slice(layers), slice(layers, 2 * layers)):
        if sum(counts[kind]) >= sum(present_counts[kind]):
            counts[kind] = present_counts[kind]
    return counts


def _choose_kept(
    model: PreTrainedModel,
    units: Sequence[Units],
    counts: Sequence[int],
    across: bool,
    importance: Importance,
    batches: Sequence[Batch],
    loss: Loss,
    seed: int,
) -> list[list[int]]:
    """The indices of what stays of each of `_list_units`; only what loses some is scored."""
    kept = [list(range(unit.count)) for unit in units]
    cutting = [index for index, count in enumerate(counts) if count < units[index].count]
    kinds = _list_cut_kinds(units, counts) if across else []
    cutting = sorted({*cutting, *(index for indices in kinds for index in indices)})
    scores = _score_units(model, [units[index] for index in cutting], importance, batches, loss, seed)
    if across:
        counts = _spread_across_layers(dict(zip(cutting, scores, strict=True)), counts, kinds)
    for index, score in zip(cutting, scores, strict=True):
        if units[index].where == "update":
            score[_fixed_layers(model)] = math.inf
        kept[index] = pick_best(score, counts[index])
    return kept


def _list_cut_kinds(units: Sequence[Units], counts: Sequence[int]) -> list[range]:
    """Places of the heads, and of the channels, as far as some go."""
    layers = (len(units) - 2) // 2
    kinds = [range(layers), range(layers, 2 * layers)]
    return [
        indices
        for indices in kinds
        if sum(counts[index] for index in indices) < sum(units[index].count for index in indices)
    ]


def _spread_across_layers(scores: Mapping[int, Tensor], wanted: Sequence[int], kinds: Sequence[range]) -> list[int]:
    """How many of each of `_list_units` stay when heads, and channels, compete across the layers."""
    spread = list(wanted)
    for indices in kinds:
        total = sum(wanted[index] for index in indices)
        multiple = ACROSS_MULTIPLE if indices.start else 1
        counts = count_most_important([scores[index] for index in indices], total, multiple)
        spread[indices.start : indices.stop] = counts
    return spread


def count_most_important(scores: Sequence[Tensor], total: int, multiple: int) -> list[int]:
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


def _score_units(
    model: PreTrainedModel,
    units: Sequence[Units],
    importance: Importance,
    batches: Sequence[Batch],
    loss: Loss,
    seed: int,
) -> list[Tensor]:
    if importance == "random":
        return policies.random_importance(units, seed)
    if importance == "magnitude":
        return [policies.magnitude_importance(unit) for unit in units]
    if not batches:
        raise ValueError("Taylor importance needs example batches")
    return policies.taylor_importance(model, units, batches, loss) if units else []


def _fixed_layers(model: PreTrainedModel) -> list[int]:
    """The layers that fit no other place, since their weights have other names than the last one's."""
    names = [layer.state_dict().keys() for layer in encoder_layers(model)]
    return [index for index, layer_names in enumerate(names) if layer_names != names[-1]]


@contextmanager
def with_all_gradients(model: PreTrainedModel) -> Iterator[None]:
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


def _compose_structures(before: Structure, kept_units: Sequence[Sequence[int]]) -> Structure:
    """What is left of what was left: indices of the present model become indices of the original."""
    total = len(before.layers)
    layers = []
    for index in kept_units[-1]:
        layer, heads, channels = before.layers[index], kept_units[index], kept_units[total + index]
        layers.append(
            LayerStructure(
                layer.layer, [layer.heads[head] for head in heads], [layer.channels[channel] for channel in channels]
            )
        )
    return Structure(layers, [before.width[feature] for feature in kept_units[-2]], before.head_size)

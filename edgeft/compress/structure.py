"""Structured pruning of attention heads and feed-forward channels along torch-pruning's dependency graph.

Every layer loses as many heads and channels as the others; which ones, its importance decides. Hidden width, embeddings
and classifier keep their shapes, since no group starts in them.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Literal

import torch
import torch_pruning as tp
from torch import Tensor
from transformers import PreTrainedModel

from edgeft.compress import importance as policies
from edgeft.compress.importance import Batch, Loss, Units
from edgeft.shapes import LayerStructure, Structure, blocks, set_structure, structure_of

Importance = Literal["taylor", "magnitude", "random"]

CHANNEL_MULTIPLE = 8  # what matrix kernels like
TRACED_TOKENS = 7  # a length that no width of a model has


def prune(
    model: PreTrainedModel,
    head_ratio: float,
    channel_ratio: float,
    importance: Importance,
    example_batches: Sequence[Batch] = (),
    loss: Loss = policies.own_loss,
    seed: int = 0,
) -> Structure:
    """Remove heads and channels, in place.

    Args:
        model: a BERT-, RoBERTa- or DistilBERT-shaped classifier; it may have been pruned before.
        head_ratio: share of the present heads that goes, in each layer; at least one head stays.
        channel_ratio: share of the present channels that goes; what stays is a multiple of eight.
        importance: what decides.
        example_batches: of inputs, for Taylor; with what `loss` needs.
        loss: of a model on a batch, the mean over its rows, for Taylor.
        seed: of random importance.

    Returns:
        What the model now keeps, in indices of the model before any pruning.

    Raises:
        ModelError: another architecture.
        ValueError: Taylor importance without batches.
    """
    before = structure_of(model)
    heads, channels = _units(model, before.head_size)
    wanted = [kept_heads(unit.count, head_ratio) for unit in heads]
    wanted += [kept_channels(unit.count, channel_ratio) for unit in channels]
    with _as_it_was(model):
        graph = _trace(model)
        scores = _scores(model, graph, heads + channels, importance, example_batches, loss, seed)
        kept = [best(score, count) for score, count in zip(scores, wanted, strict=True)]
        for unit, stay in zip(heads + channels, kept, strict=True):
            _remove(graph, unit, stay)
    after = _compose(before, kept[: len(heads)], kept[len(heads) :])
    if after != before:
        set_structure(model, after)
    return after


def kept_heads(heads: int, ratio: float) -> int:
    """How many heads stay: the nearest number to the ratio, at least one."""
    return max(1, math.floor(heads * (1 - ratio) + 0.5))


def kept_channels(channels: int, ratio: float) -> int:
    """How many channels stay: the nearest multiple of eight, at least eight; all of them at ratio 0."""
    if ratio == 0:
        return channels
    nearest = CHANNEL_MULTIPLE * math.floor(channels * (1 - ratio) / CHANNEL_MULTIPLE + 0.5)
    return min(channels, max(CHANNEL_MULTIPLE, nearest))


def best(scores: Tensor, count: int) -> list[int]:
    """The indices of the highest scores, rising; of equals, the first."""
    order = torch.argsort(scores, descending=True, stable=True)
    return sorted(order[:count].tolist())


def _units(model: PreTrainedModel, head_size: int) -> tuple[list[Units], list[Units]]:
    """The heads and the channels of every layer."""
    heads, channels = [], []
    for block in blocks(model):
        count = block.query.out_features // head_size
        heads.append(Units(block.output, (block.query, block.key, block.value), count, head_size))
        channels.append(Units(block.down, (block.up,), block.up.out_features, 1))
    return heads, channels


def _scores(
    model: PreTrainedModel,
    graph: tp.DependencyGraph,
    units: Sequence[Units],
    importance: Importance,
    batches: Sequence[Batch],
    loss: Loss,
    seed: int,
) -> list[Tensor]:
    if importance == "random":
        return policies.chance(units, seed)
    if importance == "magnitude":
        return [policies.magnitude(_group(graph, unit, range(unit.count)), unit) for unit in units]
    if not batches:
        raise ValueError("Taylor importance needs example batches")
    return policies.taylor(model, units, batches, loss)


@contextmanager
def _as_it_was(model: PreTrainedModel) -> Iterator[None]:
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


def _trace(model: PreTrainedModel) -> tp.DependencyGraph:
    ids = torch.ones(1, TRACED_TOKENS, dtype=torch.long, device=model.device)
    inputs = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
    with torch.enable_grad():
        return tp.DependencyGraph().build_dependency(
            model, example_inputs=inputs, output_transform=lambda output: output.logits
        )


def _group(graph: tp.DependencyGraph, units: Units, indices: Sequence[int]) -> tp.Group:
    """All that depends on these units; nothing but their readers and writers may."""
    features = [index * units.width + offset for index in indices for offset in range(units.width)]
    group = graph.get_pruning_group(units.reader, tp.prune_linear_in_channels, features)
    touched = {dep.target.module for dep, _ in group if any(True for _ in dep.target.module.parameters())}
    assert touched == {units.reader, *units.writers}, "the dependency graph reaches beyond one layer's units"
    return group


def _remove(graph: tp.DependencyGraph, units: Units, stay: Sequence[int]) -> None:
    gone = sorted(set(range(units.count)) - set(stay))
    if gone:
        with torch.no_grad():
            _group(graph, units, gone).prune()


def _compose(before: Structure, heads: Sequence[Sequence[int]], channels: Sequence[Sequence[int]]) -> Structure:
    """What is left of what was left: indices of the present model become indices of the original."""
    layers = [
        LayerStructure([layer.heads[head] for head in kept], [layer.channels[channel] for channel in rest])
        for layer, kept, rest in zip(before.layers, heads, channels, strict=True)
    ]
    return Structure(layers=layers, head_size=before.head_size)

"""What pruning takes from a model: heads, feed-forward channels, hidden width and layers, and the weights of each.

torch-pruning's dependency graph finds all that reads or writes a channel or a feature of the hidden states, and its
functions cut them. Heads come from `shapes.blocks`: inside of attention the graph doesn't follow rotary positions.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
import torch_pruning as tp
from torch import Tensor, nn
from transformers import PreTrainedModel

from edgeft.models.shapes import Block, encoder_layers, key_value_heads, sync_sizes

TRACED_TOKENS = 7  # a length that no width of a model has


@dataclass(frozen=True)
class Member:
    """One side of a module, which goes with some units.

    Attributes:
        module: a linear layer, an embedding or a normalization.
        remove: torch-pruning's function that takes indices of features away from that side.
        features: their indices, (units, features of one unit).
    """

    module: nn.Module
    remove: Callable[[nn.Module, list[int]], object]
    features: Tensor


@dataclass(frozen=True)
class Units:
    """Equal parts of a model, of which some are kept; a gate at `places` scales what each of them gives.

    Attributes:
        count: how many there are.
        members: what is cut with them; none where they are layers.
        places: modules whose tensors (B, T, features) are gated, each unit an equal slice of the features; to prune
            layers, the layers themselves.
        where: the gate is on what the places read or write, or on a layer's update of the hidden states.
    """

    count: int
    members: tuple[Member, ...]
    places: tuple[nn.Module, ...]
    where: Literal["input", "output", "update"] = "input"


class NormPruner(tp.pruner.function.BasePruningFunc):
    """Cuts normalizations; torch-pruning's own pruner knows only some, and reorders features if few of many stay."""

    def prune_out_channels(self, layer: nn.Module, idxs: Sequence[int]) -> nn.Module:
        """Remove features from the weight and the bias."""
        stay = sorted(set(range(self.get_out_channels(layer))) - set(idxs))
        for name, parameter in list(layer.named_parameters()):
            layer.register_parameter(name, nn.Parameter(parameter.detach()[stay]))
        sync_sizes(layer)
        return layer

    prune_in_channels = prune_out_channels

    def get_out_channels(self, layer: Any) -> int:
        """How many features there are."""
        return int(layer.weight.numel())

    get_in_channels = get_out_channels


def trace(model: PreTrainedModel) -> tp.DependencyGraph:
    """The dependency graph of a model in eval mode whose parameters all require gradients."""
    ids = torch.ones(1, TRACED_TOKENS, dtype=torch.long, device=model.device)
    norms = {type(module) for module in model.modules() if _is_norm(module)}
    with torch.enable_grad():
        return tp.DependencyGraph().build_dependency(
            model,
            example_inputs={"input_ids": ids, "attention_mask": torch.ones_like(ids)},
            output_transform=lambda output: [value for value in output.values() if isinstance(value, Tensor)],
            customized_pruners=dict.fromkeys(norms, NormPruner()),
        )


def _is_norm(module: nn.Module) -> bool:
    """Whether all that a module has is vectors."""
    parameters = list(module.named_parameters())
    return bool(parameters) and all("." not in name and value.dim() == 1 for name, value in parameters)


def heads(block: Block, head_size: int) -> Units:
    """The key/value heads of one layer, each with the query heads that share it."""
    count, parts = key_value_heads(block, head_size), 3 // len(block.writers)
    read = torch.arange(block.output.in_features).view(count, -1)
    members = [Member(block.output, tp.prune_linear_in_channels, read)]
    for writer in block.writers:
        written = torch.arange(writer.out_features).view(parts, count, -1).transpose(0, 1).reshape(count, -1)
        members.append(Member(writer, tp.prune_linear_out_channels, written))
    return Units(count, tuple(members), (block.output,))


def channels(graph: tp.DependencyGraph, block: Block) -> Units:
    """The feed-forward channels of one layer; a gated one goes with its gate."""
    members = _members(graph, block.down, tp.prune_linear_in_channels, block.down.in_features)
    assert all(isinstance(member.module, nn.Linear) for member in members), "channels reach the hidden states"
    return Units(block.down.in_features, members, (block.down,))


def width(graph: tp.DependencyGraph, block: Block) -> Units:
    """The features of the hidden states, found from any one block; the gates are on the outputs of normalizations."""
    count = block.output.out_features
    members = _members(graph, block.output, tp.prune_linear_out_channels, count)
    return Units(count, members, tuple(each.module for each in members if _is_norm(each.module)), "output")


def layers(model: PreTrainedModel) -> Units:
    """The layers."""
    places = tuple(encoder_layers(model))
    return Units(len(places), (), places, "update")


def _members(graph: tp.DependencyGraph, root: nn.Linear, side: Any, count: int) -> tuple[Member, ...]:
    """All that depends on one side of a linear layer; a unit is one of its features."""
    members = []
    for dep, indices, roots in _group(graph, root, side, count):
        if any(True for _ in dep.target.module.parameters()):
            order = torch.argsort(torch.tensor(roots), stable=True)
            members.append(Member(dep.target.module, dep.handler, torch.tensor(indices)[order].view(count, -1)))
    return tuple(members)


def _group(graph: tp.DependencyGraph, root: nn.Linear, side: Any, count: int) -> list[tuple[Any, list[int], list[int]]]:
    """torch-pruning's group as dependencies, their indices, and the root's index behind each."""
    group = graph.get_pruning_group(root, side, list(range(count)))
    return [(dep, indices, group[place].root_idxs) for place, (dep, indices) in enumerate(group)]


def remove(units: Units, stay: Sequence[int]) -> None:
    """Cut all units but some out of their members."""
    gone = sorted(set(range(units.count)) - set(stay))
    if gone:
        with torch.no_grad():
            for member in units.members:
                member.remove(member.module, member.features[gone].flatten().tolist())

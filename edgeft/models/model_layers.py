"""Layers of a model: spread evenly, copied into a new model; the last linear layer of a head."""

from __future__ import annotations

import copy
from dataclasses import replace

import torch
from torch import nn
from transformers import PreTrainedModel

from edgeft.errors import ModelError
from edgeft.models.shapes import encoder_layers, reshape


def spread_layers(total: int, count: int) -> list[int]:
    """Evenly spread layers, the first and the last among them (one layer: the first); of two nearest, the lower.

    Raises:
        ModelError: more wanted than there are.
    """
    if not 1 <= count <= total:
        raise ModelError(f"{count} layers wanted of {total}; from 1 to {total} can be had")
    gaps = max(count - 1, 1)
    return [-((gaps - 2 * index * (total - 1)) // (2 * gaps)) for index in range(count)]


def copy_layers(teacher: PreTrainedModel, layers: list[int]) -> PreTrainedModel:
    """A new model, in eval mode, of some of a model's layers; everything else is copied, pruned shapes included.

    Args:
        teacher: a model whose layers `encoder_layers` finds.
        layers: indices of its layers, in the order of the new model.

    Raises:
        ModelError: no such layer, or one that doesn't fit its new place.
    """
    stack = encoder_layers(teacher)
    for layer in layers:
        if not 0 <= layer < len(stack):
            raise ModelError(f"layer {layer} is out of range: the model has {len(stack)} layers, 0 to {len(stack) - 1}")
    if not layers:
        raise ModelError("no layer named; a model has at least one")
    config = copy.deepcopy(teacher.config)
    config.update(getattr(teacher, "edgeft_dropouts", {}))
    config.num_hidden_layers = len(layers)
    if kinds := getattr(config, "layer_types", None):
        config.layer_types = [kinds[layer] for layer in layers]
    with torch.random.fork_rng(devices=[]):
        student = type(teacher)(config)
    weights = _select_weights(teacher, stack, layers)
    if (structure := getattr(teacher, "edgeft_structure", None)) is not None:
        kept_structure = replace(structure, layers=[structure.layers[layer] for layer in layers])
        reshape(student, {name: weight.shape for name, weight in weights.items()}, kept_structure)
    _load_weights(student, weights)
    student.edgeft_new_head = getattr(teacher, "edgeft_new_head", False)
    return student.to(device=teacher.device, dtype=teacher.dtype).eval()


def _select_weights(teacher: PreTrainedModel, stack: nn.ModuleList, layers: list[int]) -> dict[str, torch.Tensor]:
    prefix = next(name for name, module in teacher.named_modules() if module is stack) + "."
    weights = {key: value for key, value in teacher.state_dict().items() if not key.startswith(prefix)}
    for index, layer in enumerate(layers):
        weights |= {f"{prefix}{index}.{key}": value for key, value in stack[layer].state_dict().items()}
    return weights


def _load_weights(student: PreTrainedModel, weights: dict[str, torch.Tensor]) -> None:
    odd = sorted(student.state_dict().keys() ^ weights.keys())
    if odd:
        raise ModelError(f"a chosen layer doesn't fit its new place: {odd[0]} is in one of them only")
    student.load_state_dict(weights)


def last_linear(model: PreTrainedModel) -> nn.Linear:
    """The last linear layer of a model's head."""
    inside = set(model.base_model.modules())
    return [module for module in model.modules() if isinstance(module, nn.Linear) and module not in inside][-1]

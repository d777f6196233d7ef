"""How much a head, a channel, a feature of the hidden states or a layer matters: Taylor, magnitude, and chance.

Every policy answers with one score for each unit, higher is better; which units go is decided by `structure`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
import torch_pruning as tp
from torch import Tensor, nn
from transformers import PreTrainedModel

from edgeft.compress.prune.units import Units

Batch = dict[str, Tensor]
Loss = Callable[[PreTrainedModel, Batch], Tensor]
Scale = Callable[[Tensor], Tensor]


def own_loss(model: PreTrainedModel, batch: Batch) -> Tensor:
    """The model's own loss, for batches that hold `labels`."""
    loss: Tensor = model(**batch).loss
    return loss


def taylor_importance(
    model: PreTrainedModel, units: Sequence[Units], batches: Sequence[Batch], loss: Loss
) -> list[Tensor]:
    """First-order Taylor importance: the mean over rows r of |dL_r / dg|, where a gate g = 1 scales what a unit gives.

    For each row dL_r / dg is the sum of h * dL_r / dh over the unit's activations h: what its removal costs to first
    order (Molchanov et al. 2017, arXiv:1611.06440, section 2.2; for heads Michel et al. 2019, arXiv:1905.10650, section
    4.1). A feature of the hidden states has one gate after every normalization. A layer's h is its update: it gives
    x + g * (layer(x) - x). The absolute value is taken row by row, since signed gradients cancel out over the rows of a
    trained model.

    Args:
        model: in eval mode; its parameters and their gradients aren't touched.
        units: what to score.
        batches: what `loss` takes; the division into batches doesn't matter.
        loss: the mean over the rows of a batch.

    Returns:
        For each of `units` a float32 tensor (count,) on the CPU.
    """
    totals = [torch.zeros(unit.count) for unit in units]
    rows = 0
    for batch in batches:
        with _gates(units) as gates, torch.enable_grad():
            slopes = torch.autograd.grad(loss(model, batch), [gates[index] for index in range(len(units))])
        rows += len(slopes[0])
        for total, slope in zip(totals, slopes, strict=True):
            total += len(slope) * slope.float().abs().sum(0).cpu()
    return [total / rows for total in totals]


@contextmanager
def _gates(units: Sequence[Units]) -> Iterator[dict[int, Tensor]]:
    """Scale what each unit gives by a gate of one; a forward pass fills in the gates, each (rows, count)."""
    gates: dict[int, Tensor] = {}

    def gate(index: int, unit: Units, given: Tensor) -> Tensor:
        ones = torch.ones(len(given), unit.count, dtype=given.dtype, device=given.device, requires_grad=True)
        return gates.setdefault(index, ones)

    def slices(index: int, unit: Units) -> Scale:
        def scale(given: Tensor) -> Tensor:
            parted: Tensor = given.unflatten(-1, (unit.count, -1))  # (B, T, count, width)
            return (parted * gate(index, unit, given)[:, None, :, None]).flatten(-2)

        return scale

    def update(index: int, unit: Units, place: int) -> Scale:
        return lambda given: given * gate(index, unit, given)[:, place, None, None]

    handles = []
    for index, unit in enumerate(units):
        for place, module in enumerate(unit.places):
            scale = update(index, unit, place) if unit.where == "update" else slices(index, unit)
            handles.append(_HOOKS[unit.where](module, scale))
    try:
        yield gates
    finally:
        for handle in handles:
            handle.remove()


def _on_input(module: nn.Module, scale: Scale) -> Any:
    return module.register_forward_pre_hook(lambda _, given: (scale(given[0]), *given[1:]))


def _on_output(module: nn.Module, scale: Scale) -> Any:
    return module.register_forward_hook(lambda _, __, given: scale(given))


def _on_update(module: nn.Module, scale: Scale) -> Any:
    return module.register_forward_hook(lambda _, before, given: before[0] + scale(given - before[0]))


_HOOKS = {"input": _on_input, "output": _on_output, "update": _on_update}


def magnitude_importance(units: Units) -> Tensor:
    """Magnitude importance: the sum of the squared weights of linear layers that write and read a unit, or are in it.

    Biases, embeddings and normalizations are aside.

    Args:
        units: what to score.

    Returns:
        A float32 tensor (count,) on the CPU.
    """
    if units.where == "update":
        return torch.stack([_squares(layer) for layer in units.places])
    total = torch.zeros(units.count)
    for member in units.members:
        if isinstance(member.module, nn.Linear):
            other = 0 if member.remove == tp.prune_linear_in_channels else 1
            squares = member.module.weight.detach().float().square().sum(other).cpu()
            total += squares[member.features].sum(1)
    return total


def _squares(layer: nn.Module) -> Tensor:
    """Of all weights of the linear layers in a layer."""
    found = [module.weight for module in layer.modules() if isinstance(module, nn.Linear)]
    return torch.stack([weight.detach().float().square().sum().cpu() for weight in found]).sum()


def random_importance(units: Sequence[Units], seed: int) -> list[Tensor]:
    """Random importance, the control: for each of `units` a tensor (count,) that the seed decides."""
    generator = torch.Generator().manual_seed(seed)
    return [torch.rand(unit.count, generator=generator) for unit in units]

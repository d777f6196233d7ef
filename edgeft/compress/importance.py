"""How much a head or a feed-forward channel matters: first-order Taylor, magnitude, and chance as the control.

Every policy answers with one score for each unit, higher is better; which units go is decided by `structure`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
import torch_pruning as tp
from torch import Tensor, nn
from transformers import PreTrainedModel

Batch = dict[str, Tensor]
Loss = Callable[[PreTrainedModel, Batch], Tensor]


@dataclass(frozen=True)
class Units:
    """Heads or channels of one layer: equally wide slices of what one linear layer reads.

    Attributes:
        reader: its weight is (hidden, count * width).
        writers: the linear layers whose outputs are sliced alike, each weight (count * width, hidden).
        count: how many units there are.
        width: features of one unit; a channel has one.
    """

    reader: nn.Linear
    writers: tuple[nn.Linear, ...]
    count: int
    width: int


def own_loss(model: PreTrainedModel, batch: Batch) -> Tensor:
    """The model's own loss, for batches that hold `labels`."""
    return model(**batch).loss


def taylor(model: PreTrainedModel, units: Sequence[Units], batches: Sequence[Batch], loss: Loss) -> list[Tensor]:
    """First-order Taylor importance: the mean over rows r of |dL_r / dg|, where a gate g = 1 scales what a unit gives.

    For each row dL_r / dg is the sum of h * dL_r / dh over the unit's activations h, and of w * dL_r / dw over the
    weights w that read it: what its removal costs to first order (Molchanov et al. 2017, arXiv:1611.06440, section 2.2;
    for heads Michel et al. 2019, arXiv:1905.10650, section 4.1). The absolute value is taken row by row, since signed
    gradients cancel out over the rows of a trained model.

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

    def hook(index: int, unit: Units) -> Callable[[nn.Module, Any], tuple[Tensor]]:
        def scale(_: nn.Module, inputs: tuple[Tensor]) -> tuple[Tensor]:
            given = inputs[0].unflatten(-1, (unit.count, unit.width))  # (B, T, count, width)
            ones = torch.ones(len(given), unit.count, dtype=given.dtype, device=given.device, requires_grad=True)
            return ((given * gates.setdefault(index, ones)[:, None, :, None]).flatten(-2),)

        return scale

    handles = [unit.reader.register_forward_pre_hook(hook(index, unit)) for index, unit in enumerate(units)]
    try:
        yield gates
    finally:
        for handle in handles:
            handle.remove()


def magnitude(group: tp.Group, units: Units) -> Tensor:
    """Magnitude importance: the sum of the squared weights that write and read a unit (biases aside).

    Args:
        group: torch-pruning's group of all the features of `units`.
        units: what to score.

    Returns:
        A float32 tensor (count,) on the CPU.
    """
    features = tp.importance.GroupMagnitudeImportance(p=2, group_reduction="sum", normalizer=None)(group)
    return features.view(units.count, units.width).sum(1).cpu()


def chance(units: Sequence[Units], seed: int) -> list[Tensor]:
    """Random importance, the control: for each of `units` a tensor (count,) that the seed decides."""
    generator = torch.Generator().manual_seed(seed)
    return [torch.rand(unit.count, generator=generator) for unit in units]

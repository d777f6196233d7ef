"""A narrower model from a wider one's weights: the hidden states are turned to their principal directions, and cut.

With an orthogonal Q of the directions, strongest first, what writes hidden states is multiplied by Q^T and what reads
them by Q; the model computes the same as far as its normalizations allow. RMSNorm without weights does so exactly
(Ashkboos et al. 2024, "SliceGPT", arXiv:2401.15024, section 3.1). Another normalization keeps the diagonal of its
turned weights: a starting point, which distillation takes from there.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import torch
import torch_pruning as tp
from torch import Tensor, nn
from transformers import PreTrainedModel

from edgeft.compress.prune.structure import with_all_gradients
from edgeft.compress.prune.units import Units, remove, trace
from edgeft.compress.prune.units import width as width_units
from edgeft.errors import ModelError
from edgeft.models.shapes import blocks, set_structure, structure_of

Run = Callable[[], object]


def narrow(model: PreTrainedModel, width: int, run: Run) -> None:
    """Keep the strongest directions of the hidden states, in place.

    Args:
        model: of a kind that pruning knows.
        width: features of the hidden states that stay.
        run: passes real rows through it, without padding; they say what the directions are.

    Raises:
        ModelError: the model hasn't got so many features, or pruning doesn't know it.
    """
    before = structure_of(model)
    there = len(before.width)
    if not 1 <= width <= there:
        raise ModelError(f"a width of {width} is wanted of a model that has {there}")
    with with_all_gradients(model):
        units = width_units(trace(model), blocks(model)[0])
        rotate_units(units, principal_directions(units, run))
        remove(units, range(width))
        model.tie_weights()
        scale_normalizations(units, there / width)
    set_structure(model, dataclasses.replace(before, width=before.width[:width]))


def principal_directions(units: Units, run: Run) -> Tensor:
    """Principal directions of what the normalizations give, the strongest first: orthogonal, (width, width).

    Of second moments, not of variances: the states' mean is something that layers read, too.
    """
    total = torch.zeros(units.count, units.count, dtype=torch.float64)

    def hook(_: nn.Module, __: object, given: Tensor) -> None:
        states = given.detach().flatten(0, -2).double().cpu()  # (B T, width)
        total.add_(states.T @ states)

    handles = [place.register_forward_hook(hook) for place in units.places]
    try:
        with torch.inference_mode():
            run()
    finally:
        for handle in handles:
            handle.remove()
    found: Tensor = torch.linalg.eigh(total).eigenvectors.flip(-1)
    return found


@torch.no_grad()
def rotate_units(units: Units, q: Tensor) -> None:
    """Let all members of the hidden width work in another basis, in place.

    Args:
        units: of the hidden width.
        q: its directions, orthogonal (width, width), in double precision.
    """
    done: set[int] = set()
    for member in units.members:
        order, reads = member.features.flatten(), member.remove == tp.prune_linear_in_channels
        for name, value in member.module.named_parameters(recurse=False):
            if value.data_ptr() in done or (reads and name == "bias"):  # an embedding may be the head's weight, too
                continue
            done.add(value.data_ptr())
            own = q[order][:, order].to(value.device)
            value.copy_(rotate_parameter(value.double(), own, member.module, reads, name))


def rotate_parameter(value: Tensor, q: Tensor, module: nn.Module, reads: bool, name: str) -> Tensor:
    """A parameter in the basis q.

    Args:
        value: weight or bias of a linear layer (N, K), an embedding (rows, K) or a normalization (K,).
        q: orthogonal.
        module: that has it.
        reads: whether the linear layer reads hidden states, or writes them.
        name: of the parameter.
    """
    if isinstance(module, nn.Embedding) or (isinstance(module, nn.Linear) and reads):
        return value @ q
    if not isinstance(module, nn.Linear) and name == "weight":
        return q.square().T @ value
    return q.T @ value


@torch.no_grad()
def scale_normalizations(units: Units, factor: float) -> None:
    """Make up for what a normalization divides by: the mean square is larger where only strong features are left."""
    for place in units.places:
        for name, value in place.named_parameters(recurse=False):
            if name == "weight":
                value.mul_(factor**0.5)

"""What a model computes on its way to the logits: last hidden states; queries, keys and values of its last layer."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from edgeft import shapes
from edgeft.errors import ModelError

HIDDEN = "hidden"
RELATIONS = ("query", "key", "value")

States = dict[str, torch.Tensor]  # each (B, T, width) float32


@contextmanager
def watched(model: Any, names: Collection[str]) -> Iterator[States]:
    """Collect states in every forward pass inside; gradients flow through them.

    Args:
        model: of transformers.
        names: of the states that are wanted.
    """
    seen: States = {}

    def keep(name: str) -> Callable[[nn.Module, Any, Any], None]:
        def hook(_: nn.Module, inputs: Any, output: Any) -> None:
            seen[name] = (output if isinstance(output, torch.Tensor) else output[0]).float()

        return hook

    handles = [module.register_forward_hook(keep(name)) for name, module in places(model, names).items()]
    try:
        yield seen
    finally:
        for handle in handles:
            handle.remove()


def places(model: Any, names: Collection[str]) -> dict[str, Any]:
    """Where each of the states comes out.

    Raises:
        ModelError: this architecture's queries, keys and values aren't known.
    """
    found: dict[str, Any] = {HIDDEN: model.base_model} if HIDDEN in names else {}
    if any(name in names for name in RELATIONS):
        last = shapes.blocks(model)[-1]
        found |= {name: getattr(last, name) for name in RELATIONS if name in names}
    return found


def knows_relations(model: Any) -> bool:
    """Whether queries, keys and values can be watched."""
    try:
        return bool(places(model, RELATIONS))
    except ModelError:
        return False

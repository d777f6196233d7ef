"""What a model computes on its way to the logits: last hidden states; queries, keys and values of its last layer."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from edgeft.errors import ModelError
from edgeft.models import shapes

HIDDEN = "hidden"
RELATIONS = ("query", "key", "value")
PROJECTION = "edgeft_projection"  # of a student's hidden states to the teacher's width, while it learns

States = dict[str, torch.Tensor]  # each (B, T, width) float32


@contextmanager
def watch_states(model: Any, names: Collection[str]) -> Iterator[States]:
    """Collect states in every forward pass inside; gradients flow through them.

    Where a student learns a projection, its hidden states have the teacher's width.

    Args:
        model: of transformers.
        names: of the states that are wanted.
    """
    seen: States = {}
    projection: Any = getattr(model, PROJECTION, None)

    def keep(name: str, place: Place) -> Callable[[nn.Module, Any, Any], None]:
        def hook(_: nn.Module, inputs: Any, output: Any) -> None:
            whole = output if isinstance(output, torch.Tensor) else output[0]
            state = whole.chunk(place.parts, dim=-1)[place.part]
            seen[name] = (projection(state) if name == HIDDEN and projection is not None else state).float()

        return hook

    handles = [
        place.module.register_forward_hook(keep(name, place)) for name, place in locate_states(model, names).items()
    ]
    if projection is not None:
        handles.append(model.register_forward_hook(_named_in_the_output(projection)))
    try:
        yield seen
    finally:
        for handle in handles:
            handle.remove()


def _named_in_the_output(projection: nn.Linear) -> Callable[[nn.Module, Any, Any], None]:
    """A hook for several processes, which look for what will have a gradient in what a model gives."""

    def hook(_: nn.Module, inputs: Any, output: Any) -> None:
        name = next(iter(output))
        output[name] = output[name] + 0 * projection.weight.sum()

    return hook


@dataclass(frozen=True)
class Place:
    """Where a state comes out: a module, and which of equal parts of its output it is."""

    module: Any
    part: int = 0
    parts: int = 1


def locate_states(model: Any, names: Collection[str]) -> dict[str, Place]:
    """Where each of the states comes out.

    Raises:
        ModelError: this architecture's queries, keys and values aren't known.
    """
    found = {HIDDEN: Place(model.base_model)} if HIDDEN in names else {}
    if any(name in names for name in RELATIONS):
        writers = shapes.blocks(model)[-1].writers
        whole = [Place(writers[0], part, 3) for part in range(3)] if len(writers) == 1 else list(map(Place, writers))
        found |= {name: place for name, place in zip(RELATIONS, whole, strict=True) if name in names}
    return found


def width_of(model: Any, name: str) -> int:
    """The width of one of the `RELATIONS`."""
    place = locate_states(model, (name,))[name]
    return int(place.module.out_features) // place.parts


def knows_relations(model: Any) -> bool:
    """Whether queries, keys and values can be watched."""
    try:
        return bool(locate_states(model, RELATIONS))
    except ModelError:
        return False

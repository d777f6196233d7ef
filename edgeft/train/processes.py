"""Several processes that train one model together: who takes which items, and what they tell each other.

accelerate wraps the model (DistributedDataParallel) and starts the process group, on gloo without GPUs. A batch of
the config is a batch of all processes: each takes its share of the items, so that the same recipe gives the same loss
with any number of processes.
"""

from __future__ import annotations

import contextlib
from contextlib import AbstractContextManager
from typing import Any, TypeVar

import torch

from edgeft import ranks

T = TypeVar("T")


class Processes:
    """This process among those of a training.

    Args:
        model: on its device, with the parameters that will ever train marked by `requires_grad`.
        seed: of the training; each process draws its dropout from a seed of its own.

    Attributes:
        model: what the loss is computed with.
    """

    def __init__(self, model: torch.nn.Module, seed: int) -> None:
        self.model = model
        self._accelerator: Any = None
        if ranks.world() > 1:
            from accelerate import Accelerator, DistributedDataParallelKwargs

            # Frozen and later unfrozen layers are parameters without a gradient in some steps.
            options = DistributedDataParallelKwargs(find_unused_parameters=True)
            on_cpu = next(model.parameters()).device.type == "cpu"
            self._accelerator = Accelerator(cpu=on_cpu, mixed_precision="no", kwargs_handlers=[options])
            self.model = self._accelerator.prepare_model(model)
            torch.manual_seed(seed * ranks.world() + ranks.rank())

    def share(self, batch: list[int]) -> tuple[list[int], float]:
        """This process' items of a batch, and what their loss counts.

        A process for which none is left takes the first one for nothing: the others wait for its backward pass.
        """
        own = batch[ranks.rank() :: ranks.world()]
        # Gradients are averaged over the processes, and a step's loss is a sum over them.
        return (own, float(ranks.world())) if own else (batch[:1], 0.0)

    def quiet(self, last: bool) -> AbstractContextManager[Any]:
        """The context of a forward and backward pass; gradients are exchanged in the last one of a step."""
        if self._accelerator is None or last:
            return contextlib.nullcontext()
        return self._accelerator.no_sync(self.model)

    def total(self, value: float) -> float:
        """The sum of a number over the processes."""
        return sum(self.all_of(value))

    def all_of(self, value: T) -> list[T]:
        """The value of each process, in the order of their ranks."""
        if self._accelerator is None:
            return [value]
        from accelerate.utils import gather_object

        found: list[T] = gather_object([value])
        return found

    def agreed(self, value: T) -> T:
        """The main process' value, for everybody."""
        if self._accelerator is None:
            return value
        from accelerate.utils import broadcast_object_list

        return broadcast_object_list([value])[0]

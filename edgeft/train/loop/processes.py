"""Several processes that train one model together: who takes which items, and what they tell each other.

accelerate wraps the model (DistributedDataParallel) and starts the process group, on gloo without GPUs. A batch of
the config is a batch of all processes: each takes its share of the items, so that the same recipe gives the same loss
with any number of processes.

Where the frozen weights are split (FSDP2, `fully_shard`), the few that train stay whole in every process: their
optimizer, checkpoints and merge are those of one process, and their gradients are averaged here.
"""

from __future__ import annotations

import contextlib
from contextlib import AbstractContextManager
from typing import Any, TypeVar

import torch
from torch import distributed
from torch.distributed.tensor import DTensor

from edgeft import ranks
from edgeft.errors import RecipeError
from edgeft.recipe import TrainingConfig
from edgeft.train.loop.optim import layers_of

T = TypeVar("T")


def check(config: TrainingConfig) -> None:
    """Whether an option about several processes does anything.

    Raises:
        RecipeError: there is one process.
    """
    if getattr(config, "shard_frozen", False) and ranks.world() == 1:
        raise RecipeError("finetune.shard_frozen: there is one process; set finetune.processes, or start with torchrun")


def unwrapped(model: Any) -> Any:
    """The model of transformers inside of what shares gradients and of what holds an adapter."""
    inside = model.module if isinstance(model, torch.nn.parallel.DistributedDataParallel) else model
    return inside.get_base_model() if hasattr(inside, "get_base_model") else inside


def parts_to_split(model: torch.nn.Module) -> list[Any]:
    """The layers and, last, the model around them, whose frozen weights can be split among processes.

    Raises:
        ModelError: the layers aren't found.
        RecipeError: nothing is frozen.
    """
    if all(parameter.requires_grad for parameter in model.parameters()):
        raise RecipeError("finetune.shard_frozen: nothing is frozen, so there is nothing to split; take lora or qlora")
    return [*layers_of(model), unwrapped(model)]


def split_frozen(parts: list[Any]) -> None:
    """Split the weights that don't train among the processes, part by part; weights in 4 bits as their bytes."""
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    parameters = list(parts[-1].parameters())
    trains = {parameter for parameter in parameters if parameter.requires_grad}
    mesh = init_device_mesh(parameters[0].device.type, (ranks.world(),))
    for part in parts:
        fully_shard(part, mesh=mesh, ignored_params=trains)


class Processes:
    """This process among those of a training.

    Args:
        model: on its device, with the parameters that will ever train marked by `requires_grad`.
        seed: of the training; each process draws its dropout from a seed of its own.
        shard: whether frozen weights are split among the processes.

    Attributes:
        model: what the loss is computed with.
    """

    def __init__(self, model: torch.nn.Module, seed: int, shard: bool = False) -> None:
        self.model = model
        self._accelerator: Any = None
        self._sharded: list[Any] = []
        if ranks.world() > 1:
            # Refused before the processes meet: one that ends then would end those that still join without a word.
            parts = parts_to_split(model) if shard else []
            from accelerate import Accelerator, DistributedDataParallelKwargs

            # Frozen and later unfrozen layers are parameters without a gradient in some steps.
            options = DistributedDataParallelKwargs(find_unused_parameters=True)
            on_cpu = next(model.parameters()).device.type == "cpu"
            self._accelerator = Accelerator(cpu=on_cpu, mixed_precision="no", kwargs_handlers=[options])
            if parts:
                split_frozen(parts)
                self._sharded = parts
            else:
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
        if self._accelerator is None or self._sharded or last:
            return contextlib.nullcontext()
        unsynchronized: AbstractContextManager[Any] = self._accelerator.no_sync(self.model)
        return unsynchronized

    def exchange(self) -> None:
        """Average the gradients that no wrapper averages."""
        if not self._sharded:
            return
        with_gradient = [parameter for parameter in self.model.parameters() if parameter.grad is not None]
        gradients = [parameter.grad for parameter in with_gradient if parameter.grad is not None]
        flat = torch.cat([gradient.reshape(-1) for gradient in gradients])
        distributed.all_reduce(flat)
        parts = (flat / ranks.world()).split([gradient.numel() for gradient in gradients])
        for gradient, part in zip(gradients, parts, strict=True):
            gradient.copy_(part.view_as(gradient))

    def finish(self) -> None:
        """Put the split weights together again, for good; a merge reads those in 4 bits from `edgeft_whole`."""
        layer: Any
        for layer in self.model.modules() if self._sharded else ():
            if type(layer).__name__ == "Linear4bit":
                weight = layer.weight
                layer.edgeft_whole = weight.full_tensor() if isinstance(weight, DTensor) else weight.detach().clone()
        for module in self._sharded:
            module.set_reshard_after_forward(False)
            module.unshard()

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

        agreed: T = broadcast_object_list([value])[0]
        return agreed

"""Distributed training: several processes share the items of a batch and average their gradients.

accelerate wraps the model (DistributedDataParallel) and starts the process group, with gloo if there is no GPU. The
batch size of the config is that of all processes together: each takes its share of the items, so that the same recipe
gives the same loss with any number of processes.

If the frozen weights are sharded (FSDP2, `fully_shard`), the few weights that train stay complete in every process:
their optimizer, checkpoints and merge are those of a single process, and their gradients are averaged here.
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
    """Refuse an option for several processes if there is only one.

    Raises:
        RecipeError: there is one process.
    """
    if getattr(config, "shard_frozen", False) and ranks.world() == 1:
        raise RecipeError("finetune.shard_frozen: there is one process; set finetune.processes, or start with torchrun")


def unwrap(model: Any) -> Any:
    """The model of transformers inside the wrappers of DistributedDataParallel and peft."""
    inside = model.module if isinstance(model, torch.nn.parallel.DistributedDataParallel) else model
    return inside.get_base_model() if hasattr(inside, "get_base_model") else inside


def parts_to_split(model: torch.nn.Module) -> list[Any]:
    """The modules whose frozen weights can be sharded: the layers and, last, the model around them.

    Raises:
        ModelError: the layers aren't found.
        RecipeError: nothing is frozen.
    """
    if all(parameter.requires_grad for parameter in model.parameters()):
        raise RecipeError("finetune.shard_frozen: nothing is frozen, so there is nothing to shard; take lora or qlora")
    return [*layers_of(model), unwrap(model)]


def split_frozen(parts: list[Any]) -> None:
    """Shard the frozen weights among the processes, module by module; 4-bit weights as their bytes."""
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    parameters = list(parts[-1].parameters())
    trains = {parameter for parameter in parameters if parameter.requires_grad}
    mesh = init_device_mesh(parameters[0].device.type, (ranks.world(),))
    for part in parts:
        fully_shard(part, mesh=mesh, ignored_params=trains)


class Processes:
    """This process as a member of a distributed training.

    Args:
        model: on its device; all parameters that will ever train have `requires_grad`.
        seed: of the training; each process derives its own seed for dropout.
        shard: whether frozen weights are sharded among the processes.

    Attributes:
        model: what the loss is computed with.
    """

    def __init__(self, model: torch.nn.Module, seed: int, shard: bool = False) -> None:
        self.model = model
        self._accelerator: Any = None
        self._sharded: list[Any] = []
        if ranks.world() > 1:
            # Errors come before the processes join: one that ends later would end the others without a message.
            parts = parts_to_split(model) if shard else []
            from accelerate import Accelerator, DistributedDataParallelKwargs

            # Layers that are frozen, or not yet unfrozen, have no gradient in some steps.
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
        """This process's items of a batch, and the factor of their loss.

        A process without items takes the first one with factor 0, because the others wait for its backward pass.
        """
        items = batch[ranks.rank() :: ranks.world()]
        # Gradients are averaged over the processes, but a step's loss is the sum over them.
        return (items, float(ranks.world())) if items else (batch[:1], 0.0)

    def delay_exchange(self, last: bool) -> AbstractContextManager[Any]:
        """The context of a forward and backward pass; gradients are exchanged only in the last pass of a step."""
        if self._accelerator is None or self._sharded or last:
            return contextlib.nullcontext()
        unsynchronized: AbstractContextManager[Any] = self._accelerator.no_sync(self.model)
        return unsynchronized

    def average_gradients(self) -> None:
        """Average the gradients if DistributedDataParallel does not do it."""
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
        """Gather the sharded weights for good; a merge reads the 4-bit ones from `edgeft_whole`."""
        layer: Any
        for layer in self.model.modules() if self._sharded else ():
            if type(layer).__name__ == "Linear4bit":
                weight = layer.weight
                layer.edgeft_whole = weight.full_tensor() if isinstance(weight, DTensor) else weight.detach().clone()
        for module in self._sharded:
            module.set_reshard_after_forward(False)
            module.unshard()

    def reduce_sum(self, value: float) -> float:
        """The sum of a number over the processes."""
        return sum(self.gather(value))

    def gather(self, value: T) -> list[T]:
        """The value of each process, by rank."""
        if self._accelerator is None:
            return [value]
        from accelerate.utils import gather_object

        values: list[T] = gather_object([value])
        return values

    def broadcast(self, value: T) -> T:
        """The main process's value, in every process."""
        if self._accelerator is None:
            return value
        from accelerate.utils import broadcast_object_list

        agreed: T = broadcast_object_list([value])[0]
        return agreed

"""Optimizers: parameter groups, layer-wise learning rates, schedules, freezing and unfreezing."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from transformers import (
    get_constant_schedule_with_warmup,
    get_cosine_schedule_with_warmup,
    get_linear_schedule_with_warmup,
)

from edgeft.errors import RecipeError, require
from edgeft.models.shapes import encoder_layers
from edgeft.recipe import FinetuneConfig, TrainingConfig

# Weight decay would pull the scales of (IA)^3 and the magnitudes of DoRA to zero, which is not where they start.
NO_DECAY = ("bias", "norm", "ia3_", "lora_magnitude")
EMBEDDINGS = -1  # the depth below layer 0

# (optimizer steps done) -> None; the loop calls it before each step
BeforeStep = Callable[[int], None]
Named = tuple[str, torch.nn.Parameter]


def change_nothing(step: int) -> None:
    """The parameters that train stay the same."""


def trainable_parameters(model: torch.nn.Module) -> list[Named]:
    """The parameters that train, with names."""
    return [(name, parameter) for name, parameter in model.named_parameters() if parameter.requires_grad]


# --------------------------------------------------------------------------------------------------------------- depths


def layers_of(model: torch.nn.Module) -> torch.nn.ModuleList:
    """The stack of layers of a plain or a peft model.

    Raises:
        ModelError: it isn't found where known models have it.
    """
    base: Any = model.get_base_model() if hasattr(model, "get_base_model") else model  # type: ignore[operator]
    return encoder_layers(base)


def layer_depths(model: torch.nn.Module) -> dict[str, int]:
    """The depth of each parameter, including those of adapters.

    Returns:
        -1 for embeddings and all else before layer 0; 0 to L - 1 for the layers, from the bottom; L for all that comes
        after them (pooler, last norm, head) and for virtual tokens, which are in no layer.
    """
    stack = layers_of(model)
    inside = {id(parameter): depth for depth, layer in enumerate(stack) for parameter in layer.parameters()}
    depths: dict[str, int] = {}
    current = EMBEDDINGS
    for name, parameter in model.named_parameters():
        if id(parameter) in inside:
            current = len(stack)  # parameters that follow the layers and are in none are above them
        below = "embed" in name and "prompt_encoder" not in name
        depths[name] = inside.get(id(parameter), EMBEDDINGS if below else current)
    return depths


# ---------------------------------------------------------------------------------------------------- groups and rates


def create_optimizer(model: torch.nn.Module, config: TrainingConfig, learning_rate: float) -> torch.optim.Optimizer:
    """Create the optimizer; biases and norms don't decay, and lower layers may have lower learning rates.

    Args:
        model: parameters with `requires_grad` train.
        config: optimizer, weight_decay and layer_decay.
        learning_rate: the peak, for the top layer and all above it.

    Raises:
        ModelError: layer_decay is below 1 and the layers aren't found.
        RecipeError: layer_decay is below 1 and nothing below the top layer trains, or the optimizer needs CUDA.
    """
    check(config, next(model.parameters()).device)
    if config.layer_decay == 1:
        groups = _groups_by_decay(trainable_parameters(model), config.weight_decay)
    else:
        groups = _groups_by_rate(model, config, learning_rate)
    return _build_optimizer(choose_optimizer(config, next(model.parameters()).device), groups, learning_rate)


def choose_optimizer(config: TrainingConfig, device: torch.device) -> str:
    """The name of the optimizer; `auto` is paged 8-bit AdamW for QLoRA on CUDA, where memory is short, else AdamW."""
    if config.optimizer != "auto":
        return config.optimizer
    return "paged_adamw_8bit" if quantized_on_cuda(config, device) else "adamw"


def quantized_on_cuda(config: TrainingConfig, device: torch.device) -> bool:
    """Whether a training runs QLoRA on CUDA: then memory is assumed to be short."""
    return isinstance(config, FinetuneConfig) and config.method == "qlora" and device.type == "cuda"


def check(config: TrainingConfig, device: torch.device, where: str = "") -> None:
    """Refuse an optimizer that can't run on the device, before anything is loaded; `where` is a prefix for the message.

    Raises:
        RecipeError: an 8-bit optimizer on a device that is not CUDA.
        MissingExtraError: it needs a package that is not installed.
    """
    if not choose_optimizer(config, device).endswith("8bit"):
        return
    if device.type != "cuda":
        raise RecipeError(
            f"{where}optimizer: {config.optimizer} runs on CUDA only, and the device is {device.type}; take adamw"
        )
    require("bitsandbytes", f"for optimizer {config.optimizer}")


def _build_optimizer(name: str, groups: list[dict[str, Any]], learning_rate: float) -> torch.optim.Optimizer:
    if name == "adamw":
        return torch.optim.AdamW(groups, lr=learning_rate, fused=True)
    if name == "sgd":
        return torch.optim.SGD(groups, lr=learning_rate)
    bitsandbytes = require("bitsandbytes", f"for optimizer {name}")
    class_name = {"adamw_8bit": "AdamW8bit", "paged_adamw_8bit": "PagedAdamW8bit"}[name]
    optimizer: torch.optim.Optimizer = getattr(bitsandbytes.optim, class_name)(groups, lr=learning_rate)
    return optimizer


def _groups_by_decay(parameters: Iterable[Named], weight_decay: float) -> list[dict[str, Any]]:
    decay: list[torch.nn.Parameter] = []
    rest: list[torch.nn.Parameter] = []
    for name, parameter in parameters:
        (rest if any(word in name.lower() for word in NO_DECAY) else decay).append(parameter)
    return [{"params": decay, "weight_decay": weight_decay}, {"params": rest, "weight_decay": 0.0}]


def _groups_by_rate(model: torch.nn.Module, config: TrainingConfig, peak: float) -> list[dict[str, Any]]:
    """Parameter groups with rates peak * layer_decay ** (layers below the top), the fastest first.

    The rule of ELECTRA (Clark et al. 2020, appendix A) and BEiT: decay ** (L - 1 - l) for layer l of L, decay ** L for
    the embeddings, 1 for everything above the layers.
    """
    depth, top = layer_depths(model), len(layers_of(model)) - 1
    by_exponent: dict[int, list[Named]] = {}
    for name, parameter in trainable_parameters(model):
        by_exponent.setdefault(max(0, top - depth[name]), []).append((name, parameter))
    if not any(by_exponent):
        raise RecipeError("layer_decay: nothing below the top layer trains, so it has no effect; leave it at 1")
    groups: list[dict[str, Any]] = []
    for exponent, parameters in sorted(by_exponent.items()):
        rate = peak * config.layer_decay**exponent
        groups += [{**group, "lr": rate} for group in _groups_by_decay(parameters, config.weight_decay)]
    return [group for group in groups if group["params"]]


def _linear(optimizer: torch.optim.Optimizer, warmup: int, steps: int) -> Any:
    return get_linear_schedule_with_warmup(optimizer, warmup, steps)


def _cosine(optimizer: torch.optim.Optimizer, warmup: int, steps: int) -> Any:
    return get_cosine_schedule_with_warmup(optimizer, warmup, steps)


def _constant(optimizer: torch.optim.Optimizer, warmup: int, steps: int) -> Any:
    return get_constant_schedule_with_warmup(optimizer, warmup)


SCHEDULES = {"linear": _linear, "cosine": _cosine, "constant": _constant}


def create_schedule(optimizer: torch.optim.Optimizer, config: TrainingConfig, warmup: int, steps: int) -> Any:
    """Create the schedule: the rates rise during the warm-up and fall after it.

    Args:
        optimizer: each of its groups has its own peak rate.
        config: names the schedule.
        warmup: steps with a rising rate.
        steps: of the full training.
    """
    return SCHEDULES[config.schedule](optimizer, warmup, steps)


# ------------------------------------------------------------------------------------------------------------- freezing


def freeze(model: torch.nn.Module, layers: int) -> None:
    """Freeze the embeddings and the lowest layers, including their adapters.

    Args:
        model: before its optimizer is created.
        layers: how many; 0 freezes nothing, not even the embeddings.

    Raises:
        ModelError: the layers aren't found.
        RecipeError: the model has fewer layers, or nothing in them would train anyway.
    """
    if layers == 0:
        return
    total = len(layers_of(model))
    if layers > total:
        raise RecipeError(f"freeze_layers: {layers} is more than the {total} layers of the model; at most {total}")
    depth = layer_depths(model)
    frozen = [parameter for name, parameter in trainable_parameters(model) if depth[name] < layers]
    if not frozen:
        raise RecipeError(
            f"freeze_layers: nothing trains in the lowest {layers} of {total} layers anyway; leave it at 0"
        )
    for parameter in frozen:
        parameter.requires_grad_(False)


def unfreeze_gradually(model: torch.nn.Module, steps: int) -> BeforeStep:
    """Train the head alone first, then unfreeze one layer at a time from the top (ULMFiT, section 3.3).

    The steps are divided equally. The embeddings are unfrozen with the lowest layer. What trains depends on the step
    alone, so that a resume needs no state.

    Args:
        model: the parameters that have `requires_grad` now will train in the end.
        steps: of the full training.

    Raises:
        ModelError: the layers aren't found.
        RecipeError: only the head trains.
    """
    depth = layer_depths(model)
    placed = [(parameter, max(depth[name], 0)) for name, parameter in trainable_parameters(model)]
    stages = sorted({layer for _, layer in placed}, reverse=True)
    if len(stages) == 1:
        raise RecipeError("gradual_unfreezing: only the head trains, so there is nothing to unfreeze; switch it off")

    def before_step(step: int) -> None:
        lowest = stages[min(step * len(stages) // steps, len(stages) - 1)]
        for parameter, layer in placed:
            parameter.requires_grad_(layer >= lowest)

    return before_step

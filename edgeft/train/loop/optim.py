"""What trains, and how fast: groups of parameters, layer-wise rates, schedules, freezing and unfreezing."""

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

# Scales of IA3 and magnitudes of DoRA are drawn to what they were by nothing; decay would draw them to zero.
NO_DECAY = ("bias", "norm", "ia3_", "lora_magnitude")
EMBEDDINGS = -1  # the depth below layer 0

# (optimizer steps done) -> None; the loop calls it before each step
BeforeStep = Callable[[int], None]
Named = tuple[str, torch.nn.Parameter]


def as_it_is(step: int) -> None:
    """What trains stays the same."""


def trainable(model: torch.nn.Module) -> list[Named]:
    """The parameters that train, with their names."""
    return [(name, parameter) for name, parameter in model.named_parameters() if parameter.requires_grad]


# --------------------------------------------------------------------------------------------------------------- depths


def layers_of(model: torch.nn.Module) -> torch.nn.ModuleList:
    """The stack of layers of a plain or a peft model.

    Raises:
        ModelError: it isn't where the known models have theirs.
    """
    base: Any = model.get_base_model() if hasattr(model, "get_base_model") else model  # type: ignore[operator]
    return encoder_layers(base)


def depths(model: torch.nn.Module) -> dict[str, int]:
    """How deep each parameter lies, adapters included.

    Returns:
        -1 for embeddings and what else comes before layer 0; 0 to L - 1 for the layers, from the bottom; L for what
        comes after them (pooler, last norm, head) and for virtual tokens, which no layer has.
    """
    stack = layers_of(model)
    inside = {id(parameter): depth for depth, layer in enumerate(stack) for parameter in layer.parameters()}
    found: dict[str, int] = {}
    current = EMBEDDINGS
    for name, parameter in model.named_parameters():
        if id(parameter) in inside:
            current = len(stack)  # what follows the layers, and isn't in one, is above them
        below = "embed" in name and "prompt_encoder" not in name
        found[name] = inside.get(id(parameter), EMBEDDINGS if below else current)
    return found


# ---------------------------------------------------------------------------------------------------- groups and rates


def optimizer_for(model: torch.nn.Module, config: TrainingConfig, learning_rate: float) -> torch.optim.Optimizer:
    """The optimizer of the trainable parameters; biases and norms don't decay, lower layers may learn more slowly.

    Args:
        model: parameters with `requires_grad` train.
        config: optimizer, weight_decay and layer_decay.
        learning_rate: the peak, of the top layer and of all above it.

    Raises:
        ModelError: layer_decay is under 1 and the layers aren't found.
        RecipeError: layer_decay is under 1 and no layer trains below the top, or the optimizer needs another device.
    """
    check(config, next(model.parameters()).device)
    if config.layer_decay == 1:
        groups = _decayed_and_not(trainable(model), config.weight_decay)
    else:
        groups = _groups_by_rate(model, config, learning_rate)
    return _made(chosen(config, next(model.parameters()).device), groups, learning_rate)


def chosen(config: TrainingConfig, device: torch.device) -> str:
    """The optimizer, `auto` decided: in 8 bits, paged to the CPU where memory is short, for QLoRA on CUDA."""
    if config.optimizer != "auto":
        return config.optimizer
    return "paged_adamw_8bit" if quantized_on_cuda(config, device) else "adamw"


def quantized_on_cuda(config: TrainingConfig, device: torch.device) -> bool:
    """Whether memory is what a training is short of, as the choice of its method says."""
    return isinstance(config, FinetuneConfig) and config.method == "qlora" and device.type == "cuda"


def check(config: TrainingConfig, device: torch.device, where: str = "") -> None:
    """Whether the optimizer can run on a device, before anything is loaded; `where` precedes its name in an error.

    Raises:
        RecipeError: it is one of those in 8 bits, and the device isn't CUDA.
        MissingExtraError: it needs a package that is not installed.
    """
    if not chosen(config, device).endswith("8bit"):
        return
    if device.type != "cuda":
        raise RecipeError(
            f"{where}optimizer: {config.optimizer} runs on CUDA only, and the device is {device.type}; take adamw"
        )
    require("bitsandbytes", f"for optimizer {config.optimizer}")


def _made(name: str, groups: list[dict[str, Any]], learning_rate: float) -> torch.optim.Optimizer:
    if name == "adamw":
        return torch.optim.AdamW(groups, lr=learning_rate, fused=True)
    if name == "sgd":
        return torch.optim.SGD(groups, lr=learning_rate)
    bitsandbytes = require("bitsandbytes", f"for optimizer {name}")
    made = {"adamw_8bit": "AdamW8bit", "paged_adamw_8bit": "PagedAdamW8bit"}[name]
    optimizer: torch.optim.Optimizer = getattr(bitsandbytes.optim, made)(groups, lr=learning_rate)
    return optimizer


def _decayed_and_not(parameters: Iterable[Named], weight_decay: float) -> list[dict[str, Any]]:
    decay: list[torch.nn.Parameter] = []
    rest: list[torch.nn.Parameter] = []
    for name, parameter in parameters:
        (rest if any(word in name.lower() for word in NO_DECAY) else decay).append(parameter)
    return [{"params": decay, "weight_decay": weight_decay}, {"params": rest, "weight_decay": 0.0}]


def _groups_by_rate(model: torch.nn.Module, config: TrainingConfig, peak: float) -> list[dict[str, Any]]:
    """Groups from the fastest to the slowest: peak * layer_decay ** (layers below the top).

    The rule of ELECTRA (Clark et al. 2020, appendix A) and BEiT: decay ** (L - 1 - l) for layer l of L, decay ** L for
    the embeddings, 1 for what lies above the layers.
    """
    depth, top = depths(model), len(layers_of(model)) - 1
    by_exponent: dict[int, list[Named]] = {}
    for name, parameter in trainable(model):
        by_exponent.setdefault(max(0, top - depth[name]), []).append((name, parameter))
    if not any(by_exponent):
        raise RecipeError("layer_decay: nothing below the top layer trains, so it would do nothing; leave it at 1")
    groups: list[dict[str, Any]] = []
    for exponent, parameters in sorted(by_exponent.items()):
        rate = peak * config.layer_decay**exponent
        groups += [{**group, "lr": rate} for group in _decayed_and_not(parameters, config.weight_decay)]
    return [group for group in groups if group["params"]]


def _linear(optimizer: torch.optim.Optimizer, warmup: int, steps: int) -> Any:
    return get_linear_schedule_with_warmup(optimizer, warmup, steps)


def _cosine(optimizer: torch.optim.Optimizer, warmup: int, steps: int) -> Any:
    return get_cosine_schedule_with_warmup(optimizer, warmup, steps)


def _constant(optimizer: torch.optim.Optimizer, warmup: int, steps: int) -> Any:
    return get_constant_schedule_with_warmup(optimizer, warmup)


SCHEDULES = {"linear": _linear, "cosine": _cosine, "constant": _constant}


def schedule_for(optimizer: torch.optim.Optimizer, config: TrainingConfig, warmup: int, steps: int) -> Any:
    """How the rates rise over the warm-up and go down after it.

    Args:
        optimizer: each of its groups has a peak rate of its own.
        config: schedule.
        warmup: steps with a rising rate.
        steps: of the whole training.
    """
    return SCHEDULES[config.schedule](optimizer, warmup, steps)


# ------------------------------------------------------------------------------------------------------------- freezing


def freeze(model: torch.nn.Module, layers: int) -> None:
    """Keep the lowest layers, their adapters included, and the embeddings from training.

    Args:
        model: before its optimizer is made.
        layers: how many; 0: nothing is frozen, the embeddings neither.

    Raises:
        ModelError: the layers aren't found.
        RecipeError: the model has fewer layers, or nothing of them would have trained.
    """
    if layers == 0:
        return
    total = len(layers_of(model))
    if layers > total:
        raise RecipeError(
            f"freeze_layers: {layers} layers are to be frozen, and the model has {total}; at most {total}"
        )
    depth = depths(model)
    frozen = [parameter for name, parameter in trainable(model) if depth[name] < layers]
    if not frozen:
        raise RecipeError(
            f"freeze_layers: nothing trains in the lowest {layers} of {total} layers anyway; leave it at 0"
        )
    for parameter in frozen:
        parameter.requires_grad_(False)


def gradual_unfreezing(model: torch.nn.Module, steps: int) -> BeforeStep:
    """The head alone trains first, then one more layer from the top in equal parts of the steps (ULMFiT, section 3.3).

    The embeddings join the lowest layer. What trains follows from the step alone, so that a resume needs no state.

    Args:
        model: its parameters with `requires_grad` now are those that will train in the end.
        steps: of the whole training.

    Raises:
        ModelError: the layers aren't found.
        RecipeError: no layer trains at all.
    """
    depth = depths(model)
    placed = [(parameter, max(depth[name], 0)) for name, parameter in trainable(model)]
    stages = sorted({place for _, place in placed}, reverse=True)
    if len(stages) == 1:
        raise RecipeError("gradual_unfreezing: no layer trains, the head alone does; switch it off")

    def before_step(step: int) -> None:
        lowest = stages[min(step * len(stages) // steps, len(stages) - 1)]
        for parameter, place in placed:
            parameter.requires_grad_(place >= lowest)

    return before_step

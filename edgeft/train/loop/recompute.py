"""Gradient checkpointing: store only the input of each layer, and recompute its activations in the backward pass.

Chen et al. 2016. The activations need about the memory of one layer, at the cost of about a third more time. The random
state is stored with each input, so that dropout is repeated and the gradients are the same.
"""

from __future__ import annotations

from typing import Any

import torch

from edgeft.errors import RecipeError
from edgeft.recipe import TrainingConfig
from edgeft.train.loop.optim import quantized_on_cuda


def is_enabled(config: TrainingConfig, device: torch.device) -> bool:
    """Whether a training uses gradient checkpointing; if unset, only QLoRA on CUDA does, where memory is short."""
    setting = config.gradient_checkpointing
    return quantized_on_cuda(config, device) if setting is None else setting


def enable(model: torch.nn.Module, config: TrainingConfig, device: torch.device) -> None:
    """Enable gradient checkpointing, if the config asks for it.

    Args:
        model: of transformers, or wrapped by peft.
        config: of the training.
        device: where it trains.

    Raises:
        RecipeError: the model doesn't support it.
    """
    base: Any = model.get_base_model() if hasattr(model, "get_base_model") else model  # type: ignore[operator]
    if not is_enabled(config, device):
        return
    if not getattr(base, "supports_gradient_checkpointing", False):
        raise RecipeError(f"gradient_checkpointing: {type(base).__name__} doesn't support it; set it to false")
    # The newest transformers has renamed the method.
    enable = getattr(base, "activation_checkpointing_enable", None) or base.gradient_checkpointing_enable
    enable({"use_reentrant": False})

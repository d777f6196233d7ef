"""Gradient checkpointing: keep each layer's input alone, and compute what is inside anew in the backward pass.

Chen et al. 2016. The memory of the activations falls to about one layer's, for about a third more time; the random
state is kept with each input, so that dropout falls as it fell and the gradients are the same.
"""

from __future__ import annotations

from typing import Any

import torch

from edgeft.errors import RecipeError
from edgeft.recipe import TrainingConfig
from edgeft.train.loop.optim import quantized_on_cuda


def wanted(config: TrainingConfig, device: torch.device) -> bool:
    """Whether a training checkpoints; unset means where memory is short, for QLoRA on CUDA."""
    asked = config.gradient_checkpointing
    return quantized_on_cuda(config, device) if asked is None else asked


def switch(model: torch.nn.Module, config: TrainingConfig, device: torch.device) -> None:
    """Switch a model's gradient checkpointing on, where the config asks for it.

    Args:
        model: of transformers, or of peft around one.
        config: of the training.
        device: where it trains.

    Raises:
        RecipeError: the model can't.
    """
    base: Any = model.get_base_model() if hasattr(model, "get_base_model") else model  # type: ignore[operator]
    if not wanted(config, device):
        return
    if not getattr(base, "supports_gradient_checkpointing", False):
        raise RecipeError(f"gradient_checkpointing: {type(base).__name__} has none; set it to false")
    # By the name that every supported version of transformers has; the newest wants another one.
    enable = getattr(base, "activation_checkpointing_enable", None) or base.gradient_checkpointing_enable
    enable({"use_reentrant": False})

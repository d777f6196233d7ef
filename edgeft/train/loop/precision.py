"""Precision of a training: fp32, or bf16 and fp16 with autocast; weights and optimizer states stay in fp32."""

from __future__ import annotations

import contextlib
from contextlib import AbstractContextManager
from typing import Any

import torch

from edgeft.errors import RecipeError

DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16, "fp32": None}


def dtype_of(precision: str, device: torch.device) -> torch.dtype | None:
    """The dtype of the forward pass.

    Args:
        precision: `auto` is bf16 on a GPU that supports it, fp16 on other GPUs, fp32 on a CPU.
        device: where the model is.

    Returns:
        None for float32.

    Raises:
        RecipeError: fp16 on a CPU.
    """
    if precision == "auto":
        if device.type != "cuda":
            return None
        return torch.bfloat16 if torch.cuda.is_bf16_supported(including_emulation=False) else torch.float16
    if precision == "fp16" and device.type == "cpu":
        raise RecipeError("precision: fp16 trains on a GPU only, and this is a CPU; take bf16 or fp32")
    return DTYPES[precision]


class Arithmetic:
    """Forward pass, backward pass and optimizer step in a precision.

    Args:
        precision: as in the config.
        device: where the model is.

    Attributes:
        scaler: keeps small fp16 gradients from underflowing; disabled in other precisions.
    """

    def __init__(self, precision: str, device: torch.device) -> None:
        self.device, self.dtype = device, dtype_of(precision, device)
        self.scaler = torch.amp.GradScaler(device.type, enabled=self.dtype == torch.float16)

    def forward(self) -> AbstractContextManager[Any]:
        """The context of a forward pass."""
        return contextlib.nullcontext() if self.dtype is None else torch.autocast(self.device.type, dtype=self.dtype)

    def backward(self, loss: torch.Tensor) -> None:
        """Run the backward pass of a scalar loss."""
        scaled: torch.Tensor = self.scaler.scale(loss)
        scaled.backward()

    def step(self, optimizer: torch.optim.Optimizer, model: torch.nn.Module, max_grad_norm: float) -> None:
        """Clip the gradients and step; in fp16 a step with overflowed gradients is skipped and the scale lowered."""
        self.scaler.unscale_(optimizer)
        torch.nn.utils.clip_grad_norm_(model.parameters(), max_grad_norm)
        self.scaler.step(optimizer)
        self.scaler.update()

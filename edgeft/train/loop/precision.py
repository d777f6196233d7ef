"""The arithmetic of a training: fp32, or bf16 and fp16 under autocast; weights and optimizer stay in fp32."""

from __future__ import annotations

import contextlib
from contextlib import AbstractContextManager
from typing import Any

import torch

from edgeft.errors import RecipeError

DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16, "fp32": None}


def dtype_of(precision: str, device: torch.device) -> torch.dtype | None:
    """What the forward pass computes in.

    Args:
        precision: `auto` is bf16 on a GPU that has it, fp16 on other GPUs, fp32 on a CPU.
        device: where the model is.

    Returns:
        None for plain float32.

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
    """How the passes of a training compute.

    Args:
        precision: as in the config.
        device: where the model is.

    Attributes:
        scaler: keeps fp16's small gradients from vanishing; for other arithmetic it passes all through.
    """

    def __init__(self, precision: str, device: torch.device) -> None:
        self.device, self.dtype = device, dtype_of(precision, device)
        self.scaler = torch.amp.GradScaler(device.type, enabled=self.dtype == torch.float16)

    def forward(self) -> AbstractContextManager[Any]:
        """The context of a forward pass."""
        return contextlib.nullcontext() if self.dtype is None else torch.autocast(self.device.type, dtype=self.dtype)

    def backward(self, loss: torch.Tensor) -> None:
        """The backward pass from a loss ()."""
        scaled: torch.Tensor = self.scaler.scale(loss)
        scaled.backward()

    def step(self, optimizer: torch.optim.Optimizer, model: torch.nn.Module, max_grad_norm: float) -> None:
        """Clip and step; under fp16 a step whose gradients overflowed is left out, and the scale goes down."""
        self.scaler.unscale_(optimizer)
        torch.nn.utils.clip_grad_norm_(model.parameters(), max_grad_norm)
        self.scaler.step(optimizer)
        self.scaler.update()

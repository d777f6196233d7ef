"""Weights in 4 bits: how they are loaded, computed with and turned back."""

from __future__ import annotations

from typing import Any

import torch

from edgeft.errors import require
from edgeft.train.loop.precision import dtype_of


def nf4_config(precision: str, device: torch.device, skip: list[str]) -> Any:
    """NF4 with double quantization, computing in the precision of the training.

    Args:
        precision: of the training.
        device: where the model goes.
        skip: names of modules that stay in full precision.

    Raises:
        MissingExtraError: bitsandbytes is not installed.
    """
    require("bitsandbytes", "for method qlora")
    from transformers import BitsAndBytesConfig

    return BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=dtype_of(precision, device) or torch.float32,
        llm_int8_skip_modules=skip,
    )


def keep_trainable(model: torch.nn.Module) -> None:
    """On CPUs with AVX512-BF16 a 4-bit layer repacks itself at its first evaluation, and can't train after it."""
    layer: Any
    for layer in model.modules():
        if hasattr(layer, "support_avx512bf16_for_cpu"):
            layer.support_avx512bf16_for_cpu = False


def compute_in_float32(model: torch.nn.Module) -> None:
    """Let 4-bit layers multiply in float32 from now on: what a merge is compared with must not round to bfloat16."""
    layer: Any
    for layer in model.modules():
        if type(layer).__name__ == "Linear4bit" and hasattr(layer, "compute_dtype"):
            layer.compute_dtype = torch.float32


def _bytes(module: Any) -> torch.Tensor:
    """A layer's weights as they are packed; of one that was split among processes, the whole."""
    found: torch.Tensor = getattr(module, "edgeft_whole", module.weight.data)
    return found


def _state(module: Any) -> Any:
    """How a layer's bytes are read; weights that were split and put together again have lost it, the layer has not."""
    return getattr(module.weight, "quant_state", None) or module.quant_state


def copy_dequantized(quantized: torch.nn.Module, plain: torch.nn.Module) -> None:
    """Overwrite the linear weights of `plain` with what the NF4 layers of `quantized` stand for."""
    functional = require("bitsandbytes.functional", "for method qlora")
    targets = dict(plain.named_modules())
    with torch.no_grad():
        for name, module in quantized.named_modules():
            if type(module).__name__ == "Linear4bit" and hasattr(module, "quant_state"):
                dense = functional.dequantize_4bit(_bytes(module), _state(module))
                target = targets[name.removesuffix(".base_layer")]
                # GPT-2's Conv1D keeps the transpose of what a linear layer keeps.
                target.weight.copy_((dense.T if type(target).__name__ == "Conv1D" else dense).float().cpu())

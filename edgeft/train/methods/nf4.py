"""4-bit weights (NF4): loading, the precision of computations, and dequantization."""

from __future__ import annotations

from typing import Any

import torch

from edgeft.errors import require
from edgeft.train.loop.precision import dtype_of


def nf4_config(precision: str, device: torch.device, skip: list[str]) -> Any:
    """NF4 with double quantization, computing in the precision of the training.

    Args:
        precision: of the training.
        device: where the model will be.
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
    """Keep 4-bit layers from repacking themselves on CPUs with AVX512-BF16, after which they can't train."""
    layer: Any
    for layer in model.modules():
        if hasattr(layer, "support_avx512bf16_for_cpu"):
            layer.support_avx512bf16_for_cpu = False


def compute_in_float32(model: torch.nn.Module) -> None:
    """Let 4-bit layers compute in float32: the reference for a merge must not be rounded to bfloat16."""
    layer: Any
    for layer in model.modules():
        if type(layer).__name__ == "Linear4bit" and hasattr(layer, "compute_dtype"):
            layer.compute_dtype = torch.float32


def _packed_weights(module: Any) -> torch.Tensor:
    """A layer's packed weights; of a sharded layer, the gathered ones."""
    packed: torch.Tensor = getattr(module, "edgeft_whole", module.weight.data)
    return packed


def _quantization_state(module: Any) -> Any:
    """A layer's quantization state; gathered weights have lost theirs, so the layer's own is used."""
    return getattr(module.weight, "quant_state", None) or module.quant_state


def copy_dequantized(quantized: torch.nn.Module, plain: torch.nn.Module) -> None:
    """Overwrite the linear weights of `plain` with the dequantized NF4 weights of `quantized`."""
    functional = require("bitsandbytes.functional", "for method qlora")
    targets = dict(plain.named_modules())
    with torch.no_grad():
        for name, module in quantized.named_modules():
            if type(module).__name__ == "Linear4bit" and hasattr(module, "quant_state"):
                dense = functional.dequantize_4bit(_packed_weights(module), _quantization_state(module))
                target = targets[name.removesuffix(".base_layer")]
                # GPT-2's Conv1D stores the transpose of a linear layer's weight.
                target.weight.copy_((dense.T if type(target).__name__ == "Conv1D" else dense).float().cpu())

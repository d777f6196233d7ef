"""Fine-tuning methods: which weights train, and how they become one plain model again."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import torch

from edgeft import models
from edgeft.errors import GateError, require
from edgeft.recipe import FinetuneConfig

ADAPTER = "adapter"
# Peak learning rates where the recipe names none.
LEARNING_RATES = {"full": 5e-5, "lora": 1e-3, "qlora": 1e-3}
# Heads and poolers of sequence classifiers: they stay out of 4 bits, and the head trains whole.
HEADS = ("classifier", "score", "pre_classifier", "pooler")


def nf4_config(device: torch.device) -> Any:
    """NF4 with double quantization; heads stay in full precision.

    Raises:
        MissingExtraError: bitsandbytes is not installed.
    """
    require("bitsandbytes", "for method qlora")
    from transformers import BitsAndBytesConfig

    return BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=torch.bfloat16 if device.type == "cuda" else torch.float32,
        llm_int8_skip_modules=[*HEADS, "lm_head"],
    )


def load(config: FinetuneConfig, source: str, labels: list[str], device: torch.device) -> Any:
    """The model as the method wants it: plain for full and LoRA, NF4 for QLoRA."""
    models.seed_everything(config.seed or 0)
    quantization = nf4_config(device) if config.method == "qlora" else None
    model = models.load_classifier(source, labels, quantization_config=quantization, device=device)
    for module in model.modules():
        # On CPUs with AVX512-BF16 a 4-bit layer repacks itself at its first evaluation, and can't train after it.
        if hasattr(module, "support_avx512bf16_for_cpu"):
            module.support_avx512bf16_for_cpu = False
    return model


def heads_of(model: torch.nn.Module) -> list[str]:
    """Names of the classification head's modules, which train whole under LoRA."""
    return [name for name, _ in model.named_children() if name in HEADS and name != "pooler"]


def with_adapter(model: Any, config: FinetuneConfig) -> Any:
    """The model with trainable LoRA matrices on every linear layer of its body, and a trainable head."""
    from peft import LoraConfig, TaskType, get_peft_model, prepare_model_for_kbit_training

    lora = LoraConfig(
        task_type=TaskType.SEQ_CLS,
        r=config.lora_rank,
        lora_alpha=config.lora_alpha,
        lora_dropout=config.lora_dropout,
        target_modules="all-linear",
        modules_to_save=heads_of(model),
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # peft asks transformers by an older name
        if config.method == "qlora":
            model = prepare_model_for_kbit_training(model, use_gradient_checkpointing=False)
        return get_peft_model(model, lora)


def prepare(config: FinetuneConfig, source: str, labels: list[str], device: torch.device) -> Any:
    """The model ready to train.

    Raises:
        ModelError: the folder can't be used, or the method doesn't fit it.
    """
    model = load(config, source, labels, device)
    return model if config.method == "full" else with_adapter(model, config)


def compute_in_float32(model: torch.nn.Module) -> None:
    """Let 4-bit layers multiply in float32 from now on: what a merge is compared with must not round to bfloat16."""
    layer: Any
    for layer in model.modules():
        if type(layer).__name__ == "Linear4bit" and hasattr(layer, "compute_dtype"):
            layer.compute_dtype = torch.float32


def merge(model: Any, config: FinetuneConfig, source: str, labels: list[str], folder: Path) -> Any:
    """Fold the trained adapter into plain fp32 weights.

    For QLoRA the base is the de-quantized NF4 base that the adapter was trained on, in fp32: merging into the
    original weights, or back into 4 bits, would be another model than the one that was validated.

    Args:
        model: the trained adapter model, untouched.
        config: of the fine-tuning.
        source: of the base.
        labels: of the task.
        folder: where the adapter is kept, under `adapter/`.
    """
    if config.method == "full":
        return model
    from peft import PeftModel

    model.save_pretrained(folder / ADAPTER)
    models.seed_everything(config.seed or 0)
    base = models.load_classifier(source, labels)
    if config.method == "qlora":
        copy_dequantized(model.get_base_model(), base)
    merged = PeftModel.from_pretrained(base, folder / ADAPTER).merge_and_unload()
    return merged.to(next(model.parameters()).device)


def copy_dequantized(quantized: torch.nn.Module, plain: torch.nn.Module) -> None:
    """Overwrite the linear weights of `plain` with what the NF4 layers of `quantized` stand for."""
    functional = require("bitsandbytes.functional", "for method qlora")
    targets = dict(plain.named_modules())
    with torch.no_grad():
        for name, module in quantized.named_modules():
            if type(module).__name__ == "Linear4bit" and hasattr(module, "quant_state"):
                weight = module.weight
                dense = functional.dequantize_4bit(weight.data, weight.quant_state)
                targets[name.removesuffix(".base_layer")].weight.copy_(dense.float().cpu())


def check_merge(before: Any, after: Any, tolerance: float) -> float:
    """Compare the merged model's logits with the adapter model's.

    Args:
        before: logits of the adapter model, (rows, labels).
        after: logits of the merged model, (rows, labels).
        tolerance: largest difference allowed, relative to the largest logit.

    Returns:
        The relative difference found.

    Raises:
        GateError: it is over the tolerance.
    """
    difference = float(abs(before - after).max() / max(abs(before).max(), 1e-12))
    if not difference <= tolerance:
        raise GateError(
            f"merge: logits of the merged model differ from the adapter's by {difference:.2e} of the largest logit, "
            f"allowed are {tolerance:.0e}; no model was kept"
        )
    return difference

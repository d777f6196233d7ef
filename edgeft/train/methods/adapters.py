"""Preparing a model for a fine-tuning method: which weights train, and in what precision the others are stored."""

from __future__ import annotations

import math
import re
import warnings
from typing import Any

import torch

from edgeft.errors import ModelError
from edgeft.models import devices, model_folder
from edgeft.recipe import FinetuneConfig
from edgeft.train.defaults import VIRTUAL
from edgeft.train.methods import virtual
from edgeft.train.methods.fit import ia3_layers
from edgeft.train.methods.nf4 import keep_trainable, nf4_config

# Heads and poolers of sequence classifiers: they are not quantized to 4 bits, and all weights of the head train.
HEADS = ("classifier", "score", "pre_classifier", "pooler", "qa_outputs")


def load(config: FinetuneConfig, source: str, head: model_folder.Head, device: torch.device) -> Any:
    """Load the model without adapters: in NF4 for QLoRA, else in plain weights."""
    devices.seed_everything(config.seed or 0)
    quantization = nf4_config(config.precision, device, [*HEADS, "lm_head"]) if config.method == "qlora" else None
    model = model_folder.load(source, head, quantization_config=quantization, device=device, dropout=config.dropout)
    keep_trainable(model)
    return model


def prepare(config: FinetuneConfig, model: Any, task: str | None) -> Any:
    """Prepare a loaded model for training.

    Args:
        config: of the fine-tuning.
        model: of `load`.
        task: peft's name of the task.

    Raises:
        ModelError: the method doesn't fit the model.
    """
    if config.method == "full":
        return model
    return freeze_encoder(model) if config.method == "head" else add_adapter(model, config, task)


def freeze_encoder(model: Any) -> Any:
    """Freeze the model except for its head.

    A pooler counts as part of the head: BERT has in the encoder what RoBERTa and DistilBERT have in the head, and a
    checkpoint without a pooler gets a random one.
    """
    for name, parameter in model.base_model.named_parameters():
        parameter.requires_grad_("pooler" in name.split("."))
    return model


def head_modules(model: torch.nn.Module) -> list[str]:
    """Names of the classification head's modules, whose weights all train beside an adapter."""
    return [name for name, _ in model.named_children() if name in HEADS and name != "pooler"]


def add_adapter(model: Any, config: FinetuneConfig, task: str | None) -> Any:
    """Add an adapter to the model's body; all weights of the head train, too.

    Raises:
        ModelError: peft finds no layer for the adapter.
    """
    from peft import get_peft_model, prepare_model_for_kbit_training

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # peft uses an older name of transformers
        if config.method == "qlora":
            model = prepare_model_for_kbit_training(model, use_gradient_checkpointing=False)
        try:
            adapted = get_peft_model(model, adapter_config(model, config, task))
        except (ValueError, TypeError) as error:
            reason = next(iter(str(error).splitlines()), type(error).__name__)
            raise ModelError(f"finetune.method={config.method} on {model.config.model_type}: {reason}") from error
    if config.method in VIRTUAL:
        virtual.hide_virtual_outputs(adapted, task)
    return adapted


def adapter_config(model: Any, config: FinetuneConfig, task: str | None) -> Any:
    """peft's config of the adapter.

    (IA)^3 scales keys, values and feed-forward inputs; LoRA's matrices and PEANuT's bottlenecks are on every linear
    layer; virtual tokens are in front of the text.
    """
    from peft import IA3Config, LoraConfig, PeanutConfig

    heads = head_modules(model)
    if config.method in VIRTUAL:
        return virtual.peft_config(model, config, task, heads)
    # (IA)^3 and PEANuT get no task type: with one, peft saves the head as one module, and their merge fails if the head
    # has several layers.
    single = [f"{head}.{layer}".rstrip(".") for head in heads for layer in parameter_modules(model, head)]
    if config.method == "ia3":
        layers = ia3_layers(model.config.model_type)
        inputs = list(layers.inputs)
        return IA3Config(target_modules=list(layers.modules), feedforward_modules=inputs, modules_to_save=single)
    # Otherwise a head of several layers (RoBERTa's, DistilBERT's) gets an adapter, although all its weights train.
    outside = rf"({'|'.join(map(re.escape, heads))})(\..*)?" if heads else None
    if config.method == "peanut":
        options = {"exclude_modules": outside, "modules_to_save": single}
        return PeanutConfig(r=config.lora_rank, target_modules="all-linear", **options)
    return LoraConfig(
        task_type=task,
        r=config.lora_rank,
        lora_alpha=config.lora_alpha,
        lora_dropout=config.lora_dropout,
        use_dora=config.method == "dora",
        use_rslora=config.method == "rslora",
        target_modules="all-linear",
        exclude_modules=outside,
        modules_to_save=heads or None,
    )


def parameter_modules(model: torch.nn.Module, head: str) -> list[str]:
    """Names of the head's modules that have parameters, relative to the head; "" for the head itself."""
    inside = model.get_submodule(head).named_modules()
    return [name for name, module in inside if next(module.parameters(recurse=False), None) is not None]


def parameter_counts(model: torch.nn.Module) -> dict[str, float]:
    """Count the parameters of a model and those that train.

    Returns:
        `trainable_parameters`, `parameters` (without the frozen copies of trainable heads) and `trainable_share`.
    """
    sizes = [
        (_count_weights(parameter), parameter.requires_grad)
        for name, parameter in model.named_parameters()
        if "original_module" not in name.split(".")
    ]
    total, trainable = sum(size for size, _ in sizes), sum(size for size, trains in sizes if trains)
    return {"trainable_parameters": trainable, "parameters": total, "trainable_share": trainable / total}


def _count_weights(parameter: Any) -> int:
    """The number of weights in a parameter; in 4 bits each byte has two of them."""
    state = getattr(parameter, "quant_state", None)
    return parameter.numel() if state is None else math.prod(state.shape)

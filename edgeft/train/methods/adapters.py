"""The model as a method wants it: which weights train, and how the rest is kept."""

from __future__ import annotations

import math
import re
import warnings
from typing import Any

import torch

from edgeft.errors import ModelError
from edgeft.models import model_folder
from edgeft.recipe import FinetuneConfig
from edgeft.train.defaults import VIRTUAL
from edgeft.train.methods import virtual
from edgeft.train.methods.fit import scaled
from edgeft.train.methods.nf4 import keep_trainable, nf4_config

# Heads and poolers of sequence classifiers: they stay out of 4 bits, and the head trains whole.
HEADS = ("classifier", "score", "pre_classifier", "pooler", "qa_outputs")


def load(config: FinetuneConfig, source: str, head: model_folder.Head, device: torch.device) -> Any:
    """The model before anything is added: in NF4 for QLoRA, else plain."""
    model_folder.seed_everything(config.seed or 0)
    quantization = nf4_config(config.precision, device, [*HEADS, "lm_head"]) if config.method == "qlora" else None
    model = model_folder.load(source, head, quantization_config=quantization, device=device, dropout=config.dropout)
    keep_trainable(model)
    return model


def prepare(config: FinetuneConfig, model: Any, task: str | None) -> Any:
    """A loaded model made ready to train.

    Args:
        config: of the fine-tuning.
        model: of `load`.
        task: peft's name of it.

    Raises:
        ModelError: the method doesn't fit the model.
    """
    if config.method == "full":
        return model
    return with_frozen_encoder(model) if config.method == "head" else with_adapter(model, config, task)


def with_frozen_encoder(model: Any) -> Any:
    """The model, of which the head alone trains.

    A pooler counts as head: BERT keeps inside the encoder what RoBERTa and DistilBERT have in the head, and a
    checkpoint without one gets a random one.
    """
    for name, parameter in model.base_model.named_parameters():
        parameter.requires_grad_("pooler" in name.split("."))
    return model


def heads_of(model: torch.nn.Module) -> list[str]:
    """Names of the classification head's modules, which train whole beside an adapter."""
    return [name for name, _ in model.named_children() if name in HEADS and name != "pooler"]


def with_adapter(model: Any, config: FinetuneConfig, task: str | None) -> Any:
    """The model with an adapter in its body, and a head that trains whole.

    Raises:
        ModelError: peft finds no place for the adapter.
    """
    from peft import get_peft_model, prepare_model_for_kbit_training

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # peft asks transformers by an older name
        if config.method == "qlora":
            model = prepare_model_for_kbit_training(model, use_gradient_checkpointing=False)
        try:
            made = get_peft_model(model, adapter_config(model, config, task))
        except (ValueError, TypeError) as error:
            reason = next(iter(str(error).splitlines()), type(error).__name__)
            raise ModelError(f"finetune.method={config.method} on {model.config.model_type}: {reason}") from error
    if config.method in VIRTUAL:
        virtual.hide_answers(made, task)
    return made


def adapter_config(model: Any, config: FinetuneConfig, task: str | None) -> Any:
    """What peft is to add.

    (IA)^3's scales stand on keys, values and feed-forward inputs, LoRA's matrices and PEANuT's bottlenecks on every
    linear layer, virtual tokens in front of the text.
    """
    from peft import IA3Config, LoraConfig, PeanutConfig

    heads = heads_of(model)
    if config.method in VIRTUAL:
        return virtual.peft_config(model, config, task, heads)
    # For (IA)^3 and PEANuT without a task type, which would make peft save a head as one module: their merge then
    # fails on a head of several layers.
    single = [f"{head}.{layer}".rstrip(".") for head in heads for layer in layers_of(model, head)]
    if config.method == "ia3":
        places = scaled(model.config.model_type)
        inputs = list(places.inputs)
        return IA3Config(target_modules=list(places.modules), feedforward_modules=inputs, modules_to_save=single)
    # Else a head of several layers (RoBERTa's, DistilBERT's) gets an adapter inside of what trains whole.
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


def layers_of(model: torch.nn.Module, head: str) -> list[str]:
    """Names, below the head's, of its modules with parameters of their own; "" for the head itself."""
    inside = model.get_submodule(head).named_modules()
    return [name for name, module in inside if next(module.parameters(recurse=False), None) is not None]


def parameter_counts(model: torch.nn.Module) -> dict[str, float]:
    """How much of a model trains.

    Returns:
        `trainable_parameters`, `parameters` (without the frozen copies of heads that train) and `trainable_share`.
    """
    sizes = [
        (_size(parameter), parameter.requires_grad)
        for name, parameter in model.named_parameters()
        if "original_module" not in name.split(".")
    ]
    total, trainable = sum(size for size, _ in sizes), sum(size for size, trains in sizes if trains)
    return {"trainable_parameters": trainable, "parameters": total, "trainable_share": trainable / total}


def _size(parameter: Any) -> int:
    """Weights that a parameter stands for; in 4 bits it holds two of them in each byte."""
    state = getattr(parameter, "quant_state", None)
    return parameter.numel() if state is None else math.prod(state.shape)

"""Checks whether method, options, task and model go together, from config.json alone."""

from __future__ import annotations

from dataclasses import dataclass, replace

import psutil
import torch

from edgeft.errors import ModelError, RecipeError, require
from edgeft.models.hub import DEMO
from edgeft.models.model_facts import Facts
from edgeft.recipe import FinetuneConfig, spell_option
from edgeft.train.defaults import SHORTEST, VIRTUAL
from edgeft.train.methods import virtual
from edgeft.train.tasks import TrainingTask

# Methods that can't be merged into a plain model, and why.
NOT_PLAIN = {"prefix": "the keys and values that it learns for every layer come from no token and no weight"}
DEFAULTS = FinetuneConfig()
BYTES = {"qlora": 0.5}  # of a weight in memory; otherwise 4 on a CPU and 2 on a GPU
NEEDS = {"full": (), "head": (), "qlora": ("peft", "bitsandbytes")}


@dataclass(frozen=True)
class IA3Layers:
    """The layers that (IA)^3 scales in a model.

    Attributes:
        modules: linear layers, by the ends of their names.
        inputs: those of them whose inputs are scaled instead of their outputs.
    """

    modules: tuple[str, ...]
    inputs: tuple[str, ...]


_BERT = IA3Layers(("key", "value", "output.dense"), ("output.dense",))
# Keys, values and the input of the second feed-forward layer, for models without a default in peft.
_IA3_LAYERS = {
    "albert": IA3Layers(("key", "value", "ffn_output"), ("ffn_output",)),
    "camembert": _BERT,
    "distilbert": IA3Layers(("k_lin", "v_lin", "lin2"), ("lin2",)),
    "electra": _BERT,
    # Queries, keys and values share one matrix, which is scaled as a whole; peft does the same for such models.
    "modernbert": IA3Layers(("attn.Wqkv", "mlp.Wo"), ("mlp.Wo",)),
    "mpnet": IA3Layers(("attn.k", "attn.v", "output.dense"), ("output.dense",)),
    "xlm-roberta": _BERT,
}


def ia3_layers(kind: str) -> IA3Layers:
    """The layers that (IA)^3 scales in models of this `model_type`.

    Raises:
        ModelError: neither peft nor `_IA3_LAYERS` has the type.
    """
    if kind in _IA3_LAYERS:
        return _IA3_LAYERS[kind]
    known = require("peft.utils.constants", "for method ia3")
    modules = known.TRANSFORMERS_MODELS_TO_IA3_TARGET_MODULES_MAPPING
    if kind not in modules:
        raise ModelError(
            f"finetune.method=ia3: edgeft does not know which layers to scale in a {kind} model; take lora, "
            f"or a model of {', '.join(sorted({*_IA3_LAYERS, 'bert', 'roberta', 'deberta-v2'}))}"
        )
    inputs = known.TRANSFORMERS_MODELS_TO_IA3_FEEDFORWARD_MODULES_MAPPING
    return IA3Layers(tuple(modules[kind]), tuple(inputs.get(kind, ())))


def check(config: FinetuneConfig, facts: Facts, task: type[TrainingTask]) -> None:
    """Check, before anything is loaded, that the method can train the model and be merged into a plain one.

    Args:
        config: of the fine-tuning.
        facts: `models.facts` of its model.
        task: that it is trained for.

    Raises:
        RecipeError: the method can't be merged into a plain model, or an option has no effect with it.
        ModelError: the method doesn't support the model's architecture.
        MissingExtraError: the method needs a package that is not installed.
    """
    if config.method in NOT_PLAIN:
        raise RecipeError(
            f"finetune.method={config.method}: can't be merged into a plain model, which the exporter needs: "
            f"{NOT_PLAIN[config.method]}; take prompt, p_tuning or lora"
        )
    for module in NEEDS.get(config.method, ("peft",)):
        require(module, f"for method {config.method}")
    check_memory(config, facts)
    if config.packing and not task.packs:
        raise RecipeError(f"finetune.packing: has no effect for {task.form.name} rows; leave it off")
    check_refused(config, task)
    check_head(facts, task)
    if (config.max_length or 0) > facts.positions:
        raise ModelError(
            f"finetune.max_length={config.max_length} is more than the model's {facts.positions} positions"
        )
    if config.label_smoothing and not task.smooths:
        raise RecipeError(f"finetune.label_smoothing: has no effect for {task.form.name} rows; leave it at 0")
    if config.dropout is not None and not facts.drops:
        raise ModelError(f"finetune.dropout: a {facts.kind} model has no dropout that edgeft can set; leave it unset")
    if config != reset_unused_options(config):
        idle = next(name for name in unused_lora_options(config) if getattr(config, name) != getattr(DEFAULTS, name))
        usual = getattr(DEFAULTS, idle)
        raise RecipeError(f"finetune.{idle}: has no effect with method {config.method}; leave it at {usual}")
    if config.method == "ia3":
        ia3_layers(facts.kind)
    check_virtual(config, facts, task)
    if config.freeze_layers > facts.layers:
        raise RecipeError(
            f"finetune.freeze_layers: {config.freeze_layers} is more than the {facts.layers} layers of the model; "
            f"at most {facts.layers}"
        )
    if config.method == "head" and unused_head_options(config):
        idle = ", ".join(unused_head_options(config))
        raise RecipeError(f"finetune.method=head: no layer trains, so {idle} would have no effect; leave it unset")


def check_head(facts: Facts, task: type[TrainingTask], option: str = "finetune.model") -> None:
    """Check that the model can have the head that the task needs.

    Args:
        facts: of the model.
        task: that the head is for.
        option: that names the model, for the message.

    Raises:
        ModelError: an encoder for text generation, a decoder for text pairs, or no such head in transformers.
    """
    rows = task.form.name
    if task.auto == "AutoModelForCausalLM" and (facts.reads_only or task.auto not in facts.heads):
        what = "an encoder, which can't generate text" if facts.reads_only else "not a causal language model"
        raise ModelError(
            f"{option}: a {facts.kind} model is {what}; {rows} rows need a causal language model, such as "
            "HuggingFaceTB/SmolLM2-135M-Instruct, or choose a task with labels, such as text-classification"
        )
    if task.auto == "AutoModelForSeq2SeqLM" and task.auto not in facts.heads:
        raise ModelError(
            f"{option}: a {facts.kind} model is not an encoder-decoder, which {rows} rows need; take one, such as "
            "google-t5/t5-small, or name the columns prompt and completion for text-generation"
        )
    if task.auto not in facts.heads:
        raise ModelError(
            f"{option}: transformers has no {task.auto.removeprefix('AutoModelFor')} head for {facts.kind} models, "
            f"which {rows} rows need; take an encoder, such as {DEMO}"
        )


def check_memory(config: FinetuneConfig, facts: Facts) -> None:
    """Check that the weights alone fit into the memory of the machine and its GPUs.

    Raises:
        ModelError: they don't; the message has both numbers.
    """
    on_gpu = sum(torch.cuda.get_device_properties(index).total_memory for index in range(torch.cuda.device_count()))
    available = psutil.virtual_memory().total + psutil.swap_memory().total + on_gpu
    width = BYTES.get(config.method, 2 if on_gpu else 4)
    if width * facts.elements > available:
        lighter = "" if config.method == "qlora" else f" or {spell_option('finetune.method', 'qlora')}"
        raise ModelError(
            f"finetune.model: its weights take {width * facts.elements / 1e9:,.1f} GB with method {config.method}, but "
            f"this machine has {available / 1e9:,.1f} GB of memory; take a smaller model{lighter}"
        )


def check_virtual(config: FinetuneConfig, facts: Facts, task: type[TrainingTask]) -> None:
    """Check that virtual tokens can be merged into the model's vocabulary, and that it has positions for them.

    Raises:
        RecipeError: the task can't have them, there are too few positions, or the method has none.
        ModelError: the merge is not known to be exact for this architecture.
    """
    if config.method not in VIRTUAL:
        if config.virtual_tokens is not None:
            raise RecipeError(f"finetune.virtual_tokens: has no effect with method {config.method}; leave it unset")
        return
    if task.lays_windows:
        raise RecipeError(
            f"finetune.method={config.method}: long contexts are split into windows by max_length, and merged virtual "
            "tokens count in it, so the windows would differ from those in training; take lora"
        )
    if task.adapter not in ("SEQ_CLS", "TOKEN_CLS"):
        raise RecipeError(
            f"finetune.method={config.method}: is for encoders; virtual tokens are at the beginning of a sequence, but "
            "in a generative model a text may follow other texts or a template; take lora"
        )
    if facts.kind not in virtual.ENCODERS:
        raise ModelError(
            f"finetune.method={config.method}: edgeft does not know whether virtual tokens can be merged into a "
            f"{facts.kind} model without changing its answers; take lora, or a model of {', '.join(virtual.ENCODERS)}"
        )
    count, length = virtual.count_tokens(config), config.max_length or SHORTEST
    if length + count > facts.positions:
        raise RecipeError(
            f"finetune.max_length: {length} tokens of text and {count} virtual tokens are {length + count}, but "
            f"the model has {facts.positions} positions; at most {facts.positions - count}"
        )


def check_refused(config: FinetuneConfig, task: type[TrainingTask]) -> None:
    """Check that the model has a separate head, if a method or an option needs one.

    Raises:
        RecipeError: it has none.
    """
    options: dict[str, str] = {config.method: f"method={config.method}"}
    if config.gradual_unfreezing:
        options["gradual_unfreezing"] = "gradual_unfreezing"
    for name, shown in options.items():
        if name in task.refuses:
            raise RecipeError(
                f"finetune.{shown}: a model for {task.form.name} rows has no head apart from its word "
                "embeddings that could train first or alone; take full, lora, dora, rslora, qlora or ia3"
            )


def unused_lora_options(config: FinetuneConfig) -> tuple[str, ...]:
    """Options of LoRA that the method doesn't use."""
    if config.method in ("lora", "dora", "rslora", "qlora"):
        return ()
    return ("lora_alpha", "lora_dropout") if config.method == "peanut" else ("lora_alpha", "lora_dropout", "lora_rank")


def reset_unused_options(config: FinetuneConfig) -> FinetuneConfig:
    """The config with the options that the method doesn't use at their defaults."""
    return replace(config, **{name: getattr(DEFAULTS, name) for name in unused_lora_options(config)})


def unused_head_options(config: FinetuneConfig) -> list[str]:
    """Options for layers that are set, but have no effect if only the head trains."""
    options = {
        "freeze_layers": config.freeze_layers > 0,
        "gradual_unfreezing": config.gradual_unfreezing,
        "layer_decay": config.layer_decay < 1,
    }
    return [name for name, is_asked in options.items() if is_asked]

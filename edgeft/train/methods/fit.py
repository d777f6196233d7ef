"""Which method fits which model, from config.json alone."""

from __future__ import annotations

from dataclasses import dataclass, replace

import psutil
import torch

from edgeft.errors import ModelError, RecipeError, require
from edgeft.models.hub import DEMO
from edgeft.models.model_folder import Facts
from edgeft.recipe import FinetuneConfig, spell_option
from edgeft.train.defaults import SHORTEST, VIRTUAL
from edgeft.train.methods import virtual
from edgeft.train.tasks import TrainingTask

# What no plain model can be made of, and why.
NOT_PLAIN = {"prefix": "the keys and values that it learns for every layer come from no token and no weight"}
USUAL = FinetuneConfig()
BYTES = {"qlora": 0.5}  # of a weight in memory; else those of fp32, or of half precision on a GPU
NEEDS = {"full": (), "head": (), "qlora": ("peft", "bitsandbytes")}


@dataclass(frozen=True)
class Scaled:
    """What (IA)^3 scales in a model.

    Attributes:
        modules: linear layers, by the ends of their names.
        inputs: those among them whose inputs are scaled, not their outputs.
    """

    modules: tuple[str, ...]
    inputs: tuple[str, ...]


_BERT = Scaled(("key", "value", "output.dense"), ("output.dense",))
# Keys, values and the input of the second feed-forward layer, for models that peft has no default for.
_SCALED = {
    "albert": Scaled(("key", "value", "ffn_output"), ("ffn_output",)),
    "camembert": _BERT,
    "distilbert": Scaled(("k_lin", "v_lin", "lin2"), ("lin2",)),
    "electra": _BERT,
    # One matrix makes queries, keys and values; peft scales such a one whole, too.
    "modernbert": Scaled(("attn.Wqkv", "mlp.Wo"), ("mlp.Wo",)),
    "mpnet": Scaled(("attn.k", "attn.v", "output.dense"), ("output.dense",)),
    "xlm-roberta": _BERT,
}


def scaled(kind: str) -> Scaled:
    """What (IA)^3 scales in models of this `model_type`.

    Raises:
        ModelError: neither peft nor this table knows it.
    """
    if kind in _SCALED:
        return _SCALED[kind]
    known = require("peft.utils.constants", "for method ia3")
    modules = known.TRANSFORMERS_MODELS_TO_IA3_TARGET_MODULES_MAPPING
    if kind not in modules:
        raise ModelError(
            f"finetune.method=ia3: which layers to scale in a {kind} model isn't known; take lora, "
            f"or a model of {', '.join(sorted({*_SCALED, 'bert', 'roberta', 'deberta-v2'}))}"
        )
    inputs = known.TRANSFORMERS_MODELS_TO_IA3_FEEDFORWARD_MODULES_MAPPING
    return Scaled(tuple(modules[kind]), tuple(inputs.get(kind, ())))


def check(config: FinetuneConfig, facts: Facts, task: type[TrainingTask]) -> None:
    """Whether the method can train such a model and end in a plain one, before anything is loaded.

    Args:
        config: of the fine-tuning.
        facts: `models.facts` of its model.
        task: what it is trained for.

    Raises:
        RecipeError: the method ends in no plain model, or another option can't do anything with it.
        ModelError: it doesn't know the model's architecture.
        MissingExtraError: it needs a package that is not installed.
    """
    if config.method in NOT_PLAIN:
        raise RecipeError(
            f"finetune.method={config.method}: ends in no plain model, as transformers and the exporter want it: "
            f"{NOT_PLAIN[config.method]}; take prompt, p_tuning or lora"
        )
    for module in NEEDS.get(config.method, ("peft",)):
        require(module, f"for method {config.method}")
    check_memory(config, facts)
    if config.packing and not task.packs:
        raise RecipeError(f"finetune.packing: does nothing for {task.form.name} rows; leave it off")
    check_refused(config, task)
    check_head(facts, task)
    if (config.max_length or 0) > facts.positions:
        raise ModelError(
            f"finetune.max_length={config.max_length} is more than the {facts.positions} tokens "
            "that the model has positions for"
        )
    if config.label_smoothing and not task.smooths:
        raise RecipeError(f"finetune.label_smoothing: does nothing for {task.form.name} rows; leave it at 0")
    if config.dropout is not None and not facts.drops:
        raise ModelError(f"finetune.dropout: a {facts.kind} model has none that edgeft can set; leave it unset")
    if config != without_idle(config):
        idle = next(name for name in idle_lora(config) if getattr(config, name) != getattr(USUAL, name))
        usual = getattr(USUAL, idle)
        raise RecipeError(f"finetune.{idle}: does nothing for method {config.method}; leave it at {usual}")
    if config.method == "ia3":
        scaled(facts.kind)
    check_virtual(config, facts, task)
    if config.freeze_layers > facts.layers:
        raise RecipeError(
            f"finetune.freeze_layers: {config.freeze_layers} layers are to be frozen, and the model has "
            f"{facts.layers}; at most {facts.layers}"
        )
    if config.method == "head" and idle_for_head(config):
        idle = ", ".join(idle_for_head(config))
        raise RecipeError(f"finetune.method=head: no layer trains, so {idle} would do nothing; leave it unset")


def check_head(facts: Facts, task: type[TrainingTask], option: str = "finetune.model") -> None:
    """Whether such a model can answer as the task wants it.

    Args:
        facts: of the model.
        task: what it is for.
        option: that names the model.

    Raises:
        ModelError: an encoder is to write, a decoder to read a source, or transformers has no such head for it.
    """
    rows = task.form.name
    if task.auto == "AutoModelForCausalLM" and (facts.reads_only or task.auto not in facts.heads):
        what = "an encoder, which reads and can't write" if facts.reads_only else "no causal language model"
        raise ModelError(
            f"{option}: a {facts.kind} model is {what}, and {rows} rows are to be continued; take a causal language "
            "model, such as HuggingFaceTB/SmolLM2-135M-Instruct, or a task with labels, such as text-classification"
        )
    if task.auto == "AutoModelForSeq2SeqLM" and task.auto not in facts.heads:
        raise ModelError(
            f"{option}: a {facts.kind} model has no decoder beside its encoder, which {rows} rows need; take one that "
            "has, such as google-t5/t5-small, or name the columns prompt and completion for text-generation"
        )
    if task.auto not in facts.heads:
        raise ModelError(
            f"{option}: transformers has no {task.auto.removeprefix('AutoModelFor')} head for {facts.kind} models, "
            f"which {rows} rows need; take an encoder, such as {DEMO}"
        )


def check_memory(config: FinetuneConfig, facts: Facts) -> None:
    """Whether the weights alone fit into the memory of the machine and its GPU.

    Raises:
        ModelError: they can't, with both numbers.
    """
    on_gpu = sum(torch.cuda.get_device_properties(index).total_memory for index in range(torch.cuda.device_count()))
    there = psutil.virtual_memory().total + psutil.swap_memory().total + on_gpu
    width = BYTES.get(config.method, 2 if on_gpu else 4)
    if width * facts.elements > there:
        lighter = "" if config.method == "qlora" else f" or {spell_option('finetune.method', 'qlora')}"
        raise ModelError(
            f"finetune.model: its weights take {width * facts.elements / 1e9:,.1f} GB by method {config.method}, and "
            f"this machine has {there / 1e9:,.1f} GB of memory; take a smaller model{lighter}"
        )


def check_virtual(config: FinetuneConfig, facts: Facts, task: type[TrainingTask]) -> None:
    """Whether the model can take virtual tokens that become words of it, and has positions for them.

    Raises:
        RecipeError: the task can't take them, there is no room, or the method has none.
        ModelError: a merge is not known to be exact for this architecture.
    """
    if config.method not in VIRTUAL:
        if config.virtual_tokens is not None:
            raise RecipeError(f"finetune.virtual_tokens: method {config.method} has none; leave it unset")
        return
    if task.lays_windows:
        raise RecipeError(
            f"finetune.method={config.method}: a long context is laid into windows by max_length, in which virtual "
            "tokens count once they are words: the windows would be others than in training; take lora"
        )
    if task.adapter not in ("SEQ_CLS", "TOKEN_CLS"):
        raise RecipeError(
            f"finetune.method={config.method}: is for encoders; texts of a model that generates stand several in a "
            "sequence or after a template, and virtual tokens only in front of it; take lora"
        )
    if facts.kind not in virtual.ENCODERS:
        raise ModelError(
            f"finetune.method={config.method}: that its virtual tokens can become words of a {facts.kind} model "
            f"without a change of its answers isn't known; take lora, or a model of {', '.join(virtual.ENCODERS)}"
        )
    count, length = virtual.added(config), config.max_length or SHORTEST
    if length + count > facts.positions:
        raise RecipeError(
            f"finetune.max_length: {length} tokens of text and {count} virtual ones are {length + count}, and "
            f"the model has {facts.positions} positions; at most {facts.positions - count}"
        )


def check_refused(config: FinetuneConfig, task: type[TrainingTask]) -> None:
    """Whether the task has the head that a method or an option is about.

    Raises:
        RecipeError: it has none.
    """
    asked: dict[str, str] = {config.method: f"method={config.method}"}
    if config.gradual_unfreezing:
        asked["gradual_unfreezing"] = "gradual_unfreezing"
    for name, shown in asked.items():
        if name in task.refuses:
            raise RecipeError(
                f"finetune.{shown}: a model for {task.form.name} rows has no head apart from its word "
                "embeddings that could train first or alone; take full, lora, dora, rslora, qlora or ia3"
            )


def idle_lora(config: FinetuneConfig) -> tuple[str, ...]:
    """Options about LoRA's matrices that the method doesn't read."""
    if config.method in ("lora", "dora", "rslora", "qlora"):
        return ()
    return ("lora_alpha", "lora_dropout") if config.method == "peanut" else ("lora_alpha", "lora_dropout", "lora_rank")


def without_idle(config: FinetuneConfig) -> FinetuneConfig:
    """The config with such options as if they were unset."""
    return replace(config, **{name: getattr(USUAL, name) for name in idle_lora(config)})


def idle_for_head(config: FinetuneConfig) -> list[str]:
    """Options about layers that would do nothing where only the head trains."""
    asked = {
        "freeze_layers": config.freeze_layers > 0,
        "gradual_unfreezing": config.gradual_unfreezing,
        "layer_decay": config.layer_decay < 1,
    }
    return [name for name, is_asked in asked.items() if is_asked]

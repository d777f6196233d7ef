"""The shapes of a model: its layers, what pruning can take from them, and structure.json, which says what it took.

config.json keeps the sizes before pruning (the classes of `transformers` derive a head's size from them, and refuse
others); the shapes of the pruned weights are read from the weights themselves.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import msgspec
import torch
from torch import nn
from transformers import PretrainedConfig, PreTrainedModel
from transformers.utils import cached_file

from edgeft.errors import ModelError, require
from edgeft.models import model_files

STRUCTURE = "structure.json"
LARGEST_INDEX = 1 << 20  # of a channel
UNKNOWN = "pruning knows BERT-, RoBERTa-, ELECTRA-, DistilBERT-, ModernBERT- and Llama-shaped models, not {}"
Shapes = Mapping[str, Sequence[int]]


@dataclass(frozen=True)
class Dimensions:
    """The sizes of a model, whatever its family calls them; 0: it has no such thing.

    Attributes:
        layers: of an encoder with a decoder, the encoder's.
        width: features of the hidden states, before any pruning.
        heads: of attention in a layer.
        vocabulary: rows of the token embeddings.
    """

    layers: int
    width: int
    heads: int
    vocabulary: int


def dimensions(config: PretrainedConfig) -> Dimensions:
    """The sizes that a config states; which name means what in which family is known by optimum.

    Raises:
        ModelError: a size isn't a whole number, or the width isn't divisible by the heads.
    """
    room = require("optimum.utils.normalized_config", "to read the sizes of models")
    families = room.NormalizedConfigManager._conf
    known = families.get(config.model_type, room.NormalizedTextConfig)(config)
    sizes = {
        name: getattr(known, name, 0) for name in ("num_layers", "hidden_size", "num_attention_heads", "vocab_size")
    }
    for name, value in sizes.items():
        if type(value) is not int or value < 0:
            raise ModelError(f"config.json: {name} of a {config.model_type} model is {value!r}, no whole number")
    found = Dimensions(*sizes.values())
    apart = any(getattr(config, name, None) for name in ("head_dim", "d_kv", "d_head", "attention_head_size"))
    if found.heads and not apart and found.width % found.heads:
        raise ModelError(
            f"config.json: a width of {found.width} can't be split into {found.heads} attention heads of one size"
        )
    return found


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


def keep_layers(model: PreTrainedModel, kept: Sequence[int]) -> None:
    """Leave a model only some of its layers, by their indices, in place; `models.copy_layers` gives the same model."""
    stack = encoder_layers(model)
    chosen = [stack[index] for index in kept]
    del stack[:]
    stack.extend(chosen)
    for place, layer in enumerate(stack):
        for module in layer.modules():
            if "layer_idx" in (own := vars(module)):
                own["layer_idx"] = place
    model.config.num_hidden_layers = len(chosen)
    if kinds := getattr(model.config, "layer_types", None):
        model.config.layer_types = [kinds[index] for index in kept]


# ------------------------------------------------------------------------------------------------- what pruning takes


@dataclass(frozen=True)
class LayerStructure:
    """What one layer kept, as indices into the model before any pruning.

    Attributes:
        layer: its own index.
        heads: key/value heads; each stays with the query heads that share it (without grouped queries: one).
        channels: of the feed-forward part.
    """

    layer: int
    heads: list[int]
    channels: list[int]


@dataclass(frozen=True)
class Structure:
    """What a pruned model kept of the one before any pruning; the content of structure.json.

    Attributes:
        layers: those that stayed, in their order.
        width: the features of the hidden states.
        head_size: the width of a head, which pruning leaves alone.
    """

    layers: list[LayerStructure]
    width: list[int]
    head_size: int


@dataclass(frozen=True)
class Block:
    """The prunable parts of one layer.

    Attributes:
        attention: the module that knows how many heads there are.
        writers: the linear layers of queries, keys and values, or one that gives all three, one after the other.
        output: reads what the heads give.
        down: reads the channels of the feed-forward part.
    """

    attention: nn.Module
    writers: tuple[nn.Linear, ...]
    output: nn.Linear
    down: nn.Linear


_BERT = ("attention.self", "query key value", "attention.output.dense", "output.dense")
_LLAMA = ("self_attn", "q_proj k_proj v_proj", "self_attn.o_proj", "mlp.down_proj")
# Paths in a layer: attention, what writes its heads (inside of it), what reads them, what reads the channels.
_LAYOUTS = {
    **dict.fromkeys(("bert", "electra", "roberta", "xlm-roberta", "camembert"), _BERT),
    **dict.fromkeys(("llama", "mistral", "qwen2"), _LLAMA),
    "distilbert": ("attention", "q_lin k_lin v_lin", "attention.out_lin", "ffn.lin2"),
    "modernbert": ("attn", "Wqkv", "attn.Wo", "mlp.Wo"),
}
# The graph of these computes queries, keys and values as one product.
PACKED = ("bert", "electra", "roberta", "xlm-roberta", "camembert", "distilbert")


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
    attention, writers, output, down = _LAYOUTS[kind]
    return [
        Block(
            layer.get_submodule(attention),
            tuple(cast(nn.Linear, layer.get_submodule(f"{attention}.{name}")) for name in writers.split()),
            cast(nn.Linear, layer.get_submodule(output)),
            cast(nn.Linear, layer.get_submodule(down)),
        )
        for layer in encoder_layers(model)
    ]


def head_size(config: PretrainedConfig) -> int:
    """The width of a head."""
    return int(getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads)


def key_value_heads(block: Block, size: int) -> int:
    """How many key/value heads of a size a block has; a third of a fused layer's outputs are values."""
    return block.writers[-1].out_features * len(block.writers) // (3 * size)


def width(model: PreTrainedModel) -> int:
    """Features of a model's hidden states, which its config doesn't say once they are pruned."""
    structure = getattr(model, "edgeft_structure", None)
    return len(structure.width) if structure else int(model.config.hidden_size)


def structure_of(model: PreTrainedModel) -> Structure:
    """What a model kept of the one it was pruned from; everything where it was never pruned.

    Raises:
        ModelError: pruning doesn't know this architecture.
    """
    if (carried := getattr(model, "edgeft_structure", None)) is not None:
        return cast(Structure, carried)
    size = head_size(model.config)
    layers = [
        LayerStructure(index, list(range(key_value_heads(block, size))), list(range(block.down.in_features)))
        for index, block in enumerate(blocks(model))
    ]
    return Structure(layers, list(range(model.config.hidden_size)), size)


def set_structure(model: PreTrainedModel, structure: Structure) -> None:
    """Note what a model kept, and tell its attention modules how many heads they now have.

    Raises:
        ModelError: its weights have other shapes.
    """
    found = [(key_value_heads(block, structure.head_size), block.down.in_features) for block in blocks(model)]
    noted = [(len(layer.heads), len(layer.channels)) for layer in structure.layers]
    widths = {block.output.out_features for block in blocks(model)}
    if found != noted or widths != {len(structure.width)}:
        there = f"heads and channels of the layers {found} and width {sorted(widths)}"
        raise ModelError(f"{STRUCTURE} says {noted} and {len(structure.width)}, but the weights have {there}")
    model.edgeft_structure = structure
    for block in blocks(model):
        wide = block.output.in_features
        heads = wide // structure.head_size
        counts = {"num_attention_heads": heads, "n_heads": heads, "all_head_size": wide, "dim": wide}
        for name in counts.keys() & vars(block.attention).keys():
            setattr(block.attention, name, counts[name])


# ------------------------------------------------------------------------------------------------------ pruned shapes


def reshape(model: PreTrainedModel, stored: Shapes, structure: Structure) -> None:
    """Give a freshly made model pruned shapes; its weights are about to be loaded.

    The body takes the shapes of the stored weights; a head keeps its own, which its labels decide, and reads the width.

    Args:
        model: made from the config before pruning.
        stored: shapes by the names of the weights, with or without the name of the body before them.
        structure: what was kept.

    Raises:
        ModelError: `structure` isn't that of the stored weights.
    """
    prefix = model.base_model_prefix
    for name, module in model.base_model.named_modules():
        for key, parameter in list(module.named_parameters(recurse=False)):
            path = f"{name}.{key}"
            resize(module, key, stored.get(path, stored.get(f"{prefix}.{path}", parameter.shape)))
    if (reader := _head_reader(model)) is not None:
        resize(reader, "weight", (reader.out_features, len(structure.width)))
    model.tie_weights()
    set_structure(model, structure)


def _head_reader(model: PreTrainedModel) -> nn.Linear | None:
    """What reads the last hidden states: the pooler, or else the first linear layer of the head."""
    body = set(model.base_model.modules())
    pooler = getattr(model.base_model, "pooler", None)
    head = [module for module in model.modules() if module not in body] if pooler is None else pooler.modules()
    return next((module for module in head if isinstance(module, nn.Linear)), None)


def resize(module: nn.Module, key: str, shape: Sequence[int]) -> None:
    """Replace a parameter by an empty one where its shape is another, and tell its module the new sizes."""
    parameter = module.get_parameter(key)
    if tuple(parameter.shape) != tuple(shape):
        module.register_parameter(key, nn.Parameter(parameter.detach().new_empty(shape)))
        sync_sizes(module)


def sync_sizes(module: nn.Module) -> None:
    """Update `in_features`, `out_features` and their like from the shape of a module's weight."""
    if isinstance(module, nn.Linear):
        module.out_features, module.in_features = module.weight.shape
    elif isinstance(module, nn.Embedding):
        module.num_embeddings, module.embedding_dim = module.weight.shape
    elif isinstance(module, nn.LayerNorm | nn.RMSNorm):
        module.normalized_shape = tuple(module.weight.shape)


def stored_weights(location: Path | str) -> model_files.Stored:
    """What the weights of a model folder or hub id are; those of an id are fetched.

    Raises:
        ModelError: the files don't hold what they say.
    """
    if isinstance(location, Path):
        return model_files.read_weights(location)
    single = cached_file(location, model_files.WEIGHTS, _raise_exceptions_for_missing_entries=False)
    if single is not None:
        return model_files.read_weights(Path(single).parent)
    index = Path(cached_file(location, model_files.INDEX, _raise_exceptions_for_missing_entries=False) or "")
    if not index.name:
        raise ModelError(
            f"{location}: the hub has no {model_files.WEIGHTS} of it, and edgeft loads safetensors only; save the "
            "model in a folder with save_pretrained, and give that"
        )
    for name in model_files.shard_names(index):
        cached_file(location, name)
    return model_files.read_weights(index.parent)


def read_structure(location: Path | str, config: PretrainedConfig) -> Structure | None:
    """The structure of a model folder or hub id; None: never pruned.

    Raises:
        ModelError: it can't be read, or doesn't fit config.json.
    """
    file = cached_file(location, STRUCTURE, _raise_exceptions_for_missing_entries=False)
    if file is None:
        return None
    data = model_files.read_bytes(Path(file), model_files.LARGEST_TEXT)
    try:
        structure = msgspec.json.decode(data, type=Structure)
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError) as error:
        raise ModelError(f"{file}: {error}; a model pruned by an earlier version has to be pruned anew") from error
    here, there = (len(structure.layers), structure.head_size), (config.num_hidden_layers, head_size(config))
    if here != there:
        raise ModelError(f"{file}: layers and head size are {here}, but config.json says {there}")
    _check_indices(structure, dimensions(config), Path(file))
    return structure


def _check_indices(structure: Structure, original: Dimensions, file: Path) -> None:
    """Whether what was kept is a part of what config.json says there was; channels are checked by the weights."""
    lists = {"width": (structure.width, original.width)}
    for index, layer in enumerate(structure.layers):
        lists[f"heads of layer {index}"] = (layer.heads, original.heads)
        lists[f"channels of layer {index}"] = (layer.channels, LARGEST_INDEX)
    for name, (kept, most) in lists.items():
        if kept != sorted(set(kept)) or (kept and not 0 <= kept[0] <= kept[-1] < most):
            raise ModelError(f"{file}: {name}: not indices from 0 to {most - 1:,} in rising order")


def pruned_class(config: PretrainedConfig, structure: Structure, stored: Shapes, auto: Any) -> Any:
    """The class of a config, made to be born with pruned shapes, so that `from_pretrained` fills them.

    Args:
        config: with the sizes before pruning.
        structure: what was kept.
        stored: the shapes of the weights.
        auto: the auto class of `transformers` that knows the class.
    """
    with torch.device("meta"):
        plain = type(auto.from_config(config, trust_remote_code=False))

    def init(self: Any, config: PretrainedConfig, *args: Any, **kwargs: Any) -> None:
        plain.__init__(self, config, *args, **kwargs)
        reshape(self, stored, structure)

    return type(plain.__name__, (plain,), {"__init__": init, "__module__": plain.__module__})

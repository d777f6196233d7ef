"""Tiny models of every kind that pruning knows, and the slow twin of a pruned one: the original, masked."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from torch import Tensor, nn
from transformers import AutoConfig, AutoModelForSequenceClassification, PreTrainedTokenizerFast

from edgeft.models import shapes

SIZES = {"vocab_size": 50, "max_position_embeddings": 40, "pad_token_id": 0}
BERT = {"hidden_size": 32, "num_attention_heads": 4, "num_hidden_layers": 3, "intermediate_size": 64}
GROUPED = {"num_key_value_heads": 2}
MORE: dict[str, dict[str, Any]] = {
    "electra": {"embedding_size": 24},
    "modernbert": {"local_attention": 6, "cls_token_id": 1, "sep_token_id": 2, "bos_token_id": 1, "eos_token_id": 2},
    "llama": {**GROUPED, "head_dim": 6},
    "mistral": {**GROUPED, "sliding_window": 4},
    "qwen2": GROUPED,
}
KINDS = ["bert", "roberta", "distilbert", "electra", "modernbert", "llama", "mistral", "qwen2"]


def tiny(kind: str, attention: str = "sdpa", auto: Any = AutoModelForSequenceClassification, **more: Any) -> Any:
    """A model of three layers whose biases are not zero and whose norms are not one."""
    torch.manual_seed(5)
    sizes = {"dim": 32, "n_heads": 4, "n_layers": 3, "hidden_dim": 64} if kind == "distilbert" else BERT
    config = AutoConfig.for_model(kind, **SIZES, **sizes, **MORE.get(kind, {}), **more)
    model = auto.from_config(config, attn_implementation=attention).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return model


def inputs(labels: bool = False) -> dict[str, Tensor]:
    """Four rows, one of them shorter."""
    torch.manual_seed(6)
    ids = torch.randint(4, 50, (4, 9))
    mask = torch.ones_like(ids)
    mask[1, 5:] = 0
    batch = {"input_ids": ids, "attention_mask": mask}
    return batch | {"labels": torch.tensor([0, 1, 1, 0])} if labels else batch


@torch.no_grad()
def logits(model: Any) -> Tensor:
    """Of `inputs`."""
    found: Tensor = model(**inputs()).logits
    return found


def words() -> PreTrainedTokenizerFast:
    """A tokenizer, which a model folder needs."""
    vocabulary = {word: index for index, word in enumerate(["[PAD]", "[UNK]", "good", "bad"])}
    return PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer(WordLevel(vocabulary, unk_token="[UNK]")), pad_token="[PAD]", unk_token="[UNK]"
    )


@contextmanager
def masked(model: Any, structure: shapes.Structure) -> Iterator[None]:
    """The slow twin: what was removed gives nothing in the original, be it heads, channels, features or layers.

    Every norm is computed over the features that stay, since no mask keeps the others out of its statistics.
    """
    stack, parts, handles = shapes.encoder_layers(model), shapes.blocks(model), []
    kept = {layer.layer: layer for layer in structure.layers}
    for index, (layer, block) in enumerate(zip(stack, parts, strict=True)):
        if index not in kept:
            handles.append(layer.register_forward_hook(lambda _, given, __: given[0]))
            continue
        grouped = getattr(model.config, "num_key_value_heads", None) or model.config.num_attention_heads
        head = block.output.in_features // grouped  # with the query heads that share a key/value head
        for reader, stay, each in ((block.output, kept[index].heads, head), (block.down, kept[index].channels, 1)):
            mask = _mask(reader.in_features, stay, each)
            handles.append(reader.register_forward_pre_hook(lambda _, given, mask=mask: (given[0] * mask,)))
    for name, module in model.base_model.named_modules():
        if "Norm" in type(module).__name__ and len(module.weight) == model.config.hidden_size:
            handles.append(module.register_forward_hook(_norm_of(structure.width)))
        if name == "embeddings_project":  # ELECTRA's hidden states begin without a norm
            mask = _mask(len(module.weight), structure.width)
            handles.append(module.register_forward_hook(lambda _, __, given, mask=mask: given * mask))
    yield
    for handle in handles:
        handle.remove()


def _mask(features: int, stay: list[int], each: int = 1) -> Tensor:
    """Ones for the features of the units that stay, `each` features wide."""
    mask = torch.zeros(features // each, each)
    mask[stay] = 1
    return mask.flatten()


def _norm_of(kept: list[int]) -> Any:
    """The norm of some features alone; the others are zero."""

    def normed(module: Any, given: tuple[Tensor], _: Tensor) -> Tensor:
        some, scale = given[0][..., kept], module.weight[kept]
        if isinstance(module, nn.LayerNorm):
            shift = None if module.bias is None else module.bias[kept]
            some = nn.functional.layer_norm(some, (len(kept),), scale, shift, module.eps)
        else:
            some = scale * some * (some.square().mean(-1, keepdim=True) + module.variance_epsilon).rsqrt()
        answer = torch.zeros_like(given[0])
        answer[..., kept] = some
        return answer

    return normed

"""Capture of attention as one operator, where a model lets its attention function be chosen and attends plainly."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import torch
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.masking_utils import bidirectional_mask_function

from edgeft.errors import ModelError
from edgeft.export.onnx.operators import DOMAIN

NAME = "edgeft_capture"
# What transformers passes to attention beside the mask, and changes nothing of an answer.
HARMLESS = (
    "dropout",
    "is_causal",
    "output_attentions",
    "output_hidden_states",
    "position_ids",
    "return_dict",
    "use_cache",
)


def _attend(
    module: Any,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    scaling: float | None = None,
    **options: Any,
) -> tuple[torch.Tensor, None]:
    """Stand in the trace for softmax(q k^T scale) v, heads side by side: `Attention(q, k, v, mask)`.

    Args:
        module: the attention layer.
        query: (batch, heads, tokens, head size), as key and value.
        key: as above.
        value: as above.
        attention_mask: (batch, tokens).
        scaling: of the products; None: one over the root of the head size.
        options: what transformers passes besides.

    Returns:
        (batch, tokens, heads, head size), and no attention weights.

    Raises:
        ModelError: attention with something more than a mask of tokens.
    """
    more = [name for name, value in options.items() if value is not None and name not in HARMLESS]
    causal = options.get("is_causal") or getattr(module, "is_causal", False)
    plain = attention_mask is not None and attention_mask.dim() == 2 and query.shape == key.shape == value.shape
    if more or causal or not plain:
        raise ModelError(f"{type(module).__name__} attends with more than a mask of tokens")
    batch, heads, tokens, size = query.shape
    flat = [each.transpose(1, 2).reshape(batch, tokens, heads * size) for each in (query, key, value)]
    answer = torch.onnx.ops.symbolic(
        f"{DOMAIN}::Attention",
        (*flat, attention_mask),
        attrs={"num_heads": heads, "scale": float(scaling or size**-0.5)},
        dtype=query.dtype,
        shape=flat[0].shape,
        version=1,
    )
    return answer.reshape(batch, tokens, heads, size), None


def _mask(
    *_: Any, attention_mask: torch.Tensor | None = None, mask_function: Any = None, **__: Any
) -> torch.Tensor | None:
    """The mask of tokens as it came, (batch, tokens).

    Raises:
        ModelError: the model hides more than padding.
    """
    if mask_function is not bidirectional_mask_function:
        raise ModelError("attention that hides more than padding")
    return attention_mask


@contextlib.contextmanager
def as_operator(model: Any) -> Iterator[None]:
    """Let the model's attention be captured as `edgeft::Attention` of queries, keys, values and a mask.

    Raises:
        ModelError: the model's attention can't be chosen.
    """
    before = model.config._attn_implementation
    AttentionInterface.register(NAME, _attend)
    AttentionMaskInterface.register(NAME, _mask)
    try:
        model.set_attn_implementation(NAME)
        if model.config._attn_implementation != NAME:
            raise ModelError(f"{type(model).__name__} has attention of its own")
        yield
    except ValueError as error:
        raise ModelError(f"{type(model).__name__} has attention of its own: {error}") from None
    finally:
        model.set_attn_implementation(before)

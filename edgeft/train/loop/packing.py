"""Packing: several short documents share one sequence of a language model without attending to each other.

Positions restart at 0 with each document. Given `position_ids` and neither an attention mask nor a cache, transformers
builds the mask from the restarts, for every attention implementation.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from edgeft.errors import ModelError
from edgeft.recipe import spell_option

if TYPE_CHECKING:
    from edgeft.train.tasks.base import Items

IGNORED = -100  # the label of tokens that are not targets
SAME = 1e-4  # a token that isn't attended to may change logits by this share of the largest one, through rounding


def first_fit_decreasing(lengths: Sequence[int], capacity: int) -> list[list[int]]:
    """Pack documents into few bins: the longest first, each into the first bin that has room.

    It needs at most 11/9 of the smallest possible number of bins, plus one (Johnson 1973). A tree that stores the
    largest room below each node finds the bin in log(n) steps.

    Args:
        lengths: (n,) tokens of each document, at most `capacity`.
        capacity: tokens of a bin.

    Returns:
        Indices of the documents in each bin, ascending; documents of equal length are placed in their order.
    """
    assert max(lengths, default=0) <= capacity
    size = 1 << max(len(lengths) - 1, 0).bit_length()
    room = [capacity] * (2 * size)  # node i is above 2i and 2i + 1; the leaves are the bins
    bins: list[list[int]] = [[] for _ in lengths]
    for index in sorted(range(len(lengths)), key=lambda index: -lengths[index]):
        node = 1
        while node < size:
            node = 2 * node if room[2 * node] >= lengths[index] else 2 * node + 1
        bins[node - size].append(index)
        room[node] -= lengths[index]
        while node := node // 2:
            room[node] = max(room[2 * node], room[2 * node + 1])
    return [sorted(documents) for documents in bins if documents]


def pack(items: Items, capacity: int) -> Items:
    """Pack the documents of items together; the targets remain the same.

    Args:
        items: of one document each, with `input_ids` and `labels`.
        capacity: tokens of a packed item.

    Returns:
        Items of several documents, with `position_ids` that restart with each document.
    """
    bins = first_fit_decreasing(items.lengths, capacity)
    inputs = [_join([items.inputs[index] for index in documents]) for documents in bins]
    weights = [items.weights[documents].sum() for documents in bins]
    rows = items.rows[[documents[0] for documents in bins]]
    return replace(items, inputs=inputs, rows=rows, weights=np.array(weights, dtype=np.float64))


def _join(documents: Sequence[dict[str, Any]]) -> dict[str, Any]:
    joined = {name: [token for document in documents for token in document[name]] for name in ("input_ids", "labels")}
    return {
        **joined,
        "position_ids": [position for document in documents for position in range(len(document["input_ids"]))],
    }


def collate(
    chosen: Sequence[dict[str, Any]], pad_token_id: int, device: torch.device
) -> tuple[dict[str, torch.Tensor], torch.Tensor]:
    """Pad items on the right to the longest.

    Args:
        chosen: with `input_ids` and `labels`; all or none with `position_ids`.
        pad_token_id: fills `input_ids`.
        device: where the tensors go.

    Returns:
        `input_ids` with `position_ids` (packed items; each padding token is a document of its own, at position 0) or
        with `attention_mask`, and the labels, `IGNORED` at padding: all int64 (B, T).
    """
    ids = pad([item["input_ids"] for item in chosen], pad_token_id, device)
    labels = pad([item["labels"] for item in chosen], IGNORED, device)
    if "position_ids" in chosen[0]:
        return {"input_ids": ids, "position_ids": pad([item["position_ids"] for item in chosen], 0, device)}, labels
    mask = pad([[1] * len(item["input_ids"]) for item in chosen], 0, device)
    return {"input_ids": ids, "attention_mask": mask}, labels


def pad(rows: Sequence[Sequence[int]], value: int, device: torch.device) -> torch.Tensor:
    """(B, T) int64: the rows, padded on the right to the longest."""
    longest = max(len(row) for row in rows)
    return torch.tensor([[*row, *[value] * (longest - len(row))] for row in rows], dtype=torch.int64, device=device)


def check_causal(model: Any) -> None:
    """Check that a model is causal, with six tokens: no token attends to later ones.

    Raises:
        ModelError: it is not, as an encoder, which would learn to copy its targets.
    """
    if _changed_logits(model, changed_position=5, packed=False)[:5].any():
        raise ModelError(
            f"{model.config.model_type}: its tokens attend to later ones, so it can't learn to continue texts; "
            "take a causal language model (GPT-2, Llama, Qwen, ...)"
        )


def check_documents_apart(model: Any) -> None:
    """Check that a model keeps packed documents apart, with two documents of three tokens.

    Raises:
        ModelError: the second attends to the first.
    """
    if _changed_logits(model, changed_position=0, packed=True)[3:].any():
        raise ModelError(
            f"finetune.packing: a {model.config.model_type} model doesn't keep packed documents apart; "
            f"use {spell_option('finetune.packing', False)}"
        )


@torch.inference_mode()
def _changed_logits(model: Any, changed_position: int, packed: bool) -> torch.Tensor:
    """(6,) whether the logits at each of six tokens change if the token at one position does."""
    device = next(model.parameters()).device
    ids = torch.arange(7, device=device) % model.config.get_text_config().vocab_size
    pair = torch.stack(
        [ids[:6], ids[:6].index_fill(0, torch.tensor([changed_position], device=device), int(ids[6]))]
    )  # (2, 6)
    positions = torch.tensor([[0, 1, 2, 0, 1, 2]], device=device).expand(2, 6)
    form = {"position_ids": positions} if packed else {"attention_mask": torch.ones_like(pair)}
    model.eval()
    logits: torch.Tensor = model(input_ids=pair, use_cache=False, **form).logits.float()  # (2, 6, V)
    return (logits[0] - logits[1]).abs().amax(dim=-1) > SAME * logits.abs().max()

"""Packing: several short documents in one sequence of a language model, none of which sees another.

Positions restart at 0 with each document. transformers builds the mask from the restarts, for every kind of attention,
where it is given `position_ids` and neither an attention mask nor a cache.
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

IGNORED = -100  # the label of a token that is no target
SAME = 1e-4  # of the largest logit: what a token that isn't seen may change by rounding


def first_fit_decreasing(lengths: Sequence[int], capacity: int) -> list[list[int]]:
    """Pack documents into few bins: the longest first, each into the first bin that has room.

    It needs at most 11/9 of the fewest possible bins, plus one (Johnson 1973). A tree of the largest room below each
    node finds the bin in log(n) steps.

    Args:
        lengths: (n,) tokens of each document, at most `capacity`.
        capacity: tokens of a bin.

    Returns:
        Places of the documents of each bin, ascending in a bin; equal lengths go in their order.
    """
    assert max(lengths, default=0) <= capacity
    size = 1 << max(len(lengths) - 1, 0).bit_length()
    room = [capacity] * (2 * size)  # node i is above 2i and 2i + 1; the leaves are the bins
    bins: list[list[int]] = [[] for _ in lengths]
    for place in sorted(range(len(lengths)), key=lambda place: -lengths[place]):
        node = 1
        while node < size:
            node = 2 * node if room[2 * node] >= lengths[place] else 2 * node + 1
        bins[node - size].append(place)
        room[node] -= lengths[place]
        while node := node // 2:
            room[node] = max(room[2 * node], room[2 * node + 1])
    return [sorted(found) for found in bins if found]


def pack(items: Items, capacity: int) -> Items:
    """Items of several documents each; the targets are the same ones.

    Args:
        items: of one document each, with `input_ids` and `labels`.
        capacity: tokens of a packed item.

    Returns:
        Items with `position_ids` that restart with each document.
    """
    bins = first_fit_decreasing(items.lengths, capacity)
    inputs = [_joined([items.inputs[place] for place in places]) for places in bins]
    weights = [items.weights[places].sum() for places in bins]
    rows = items.rows[[places[0] for places in bins]]
    return replace(items, inputs=inputs, rows=rows, weights=np.array(weights, dtype=np.float64))


def _joined(documents: Sequence[dict[str, Any]]) -> dict[str, Any]:
    joined = {name: [token for document in documents for token in document[name]] for name in ("input_ids", "labels")}
    return {**joined, "position_ids": [place for document in documents for place in range(len(document["input_ids"]))]}


def collate(
    chosen: Sequence[dict[str, Any]], pad_token_id: int, device: torch.device
) -> tuple[dict[str, torch.Tensor], torch.Tensor]:
    """Pad items on the right to the longest.

    Args:
        chosen: with `input_ids` and `labels`; all or none with `position_ids`.
        pad_token_id: fills `input_ids`.
        device: where the tensors go.

    Returns:
        `input_ids` with `position_ids` (packed; each padding token is a document of its own, at position 0) or with
        `attention_mask`, and the labels, which padding has none of: all int64 (B, T).
    """
    ids = padded([item["input_ids"] for item in chosen], pad_token_id, device)
    labels = padded([item["labels"] for item in chosen], IGNORED, device)
    if "position_ids" in chosen[0]:
        return {"input_ids": ids, "position_ids": padded([item["position_ids"] for item in chosen], 0, device)}, labels
    mask = padded([[1] * len(item["input_ids"]) for item in chosen], 0, device)
    return {"input_ids": ids, "attention_mask": mask}, labels


def padded(rows: Sequence[Sequence[int]], value: int, device: torch.device) -> torch.Tensor:
    """(B, T) int64: rows filled on the right to the longest."""
    longest = max(len(row) for row in rows)
    return torch.tensor([[*row, *[value] * (longest - len(row))] for row in rows], dtype=torch.int64, device=device)


def check_causal(model: Any) -> None:
    """Whether a model's tokens see only what stands before them, tried on six tokens.

    Raises:
        ModelError: they see what follows, as in an encoder, which would learn to copy its answer.
    """
    if _changed(model, place=5, packed=False)[:5].any():
        raise ModelError(
            f"{model.config.model_type}: its tokens see what follows them, so it can't learn to continue texts; "
            "take a model that was trained to (GPT-2, Llama, Qwen, ...)"
        )


def check_apart(model: Any) -> None:
    """Whether a model keeps packed documents apart, tried on two of three tokens.

    Raises:
        ModelError: the second sees the first.
    """
    if _changed(model, place=0, packed=True)[3:].any():
        raise ModelError(
            f"finetune.packing: a {model.config.model_type} model doesn't keep packed documents apart; "
            f"use {spell_option('finetune.packing', False)}"
        )


@torch.inference_mode()
def _changed(model: Any, place: int, packed: bool) -> torch.Tensor:
    """(6,) whether the logits after each of six tokens change with the token at a place."""
    device = next(model.parameters()).device
    ids = torch.arange(7, device=device) % model.config.get_text_config().vocab_size
    pair = torch.stack([ids[:6], ids[:6].index_fill(0, torch.tensor([place], device=device), int(ids[6]))])  # (2, 6)
    positions = torch.tensor([[0, 1, 2, 0, 1, 2]], device=device).expand(2, 6)
    form = {"position_ids": positions} if packed else {"attention_mask": torch.ones_like(pair)}
    model.eval()
    logits: torch.Tensor = model(input_ids=pair, use_cache=False, **form).logits.float()  # (2, 6, V)
    return (logits[0] - logits[1]).abs().amax(dim=-1) > SAME * logits.abs().max()

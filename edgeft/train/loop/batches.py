"""Texts to token ids, ids to batches; the shuffle depends on seed and epoch alone, so that a resume is exact."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

GROUP = 50  # rows are sorted by length within groups of so many batches


def encode(tokenizer: Any, texts: Sequence[str], max_length: int) -> list[list[int]]:
    """Token ids of each text, special tokens included, truncated to `max_length` tokens."""
    if not texts:
        return []
    encoded = tokenizer(list(texts), truncation=True, max_length=max_length, return_attention_mask=False)
    return [list(ids) for ids in encoded["input_ids"]]


def epoch_batches(
    lengths: Sequence[int], batch_size: int, seed: int, epoch: int, length_grouped: bool = True
) -> list[list[int]]:
    """The batches of one epoch.

    Args:
        lengths: tokens of each row.
        batch_size: rows in a batch; the last one may be smaller.
        seed: of the run.
        epoch: from 0; every epoch is shuffled differently.
        length_grouped: whether a batch has rows of similar length, so that there is little padding.

    Returns:
        Row indices of each batch; every row occurs once.
    """
    generator = np.random.default_rng([seed, epoch])
    order = generator.permutation(len(lengths))
    if not length_grouped:
        return [order[start : start + batch_size].tolist() for start in range(0, len(order), batch_size)]
    batches: list[list[int]] = []
    for start in range(0, len(order), GROUP * batch_size):
        group = sorted(order[start : start + GROUP * batch_size].tolist(), key=lambda row: lengths[row])
        batches += [group[first : first + batch_size] for first in range(0, len(group), batch_size)]
    return [batches[index] for index in generator.permutation(len(batches))]


def collate(ids: Sequence[Sequence[int]], pad_token_id: int, device: torch.device) -> dict[str, torch.Tensor]:
    """Pad on the right to the longest row.

    Returns:
        `input_ids` and `attention_mask`, both int64 (batch, longest), on the device.
    """
    longest = max(len(row) for row in ids)
    input_ids = torch.full((len(ids), longest), pad_token_id, dtype=torch.int64)  # (B, T)
    attention_mask = torch.zeros((len(ids), longest), dtype=torch.int64)  # (B, T)
    for index, row in enumerate(ids):
        input_ids[index, : len(row)] = torch.tensor(row)
        attention_mask[index, : len(row)] = 1
    return {"input_ids": input_ids.to(device), "attention_mask": attention_mask.to(device)}

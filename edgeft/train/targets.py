"""A model's logits for the targets of a batch: labels, tags, next tokens, or the ends of an answer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch


@dataclass(frozen=True, eq=False)
class Targets:
    """The targets of a batch, item by item.

    Attributes:
        logits: (m, C) float32, over the C classes: labels, the vocabulary, or the tokens of the item.
        truth: (m,) the right class; with several labels (m, C) zeros and ones; in a regression (m,) the number.
        owners: (m,) index of the item in the batch, ascending.
    """

    logits: torch.Tensor
    truth: torch.Tensor
    owners: torch.Tensor

    def sum_by_item(self, values: torch.Tensor, items: int) -> torch.Tensor:
        """(items,) sums of the (m,) values over the targets of each item of the batch."""
        return torch.zeros(items, device=values.device, dtype=values.dtype).index_add(0, self.owners, values)


def one_per_item(logits: torch.Tensor, truth: Sequence[object]) -> Targets:
    """Targets of items with one target each, from logits (B, C)."""
    owners = torch.arange(len(logits), device=logits.device)
    return Targets(logits.float(), torch.tensor(truth, device=logits.device), owners)

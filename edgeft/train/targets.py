"""What a model says of the targets of a batch: of labels, of tags, of next tokens, of the ends of an answer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch


@dataclass(frozen=True, eq=False)
class Targets:
    """The targets of a batch, item by item.

    Attributes:
        logits: (m, C) float32, over what the target is one of: labels, the vocabulary, the tokens of the item.
        truth: (m,) right ones; of several labels a row (m, C), of a number (m,) itself.
        owners: (m,) place of the item in the batch, ascending.
    """

    logits: torch.Tensor
    truth: torch.Tensor
    owners: torch.Tensor

    def summed(self, each: torch.Tensor, items: int) -> torch.Tensor:
        """(items,) values of the targets, (m,), summed over those of each item of the batch."""
        return torch.zeros(items, device=each.device, dtype=each.dtype).index_add(0, self.owners, each)


def one_each(logits: torch.Tensor, truth: Sequence[object]) -> Targets:
    """Targets of items that have one each: logits (B, C)."""
    owners = torch.arange(len(logits), device=logits.device)
    return Targets(logits.float(), torch.tensor(truth, device=logits.device), owners)

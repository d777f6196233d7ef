"""A language model's likelihood of its targets: log-likelihoods, the likeliest tokens, and some logits."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from torch.nn.functional import cross_entropy

from edgeft.train import metrics
from edgeft.train.loop import packing
from edgeft.train.loop.packing import IGNORED
from edgeft.train.metrics import Figures
from edgeft.train.metrics.bootstrap import Rows, Statistic
from edgeft.train.targets import Targets

if TYPE_CHECKING:
    from edgeft.train.tasks.base import Items

COMPARED_ITEMS, COMPARED_TOKENS = 8, 8  # the check of a merge compares so many items, and so many targets of each


@dataclass(frozen=True, eq=False)
class Likelihoods:
    """A language model's likelihoods of the targets of items.

    Attributes:
        rows: (items,) index of the row in the split.
        nll: (items,) negative log-likelihood in nats, summed over the targets.
        tokens: (items,) number of targets.
        best: (targets,) likeliest token at the position of each target, item by item.
        right: (items,) how many of the likeliest tokens are the target.
        logits: (m, V) of a few targets.
    """

    rows: NDArray[np.int64]
    nll: NDArray[np.float64]
    tokens: NDArray[np.int64]
    best: list[int]
    right: NDArray[np.int64]
    logits: NDArray[np.float32]


def next_token_targets(model: Any, chosen: Sequence[dict[str, Any]], pad_token_id: int) -> Targets:
    """The next tokens of items as targets: the logits at a token predict the token after it.

    The head, whose output is by far the largest array, runs only at positions where some item has a target.
    """
    inputs, labels = packing.collate(chosen, pad_token_id, next(model.parameters()).device)
    is_target = labels[:, 1:] != IGNORED  # (B, T - 1)
    columns = is_target.any(dim=0).nonzero()[:, 0]  # (C,)
    logits = model(**inputs, use_cache=False, logits_to_keep=columns).logits  # (B, C, V)
    return Targets(logits[is_target[:, columns]].float(), labels[:, 1:][is_target], is_target.nonzero()[:, 0])


def collect_likelihoods(batches: Iterable[tuple[list[int], Targets]], items: Items) -> Likelihoods:
    """Collect the likelihoods of all targets, batch by batch.

    Args:
        batches: indices of the items of a batch, and their targets.
        items: all items.
    """
    nll, right = np.zeros(len(items)), np.zeros(len(items), dtype=np.int64)
    best: list[list[int]] = [[] for _ in range(len(items))]
    logits: dict[int, NDArray[np.float32]] = {}
    for indices, targets in batches:
        guesses, losses = (
            targets.logits.argmax(dim=-1),
            cross_entropy(targets.logits, targets.truth, reduction="none"),
        )  # (m,)
        nll[indices] = targets.sum_by_item(losses, len(indices)).double().cpu().numpy()
        right[indices] = targets.sum_by_item((guesses == targets.truth).float(), len(indices)).cpu().numpy()
        for position, item in enumerate(indices):
            in_item = targets.owners == position  # (m,)
            best[item] = guesses[in_item].tolist()
            if item < COMPARED_ITEMS:
                logits[item] = targets.logits[in_item][:COMPARED_TOKENS].cpu().numpy()
    shown = [logits[item] for item in sorted(logits)] or [np.zeros((0, 0), dtype=np.float32)]
    tokens = items.weights.astype(np.int64)
    return Likelihoods(
        items.rows, nll, tokens, [token for item_tokens in best for token in item_tokens], right, np.concatenate(shown)
    )


def sum_by_row(values: NDArray[Any], likelihoods: Likelihoods, rows: int) -> NDArray[np.float64]:
    """(rows,) sums of the (items,) values over the items of each row."""
    return np.bincount(likelihoods.rows, weights=values, minlength=rows).astype(np.float64)


def summarize_tokens(likelihoods: Likelihoods) -> Figures:
    """Perplexity of the targets, the share of them that the model predicts, and how many there are."""
    tokens = int(likelihoods.tokens.sum())
    figures = metrics.perplexity(float(likelihoods.nll.sum()), tokens)
    return {**figures, "token_accuracy": float(likelihoods.right.sum() / tokens), "tokens": tokens}


def nll_statistic(likelihoods: Likelihoods, rows: int) -> Statistic:
    """Mean negative log-likelihood of the targets of some rows: every target counts alike, not every row."""
    nll, tokens = sum_by_row(likelihoods.nll, likelihoods, rows), sum_by_row(likelihoods.tokens, likelihoods, rows)

    def mean(chosen: Rows) -> float | None:
        total = tokens[chosen].sum()
        return float(nll[chosen].sum() / total) if total else None

    return mean

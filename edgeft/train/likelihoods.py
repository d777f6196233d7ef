"""What a language model says of its targets: their logits, their likelihood, the likeliest tokens in their place."""

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

COMPARED_ITEMS, COMPARED_TOKENS = 8, 8  # how many items, and targets of each, stand for all in the check of a merge


@dataclass(frozen=True, eq=False)
class Likelihoods:
    """What a language model says of the targets of items.

    Attributes:
        rows: (items,) the row of the split.
        nll: (items,) negative log-likelihood in nats, summed over the targets.
        tokens: (items,) targets.
        best: (targets,) likeliest token at the place of each target, item by item.
        right: (items,) how many of them are the target.
        logits: (m, V) of a few targets.
    """

    rows: NDArray[np.int64]
    nll: NDArray[np.float64]
    tokens: NDArray[np.int64]
    best: list[int]
    right: NDArray[np.int64]
    logits: NDArray[np.float32]


def next_tokens(model: Any, chosen: Sequence[dict[str, Any]], pad_token_id: int) -> Targets:
    """What a model says of the targets of items: the logits after a token are about the next one.

    The head, whose output is by far the largest array, runs only where some item of the batch has a target.
    """
    inputs, labels = packing.collate(chosen, pad_token_id, next(model.parameters()).device)
    wanted = labels[:, 1:] != IGNORED  # (B, T - 1)
    columns = wanted.any(dim=0).nonzero()[:, 0]  # (C,)
    logits = model(**inputs, use_cache=False, logits_to_keep=columns).logits  # (B, C, V)
    return Targets(logits[wanted[:, columns]].float(), labels[:, 1:][wanted], wanted.nonzero()[:, 0])


def likelihoods(batches: Iterable[tuple[list[int], Targets]], items: Items) -> Likelihoods:
    """Collect what a model says, batch by batch.

    Args:
        batches: places of the items of a batch, and what the model says of their targets.
        items: all of them.
    """
    nll, right = np.zeros(len(items)), np.zeros(len(items), dtype=np.int64)
    best: list[list[int]] = [[] for _ in range(len(items))]
    logits: dict[int, NDArray[np.float32]] = {}
    for places, found in batches:
        guesses, each = found.logits.argmax(dim=-1), cross_entropy(found.logits, found.truth, reduction="none")  # (m,)
        nll[places] = found.summed(each, len(places)).double().cpu().numpy()
        right[places] = found.summed((guesses == found.truth).float(), len(places)).cpu().numpy()
        for index, place in enumerate(places):
            own = found.owners == index  # (m,)
            best[place] = guesses[own].tolist()
            if place < COMPARED_ITEMS:
                logits[place] = found.logits[own][:COMPARED_TOKENS].cpu().numpy()
    shown = [logits[place] for place in sorted(logits)] or [np.zeros((0, 0), dtype=np.float32)]
    tokens = items.weights.astype(np.int64)
    return Likelihoods(items.rows, nll, tokens, [token for one in best for token in one], right, np.concatenate(shown))


def per_row(values: NDArray[Any], found: Likelihoods, rows: int) -> NDArray[np.float64]:
    """(rows,) figures of the items, summed over those of each row."""
    return np.bincount(found.rows, weights=values, minlength=rows).astype(np.float64)


def token_figures(found: Likelihoods) -> Figures:
    """Perplexity of the targets, the share of them that the model thinks likeliest, and how many there are."""
    tokens = int(found.tokens.sum())
    figures = metrics.perplexity(float(found.nll.sum()), tokens)
    return {**figures, "token_accuracy": float(found.right.sum() / tokens), "tokens": tokens}


def nll_of(found: Likelihoods, rows: int) -> Statistic:
    """Nats a target over some rows: a long row counts more than a short one."""
    nll, tokens = per_row(found.nll, found, rows), per_row(found.tokens, found, rows)

    def mean(chosen: Rows) -> float | None:
        total = tokens[chosen].sum()
        return float(nll[chosen].sum() / total) if total else None

    return mean

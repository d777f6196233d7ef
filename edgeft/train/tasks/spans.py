"""Spans of a text and their tokens: characters to tokens for training, logits to characters for answers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeft.runtime.answers.questions import best_spans, trim_span

__all__ = ["Pair", "answer_tokens", "best_span", "encode_pairs", "nll", "token_counts", "trim_span"]


@dataclass(frozen=True)
class Pair:
    """A question and its context as tokens, with special tokens, of any length.

    Attributes:
        ids: (T,) token ids.
        types: (T,) token type ids; zeros if the tokenizer has none.
        first: position of the context's first token.
        offsets: (m,) for each token of the context, its first character there and the one after its last.
    """

    ids: list[int]
    types: list[int]
    first: int
    offsets: list[tuple[int, int]]


def encode_pairs(tokenizer: Any, questions: Sequence[str], contexts: Sequence[str]) -> list[Pair]:
    """Tokens of each question with its context, without truncation."""
    if not questions:
        return []
    encoded = tokenizer(list(questions), list(contexts), return_offsets_mapping=True, verbose=False)
    pairs = []
    for row, ids in enumerate(encoded["input_ids"]):
        types = encoded["token_type_ids"][row] if "token_type_ids" in encoded else [0] * len(ids)
        positions = [position for position, part in enumerate(encoded.sequence_ids(row)) if part == 1]
        offsets = [tuple(encoded["offset_mapping"][row][position]) for position in positions]
        pairs.append(Pair(list(ids), list(types), positions[0] if positions else len(ids), offsets))
    return pairs


def token_counts(tokenizer: Any, texts: Sequence[str]) -> list[int]:
    """(n,) number of tokens of each text, without special tokens."""
    if not texts:
        return []
    encoded = tokenizer(list(texts), add_special_tokens=False, return_attention_mask=False, verbose=False)
    return [len(ids) for ids in encoded["input_ids"]]


def answer_tokens(offsets: Sequence[tuple[int, int]], answers: dict[str, list[Any]]) -> tuple[int, int] | None:
    """First and last context token that the first answer overlaps; None if there is no answer.

    Args:
        offsets: (m,) characters of each token.
        answers: `text` and `answer_start`.
    """
    if not answers["text"]:
        return None
    start = answers["answer_start"][0]
    end = start + len(answers["text"][0])
    touched = [index for index, (first, after) in enumerate(offsets) if first < end and after > start]
    return (touched[0], touched[-1]) if touched else None


def best_span(start: NDArray[np.float32], end: NDArray[np.float32], longest: int) -> tuple[int, int, float]:
    """The span with the largest sum of its logits; of equal spans the one that begins first, then ends first.

    Args:
        start: (m,) logits of the first token.
        end: (m,) logits of the last token.
        longest: tokens of a span, at most.

    Returns:
        First and last token, and the sum; minus infinity if there is no token.
    """
    return next(iter(best_spans(start, end, longest)), (0, 0, -np.inf))


def nll(start: NDArray[np.float32], end: NDArray[np.float32], target: tuple[int, int]) -> float:
    """The mean of the cross-entropies of start and end, in nats; logits (T,) each."""
    return float(
        np.mean([_log_sum(side) - side[position] for side, position in zip((start, end), target, strict=True)])
    )


def _log_sum(logits: NDArray[np.float32]) -> float:
    return float(np.logaddexp.reduce(logits.astype(np.float64)))

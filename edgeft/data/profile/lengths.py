"""Lengths of the texts, and how many a `max_length` would truncate."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from edgeft.data.cited import Document, sample
from edgeft.data.formats.rows import Rows
from edgeft.progress import Bar

STEPS = (16, 32, 64, 128, 256, 512, 1024)  # tokens; common choices of max_length
MAX_CUT = 0.02  # largest share of the texts that a recommended max_length truncates
SAMPLED = 20_000  # most rows whose tokens are counted
CHUNK = 1_000  # texts counted at a time
BINS = 40
PERCENTILES = (50, 90, 95, 99)
WORDS = "words and punctuation marks"
MARK = re.compile(r"\w+|[^\w\s]")

Counts = npt.NDArray[np.int64]


def marks(texts: Sequence[str]) -> list[int]:
    """(n,) words and punctuation marks of each text."""
    return [len(MARK.findall(text)) for text in texts]


@dataclass(frozen=True)
class Counting:
    """A way to count the length of texts.

    Attributes:
        count: function from (n,) texts to their lengths.
        unit: of the lengths, as in `tokens`.
        by: name of the tokenizer, or of its replacement.
        limit: most tokens that its model takes; None if unknown.
    """

    count: Callable[[Sequence[str]], Sequence[int]] = marks
    unit: str = WORDS
    by: str = "no tokenizer; one makes more pieces of a text than it has words"
    limit: int | None = None


def measure(rows: Rows, counting: Counting) -> Document:
    """Measure the lengths of every part of a row.

    Returns:
        `unit`, `counted_by`, `rows` that were counted out of `of`, `parts` (name -> `percentiles`, `cut` and
        `histogram`), `max_length`: the smallest common one that truncates at most 2% of the first part; else None.
    """
    chosen = sample(rows.inputs, SAMPLED)
    texts = rows.kind.texts_to_measure((rows.pick(chosen) if len(chosen) < len(rows) else rows).columns)
    with Bar(f"count {counting.unit}", len(chosen) * len(texts)) as bar:
        counted = {name: _count(of_part, counting, bar) for name, of_part in texts.items()}
    first = next(iter(counted.values()))
    return {
        "unit": counting.unit,
        "counted_by": counting.by,
        "limit": counting.limit,
        "rows": len(chosen),
        "of": len(rows),
        "parts": {name: _describe(lengths) for name, lengths in counted.items()},
        "max_length": smallest(first, counting.limit),
    }


def _count(texts: Sequence[str], counting: Counting, bar: Bar) -> Counts:
    counts = np.zeros(len(texts), dtype=np.int64)
    for start in range(0, len(texts), CHUNK):
        some = texts[start : start + CHUNK]
        counts[start : start + len(some)] = counting.count(some)
        bar.advance(len(some))
    return counts


def smallest(lengths: Counts, limit: int | None = None) -> int | None:
    """The smallest common max_length that truncates at most 2% of the texts; None if even the largest truncates more.

    Args:
        lengths: (n,) of the texts.
        limit: of the model; the largest choice.
    """
    steps = [step for step in STEPS if limit is None or step < limit] + ([limit] if limit else [])
    return next((step for step in steps if (lengths > step).mean() <= MAX_CUT), None)


def _describe(lengths: Counts) -> Document:
    quantiles = {f"p{p}": float(np.percentile(lengths, p)) for p in PERCENTILES}
    return {
        "percentiles": {"min": int(lengths.min()), **quantiles, "max": int(lengths.max())},
        "cut": {str(step): float((lengths > step).mean()) for step in STEPS},
        "histogram": histogram(lengths),
    }


def histogram(values: npt.NDArray[np.int64] | npt.NDArray[np.float64], bins: int = BINS) -> Document:
    """A histogram with equal bins over 99.5% of the values, and the number of values beyond.

    Returns:
        `edges` (b + 1,), `counts` (b,) and `beyond`.
    """
    edges = _whole_edges(values, bins) if values.dtype.kind == "i" else _edges(values, bins)
    counts = np.histogram(values, edges)[0]
    return {"edges": edges.tolist(), "counts": counts.tolist(), "beyond": int(len(values) - counts.sum())}


def _whole_edges(values: npt.NDArray[Any], bins: int) -> npt.NDArray[np.float64]:
    """(b + 1,) edges at integer distances."""
    low, high = float(values.min()), float(np.percentile(values, 99.5)) + 1
    width = max(1.0, np.ceil((high - low) / bins))
    edges: npt.NDArray[np.float64] = low + width * np.arange(max(1, min(bins, int(np.ceil((high - low) / width)))) + 1)
    return edges


def _edges(values: npt.NDArray[Any], bins: int) -> npt.NDArray[np.float64]:
    """(b + 1,) edges between numbers of any size, computed without overflow."""
    low, high = float(values.min()), float(np.percentile(values, 99.5, method="higher"))
    if low == high:
        wide = max(1.0, abs(low) * 1e-6)
        return np.array([low, low + wide] if low <= 0 else [low - wide, low])
    return np.linspace(low / 2, high / 2, bins + 1) * 2

"""How long the texts are, and how many a `max_length` would cut."""

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

STEPS = (16, 32, 64, 128, 256, 512, 1024)  # tokens; what is usually chosen as max_length
MAX_CUT = 0.02  # share of the texts that a recommended max_length cuts, at most
SAMPLED = 20_000  # rows whose tokens are counted, at most
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
    """What counts.

    Attributes:
        count: (n,) texts to their lengths.
        unit: what is counted, as in `tokens`.
        by: whose tokenizer, or what stands in for one.
        limit: tokens that its model takes; None where that is unknown.
    """

    count: Callable[[Sequence[str]], Sequence[int]] = marks
    unit: str = WORDS
    by: str = "no tokenizer; one makes more pieces of a text than it has words"
    limit: int | None = None


def measure(rows: Rows, counting: Counting) -> Document:
    """Lengths of every part of a row.

    Returns:
        `unit`, `counted_by`, `rows` that were counted of `of`, `parts` (name to `percentiles`, `cut` and `histogram`),
        `max_length`: the smallest usual step that cuts at most 2% of the first part; None where no step is enough.
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
    """The smallest usual step that cuts at most 2% of the texts; None where even the largest cuts more.

    Args:
        lengths: (n,) of the texts.
        limit: of the model; the largest step there is.
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
    """Counts between equally wide edges that hold 99.5% of the values, and how many lie beyond.

    Returns:
        `edges` (b + 1,), `counts` (b,) and `beyond`.
    """
    edges = _whole_edges(values, bins) if values.dtype.kind == "i" else _edges(values, bins)
    counts = np.histogram(values, edges)[0]
    return {"edges": edges.tolist(), "counts": counts.tolist(), "beyond": int(len(values) - counts.sum())}


def _whole_edges(values: npt.NDArray[Any], bins: int) -> npt.NDArray[np.float64]:
    """(b + 1,) edges that are a whole number apart."""
    low, high = float(values.min()), float(np.percentile(values, 99.5)) + 1
    width = max(1.0, np.ceil((high - low) / bins))
    edges: npt.NDArray[np.float64] = low + width * np.arange(max(1, min(bins, int(np.ceil((high - low) / width)))) + 1)
    return edges


def _edges(values: npt.NDArray[Any], bins: int) -> npt.NDArray[np.float64]:
    """(b + 1,) edges between numbers of any size; no difference is taken that a float can't hold."""
    low, high = float(values.min()), float(np.percentile(values, 99.5, method="higher"))
    if low == high:
        wide = max(1.0, abs(low) * 1e-6)
        return np.array([low, low + wide] if low <= 0 else [low - wide, low])
    return np.linspace(low / 2, high / 2, bins + 1) * 2

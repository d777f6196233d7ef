"""What heads and channels cost on a machine: the file that latency-targeted pruning decides by."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec

from edgeft.errors import RecipeError

FILE = "latency.json"


@dataclass(frozen=True, kw_only=True)
class LatencyTable:
    """Median milliseconds of one text through the runtime, tokenization counted, by what a layer keeps.

    Attributes:
        base_ms: what isn't in a layer: tokenizer, embeddings, head.
        layers_ms: milliseconds of a layer, by its key/value heads and then by its channels; every row has the same
            channels.
        width: hidden width of the measured models.
        precision: of the measured graphs.
        threads: of the engine.
        texts: how many real texts were asked, again and again.
        machine: as the bench describes it.
    """

    base_ms: float
    layers_ms: dict[int, dict[int, float]]
    width: int
    precision: str = ""
    threads: int = 1
    texts: int = 0
    machine: dict[str, Any] = field(default_factory=dict)

    def predict(self, heads: Sequence[int], channels: Sequence[int]) -> float:
        """Milliseconds of a text.

        Args:
            heads: key/value heads of each layer.
            channels: of each layer.
        """
        return self.base_ms + sum(self._layer(*kept) for kept in zip(heads, channels, strict=True))

    def _layer(self, heads: int, channels: int) -> float:
        return interpolate({known: interpolate(row, channels) for known, row in self.layers_ms.items()}, heads)


def interpolate(points: dict[int, float], place: int) -> float:
    """The value between two measured points, on the line through them; beyond the last, on that line's extension."""
    known = sorted(points)
    if len(known) == 1:
        return points[known[0]]
    after = next((index for index, point in enumerate(known) if point >= place), len(known) - 1)
    low, high = known[max(after, 1) - 1], known[max(after, 1)]
    return points[low] + (points[high] - points[low]) * (place - low) / (high - low)


def read(path: Path) -> LatencyTable:
    """A table from its file.

    Raises:
        RecipeError: there is none, or it is no such table.
    """
    try:
        found = msgspec.json.decode(path.read_bytes(), type=LatencyTable)
    except OSError as error:
        raise RecipeError(f"prune.latency_table: {path} can't be read: {error.strerror}") from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise RecipeError(f"prune.latency_table: {path} is no latency table: {error}") from None
    rows = [set(row) for row in found.layers_ms.values()]
    if not rows or not rows[0] or any(row != rows[0] for row in rows):
        raise RecipeError(f"prune.latency_table: {path} has no milliseconds, or not the same channels for all heads")
    return found

"""What heads and channels cost on a machine: the file that latency-targeted pruning decides by."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec

from edgeft.errors import RecipeError


@dataclass(frozen=True, kw_only=True)
class LatencyTable:
    """Median milliseconds of one text through the runtime, tokenization counted, by what a layer keeps.

    Attributes:
        base_ms: what isn't in a layer: tokenizer, embeddings, head.
        layer_ms: of a layer with everything.
        heads: key/value heads of a layer that keeps all channels, to its milliseconds.
        channels: channels of a layer that keeps all heads, to its milliseconds.
        width: hidden width of the measured models.
        precision: of the measured graphs.
        threads: of the engine.
        texts: how many real texts were asked, again and again.
        machine: as the bench describes it.
    """

    base_ms: float
    layer_ms: float
    heads: dict[int, float]
    channels: dict[int, float]
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
        layers = zip(heads, channels, strict=True)
        return self.base_ms + sum(
            interpolated(self.heads, head) + interpolated(self.channels, channel) - self.layer_ms
            for head, channel in layers
        )


def interpolated(points: dict[int, float], place: int) -> float:
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
    if not found.heads or not found.channels:
        raise RecipeError(f"prune.latency_table: {path} has no heads or no channels")
    return found

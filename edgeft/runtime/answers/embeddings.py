"""A vector for a text: `feature-extraction`. Pooling and normalisation are inside the graph."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

from msgspec import Meta

from edgeft.runtime.answers.windows import Window
from edgeft.runtime.model import BATCH_SIZE, Arrays, Floats, Model

OUTPUT = "embeddings"


@dataclass(frozen=True, kw_only=True)
class Decoding:
    """What reading the output needs, of `Manifest.decoding`.

    Attributes:
        width: numbers of a vector.
    """

    width: Annotated[int, Meta(ge=1, le=1_000_000)]


class Embedder(Model):
    """An artifact that gives each text a vector of length 1; called, it gives the same as lists of floats."""

    reads = (OUTPUT,)
    numbers = replays = (OUTPUT,)
    Decoding = Decoding

    def __call__(self, texts: str | Sequence[str]) -> list[float] | list[list[float]]:
        """The vector of one text, or those of many; `embed` gives them as an array."""
        vectors: list[float] | list[list[float]] = self._predict(texts)
        return vectors

    def decode(self, windows: Sequence[Window], arrays: Sequence[Arrays]) -> list[float]:
        values: list[float] = arrays[0][0].tolist()
        return values

    def replay_values(self, windows: Sequence[Window], arrays: Sequence[Arrays]) -> tuple[Floats, str]:
        return arrays[0][0], ""

    def embed(self, texts: Sequence[str], batch_size: int = BATCH_SIZE) -> Floats:
        return self._rows([texts] if isinstance(texts, str) else texts, OUTPUT, batch_size)

    @property
    def _width(self) -> int:
        return int(self.manifest.decoding["width"])

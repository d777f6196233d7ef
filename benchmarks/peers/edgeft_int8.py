"""edgeft: the graph of an artifact, through the runtime's engine."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import edgeft


def build(model: Path, rows: list[list[int]], folder: Path) -> None:
    """Nothing: the artifact is there."""


def load(folder: Path, threads: int) -> Any:
    """The engine under a loaded artifact."""
    engine = edgeft.load(folder, threads=threads).engine

    def answer(ids: Any) -> Any:
        return engine.run(ids.tolist(), ["logits"])[0]

    return answer

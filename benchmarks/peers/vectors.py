"""fastembed as the bench's subject, on a folder instead of a download; with arguments, the vectors of some texts.

vectors.py FOLDER TEXTS OUT: a JSON list to float32 of (texts, width)
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
from fastembed import TextEmbedding

MODEL = "sentence-transformers/all-MiniLM-L6-v2"


class Vectors:
    """A function of one text.

    Args:
        folder: the fp32 graph and the tokenizer of MODEL.
        threads: of the session.
    """

    def __init__(self, folder: str, threads: int) -> None:
        self.file = Path(folder) / "model.onnx"
        self.model = TextEmbedding(
            MODEL, specific_model_path=folder, threads=threads, providers=["CPUExecutionProvider"]
        )

    def __call__(self, text: str) -> Any:
        """Its vector, of length 1."""
        return next(iter(self.model.embed([text])))

    def many(self, texts: list[str]) -> Any:
        """Vectors of several."""
        return list(self.model.embed(texts, batch_size=len(texts)))

    def facts(self) -> dict[str, Any]:
        """Bytes of the graph, without the tokenizer."""
        return {"bytes": self.file.stat().st_size}


if __name__ == "__main__":
    made = Vectors(sys.argv[1], 1)
    asked = json.loads(Path(sys.argv[2]).read_text(encoding="utf-8"))
    np.save(sys.argv[3], np.array([made(text) for text in asked], dtype=np.float32))

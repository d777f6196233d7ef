"""An engine of this folder as the bench's subject: a text through the model's own tokenizer to a label and a share."""

from __future__ import annotations

import importlib
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
from tokenizers import Tokenizer


class Texts:
    """A function of one text.

    Args:
        engine: a module of this folder.
        folder: of its form of the model.
        model: the folder that was converted, whose tokenizer.json and config.json are read.
        max_length: tokens that a text is cut to.
        threads: of the engine.
    """

    def __init__(self, engine: str, folder: str, model: str, max_length: int, threads: int) -> None:
        sys.path.insert(0, str(Path(__file__).parent))
        self.run = importlib.import_module(engine).load(Path(folder), threads)
        self.tokenizer = Tokenizer.from_file(str(Path(model) / "tokenizer.json"))
        self.tokenizer.no_padding()
        self.tokenizer.enable_truncation(max_length)
        self.names = json.loads((Path(model) / "config.json").read_text(encoding="utf-8"))["id2label"]
        self.files = [file for file in Path(folder).glob("*") if file.suffix in (".onnx", ".xml", ".bin")]

    def __call__(self, text: str) -> dict[str, Any]:
        """As `transformers.pipeline` answers."""
        logits = np.asarray(self.run(np.array([self.tokenizer.encode(text).ids])))[0]
        shares = np.exp(logits - logits.max())
        best = int(shares.argmax())
        return {"label": self.names[str(best)], "score": float(shares[best] / shares.sum())}

    def labelled(self, answer: dict[str, Any]) -> tuple[str, float]:
        """Label and probability."""
        return answer["label"], answer["score"]

    def facts(self) -> dict[str, Any]:
        """Bytes of its form of the model, without the tokenizer."""
        return {"bytes": sum(file.stat().st_size for file in self.files)}

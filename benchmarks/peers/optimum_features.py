"""optimum-onnx as an exporter alone: an encoder's fp32 graph, as fastembed's own models are made."""

from __future__ import annotations

import shutil
from pathlib import Path

from optimum.onnxruntime import ORTModelForFeatureExtraction


def build(model: Path, rows: list[list[int]], folder: Path) -> None:
    """Export, with the tokenizer's files beside it."""
    ORTModelForFeatureExtraction.from_pretrained(model, export=True).save_pretrained(folder)
    for file in (*model.glob("*token*.json"), model / "config.json"):
        shutil.copy(file, folder)

"""A transformers folder as a subject of the bench: `transformers.pipeline` on the CPU."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from edgeft.bench.harness.subjects.adapters import Artifact
from edgeft.errors import UserError
from edgeft.models import model_folder


class Folder:
    """A function of one text."""

    def __init__(self, path: str, threads: int) -> None:
        torch.set_num_threads(threads)
        config = json.loads((Path(path) / "config.json").read_text(encoding="utf-8"))
        trained = (config.get("architectures") or ["none"])[0]
        auto = next(
            (
                auto
                for auto in model_folder.PIPELINES
                if trained.endswith(auto.removeprefix("Auto").removeprefix("Model"))
            ),
            None,
        )
        if auto is None:
            supported = ", ".join(model_folder.PIPELINES)
            raise UserError(f"{path}: {trained} has no pipeline that can be asked texts; those that have: {supported}")
        self.path = Path(path)
        self.labels = list((config.get("id2label") or {}).values())
        self.pipe: Any = model_folder.pipeline(path, model_folder.Head(auto))

    def __call__(self, text: str) -> Any:
        """Its answer."""
        return self.pipe(text)

    def many(self, texts: Sequence[str]) -> Any:
        """As one batch."""
        return list(self.pipe(list(texts), batch_size=len(texts)))

    labelled = Artifact.labelled

    def facts(self) -> dict[str, Any]:
        """Bytes of the weights and of the tokenizer, and its labels."""
        files = [*self.path.glob("*.safetensors"), self.path / "tokenizer.json"]
        size = sum(file.stat().st_size for file in files if file.exists())
        return {"bytes": size, "precision": "fp32", "labels": self.labels}

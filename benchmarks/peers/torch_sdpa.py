"""torch in fp32 with its scaled dot-product attention."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForSequenceClassification


def build(model: Path, rows: list[list[int]], folder: Path) -> None:
    """Nothing but where the model is."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "model").write_text(str(model.resolve()), encoding="utf-8")


def load(folder: Path, threads: int) -> Any:
    """The model in inference mode."""
    torch.set_num_threads(threads)
    source = (folder / "model").read_text(encoding="utf-8")
    model = AutoModelForSequenceClassification.from_pretrained(source, attn_implementation="sdpa").eval()

    def answer(ids: Any) -> Any:
        with torch.inference_mode():
            return model(input_ids=torch.from_numpy(ids)).logits.numpy()

    return answer

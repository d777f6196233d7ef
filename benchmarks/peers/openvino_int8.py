"""OpenVINO: post-training int8 by NNCF for transformers, calibrated on 300 rows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import nncf
import numpy as np
import openvino as ov


def build(model: Path, rows: list[list[int]], folder: Path) -> None:
    """Convert and quantize as the documentation of NNCF does."""
    import torch
    from transformers import AutoModelForSequenceClassification

    source = AutoModelForSequenceClassification.from_pretrained(model).eval()
    ones = torch.ones(1, 16, dtype=torch.long)
    converted = ov.convert_model(source, example_input={"input_ids": ones, "attention_mask": ones})

    def feeds(row: list[int]) -> dict[str, Any]:
        ids = np.array([row])
        return {"input_ids": ids, "attention_mask": np.ones_like(ids)}

    dataset = nncf.Dataset(rows[:300], feeds)
    quantized = nncf.quantize(converted, dataset, model_type=nncf.ModelType.TRANSFORMER, subset_size=300)
    folder.mkdir(parents=True, exist_ok=True)
    ov.save_model(quantized, folder / "model.xml", compress_to_fp16=False)


def load(folder: Path, threads: int) -> Any:
    """One infer request, tuned for latency."""
    options = {"INFERENCE_NUM_THREADS": threads, "PERFORMANCE_HINT": "LATENCY"}
    request = ov.Core().compile_model(folder / "model.xml", "CPU", options).create_infer_request()

    def answer(ids: Any) -> Any:
        return next(iter(request.infer({"input_ids": ids, "attention_mask": np.ones_like(ids)}).values()))

    return answer

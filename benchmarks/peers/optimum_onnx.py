"""optimum-onnx: exported by ORTModel, dynamic int8 by ORTQuantizer for AVX-512 VNNI, run in its own session."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
from optimum.onnxruntime import ORTModelForSequenceClassification, ORTQuantizer
from optimum.onnxruntime.configuration import AutoQuantizationConfig


def build(model: Path, rows: list[list[int]], folder: Path) -> None:
    """Export and quantize as the documentation of optimum-onnx does."""
    ORTModelForSequenceClassification.from_pretrained(model, export=True).save_pretrained(folder / "fp32")
    quantizer = ORTQuantizer.from_pretrained(folder / "fp32")
    config = AutoQuantizationConfig.avx512_vnni(is_static=False, per_channel=False)
    quantizer.quantize(save_dir=folder, quantization_config=config)


def load(folder: Path, threads: int) -> Any:
    """The bare session, with the defaults of onnxruntime."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    session = ort.InferenceSession(folder / "model_quantized.onnx", options, providers=["CPUExecutionProvider"])
    names = {item.name for item in session.get_inputs()}

    def answer(ids: Any) -> Any:
        feeds = {"input_ids": ids, "attention_mask": np.ones_like(ids), "token_type_ids": np.zeros_like(ids)}
        return session.run(["logits"], {name: feeds[name] for name in names})[0]

    return answer

"""An artifact of a few bytes: its logits are the counts of two words."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgeft import artifact
from edgeft.artifact import InputSpec, Manifest, Quantization

TEXTS = ["good", "bad", "good good"]


def write_artifact(folder: Path) -> Path:
    """An artifact whose logits are the counts of `bad` and `good`."""
    onnx = pytest.importorskip("onnx")
    tokenizers = pytest.importorskip("tokenizers")
    folder.mkdir(parents=True)
    helper, numpy_helper = onnx.helper, onnx.numpy_helper
    rows = np.array([[0, 0], [3, 0], [0, 3]], dtype=np.float32)  # [PAD] bad good
    nodes = [
        helper.make_node("Gather", ["rows", "input_ids"], ["each"]),
        helper.make_node("ReduceSum", ["each", "axis"], ["logits"], keepdims=0),
        helper.make_node("Softmax", ["logits"], ["probabilities"], axis=-1),
    ]
    graph = helper.make_graph(
        nodes,
        "counts",
        [helper.make_tensor_value_info("input_ids", onnx.TensorProto.INT64, ["batch", "tokens"])],
        [helper.make_tensor_value_info(n, onnx.TensorProto.FLOAT, ["batch", 2]) for n in ("logits", "probabilities")],
        [numpy_helper.from_array(rows, "rows"), numpy_helper.from_array(np.array([1], dtype=np.int64), "axis")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    onnx.save(model, folder / artifact.MODEL)
    words = tokenizers.Tokenizer(tokenizers.models.WordLevel({"[PAD]": 0, "bad": 1, "good": 2}, unk_token="[PAD]"))
    words.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    words.save(str(folder / artifact.TOKENIZER))
    (folder / artifact.GOLDEN).write_text(json.dumps({"tolerance": 1e-3, "rows": [_golden(text) for text in TEXTS]}))
    manifest = Manifest(
        task="text-classification",
        labels=["negative", "positive"],
        inputs=InputSpec(names=["input_ids"], max_length=8, pad_token_id=0),
        quantization=Quantization(precision="fp32", scheme="none"),
    )
    artifact.write_manifest(folder, manifest, [artifact.MODEL, artifact.TOKENIZER, artifact.GOLDEN])
    return folder


def _golden(text: str) -> dict[str, Any]:
    words = text.split()
    logits = [3.0 * words.count("bad"), 3.0 * words.count("good")]
    label = "positive" if logits[1] > logits[0] else "negative"
    return {"text": text, "input_ids": [1 + (word == "good") for word in words], "logits": logits, "label": label}

"""Graphs to export: tiny models of every architecture, captured once each, and nets of a few lines."""

from __future__ import annotations

import contextlib
import functools
import io
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import support_shared
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper, parser

from edgeft.errors import ArtifactError
from edgeft.runtime.machine import kernels, processor

Floats = NDArray[np.float32]

VOCABULARY = 1100
SIZES: dict[str, Any] = {
    "hidden_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 96,
    "max_position_embeddings": 64,
    "vocab_size": VOCABULARY,
    "pad_token_id": 0,
    "initializer_range": 0.15,
}
NARROW = {"embedding_size": 16}
GROUPED = {"num_key_value_heads": 2}
SPECIAL = {"bos_token_id": 1, "eos_token_id": 2, "cls_token_id": 1, "sep_token_id": 2}
RELATIVE = {"relative_attention": True, "pos_att_type": ["p2c", "c2p"], "position_buckets": 16}
DEBERTA = {**RELATIVE, "share_att_key": True, "position_biased_input": False, "norm_rel_ebd": "layer_norm"}
DISTILBERT = {"dim": 64, "n_layers": 2, "n_heads": 4, "hidden_dim": 96}
MODERNBERT = {**SPECIAL, "local_attention": 16, "global_attn_every_n_layers": 2}
KINDS: dict[str, dict[str, Any]] = {
    "bert": {},
    "distilbert": DISTILBERT,
    "roberta": {},
    "albert": NARROW,
    "electra": NARROW,
    "deberta-v2": DEBERTA,
    "modernbert": MODERNBERT,
    "mpnet": {},
    "llama": GROUPED,
    "qwen2": GROUPED,
}


def model_of(auto: Any, kind: str, labels: int) -> Any:
    """A model with random weights."""
    import torch
    from transformers import AutoConfig

    torch.manual_seed(0)
    return auto.from_config(AutoConfig.for_model(kind, num_labels=labels, **{**SIZES, **KINDS[kind]})).eval()


@functools.cache
def classifier(kind: str) -> Any:
    """A classifier of three labels."""
    from transformers import AutoModelForSequenceClassification

    return model_of(AutoModelForSequenceClassification, kind, 3)


def captured(kind: str) -> onnx.ModelProto:
    """The captured graph of `classifier`, to change."""
    return onnx.load(capture_of(kind) / "model.onnx")


def capture_of(kind: str) -> Path:
    """The folder of `model.onnx`, and of what its capture wrote to standard error and left of the configuration."""

    def capture_classifier(folder: Path) -> None:
        from edgeft.export.capture.capture import capture

        model, said = classifier(kind), io.StringIO()
        with contextlib.redirect_stderr(said):
            onnx.save(capture(model, 20), folder / "model.onnx")
        (folder / "said.txt").write_text(said.getvalue(), encoding="utf-8")
        (folder / "attention.txt").write_text(str(model.config._attn_implementation), encoding="utf-8")

    return support_shared.built(f"capture-{kind}", capture_classifier)


def token_ids(lengths: Sequence[int], seed: int = 0) -> list[list[int]]:
    """Random token ids of texts of these lengths."""
    generator = np.random.default_rng(seed)
    return [generator.integers(3, VOCABULARY, length).tolist() for length in lengths]


def small(body: str, outputs: str, **constants: NDArray[np.generic]) -> onnx.ModelProto:
    """A graph of `input_ids` (batch, tokens).

    Args:
        body: nodes in ONNX's own text form.
        outputs: likewise, as in `float[batch, tokens, 64] y`.
        constants: its initializers.
    """
    head = '<ir_version: 10, opset_import: ["" : 20, "com.microsoft" : 1]>'
    model = parser.parse_model(f"{head} small (int64[batch, tokens] input_ids) => ({outputs}) {{ {body} }}")
    for node in model.graph.node:
        node.name = node.output[0]
    model.graph.initializer.extend(numpy_helper.from_array(values, name) for name, values in constants.items())
    return model


def answers(
    model: onnx.ModelProto, path: Path, ids: list[list[int]], outputs: Sequence[str] = (), native: bool = True
) -> list[Floats]:
    """What a graph answers through the runtime's engine; without names: all outputs."""
    from edgeft.runtime.engine import Engine

    onnx.save(model, path)
    engine = Engine(path, 0, threads=1, native=native)
    return engine.run(ids, outputs or engine.output_names)


def check_refused_here(model: onnx.ModelProto, path: Path) -> bool:
    """Whether this processor can't load a graph, which is then one line.

    onnxruntime 1.31 takes exact int8 products where its others saturate, as on AVX2, and fails to make a second one of
    a weight that two nodes share.
    """
    uses = Counter(name for node in model.graph.node for name in node.input)
    shared = any(
        tensor.data_type == onnx.TensorProto.INT8 and uses[tensor.name] > 1 for tensor in model.graph.initializer
    )
    if not shared or kernels.library() is not None or not processor.saturates():
        return False
    with pytest.raises(ArtifactError, match="can't be loaded by onnxruntime") as caught:
        answers(model, path, [[1]])
    assert "\n" not in str(caught.value)
    return True


def kinds_of(model: onnx.ModelProto) -> list[str]:
    """The operators of a graph, in order."""
    return [node.op_type for node in model.graph.node]


def bag_of_words(labels: int = 2, vocabulary: int = 200) -> onnx.ModelProto:
    """logits = sum over the row's tokens of a fixed table; the mask leaves padding out."""
    table = np.random.default_rng(0).normal(size=(vocabulary, labels)).astype(np.float32)
    nodes = [
        helper.make_node("Gather", ["table", "input_ids"], ["vectors"]),
        helper.make_node("Cast", ["attention_mask"], ["mask"], to=TensorProto.FLOAT),
        helper.make_node("Unsqueeze", ["mask", "last"], ["column"]),
        helper.make_node("Mul", ["vectors", "column"], ["masked"]),
        helper.make_node("ReduceSum", ["masked", "middle"], ["logits"], keepdims=0),
    ]
    inputs = [
        helper.make_tensor_value_info(name, TensorProto.INT64, ["batch", "tokens"])
        for name in ("input_ids", "attention_mask")
    ]
    outputs = [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", labels])]
    constants = [
        numpy_helper.from_array(table, "table"),
        numpy_helper.from_array(np.array([2], dtype=np.int64), "last"),
        numpy_helper.from_array(np.array([1], dtype=np.int64), "middle"),
    ]
    graph = helper.make_graph(nodes, "bag", inputs, outputs, constants)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)

"""Small rewrites of an ONNX graph: post-processing, temperature, and fusion for onnxruntime."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import numpy as np
import onnx
import onnxruntime as ort
from onnx import TensorProto, helper, numpy_helper

from edgeft.export.files import load, save
from edgeft.runtime.engine import SLOW_FUSIONS

TEMPERATURE = "temperature"
HIDDEN, EMBEDDINGS = "last_hidden_state", "embeddings"
# What makes probabilities of logits, by kind; a number, and the ends of an answer, stay as they are.
FUNCTIONS: dict[str, Literal["Softmax", "Sigmoid"]] = {
    "single-label": "Softmax",
    "multi-label": "Sigmoid",
    "tokens": "Softmax",
}


def add_probabilities(
    graph: onnx.ModelProto, temperature: float = 1.0, function: Literal["Softmax", "Sigmoid"] = "Softmax"
) -> onnx.ModelProto:
    """Append `probabilities` = function(`logits` / temperature) as a second output, in place.

    Args:
        graph: with output `logits` (batch, labels) or (batch, tokens, labels).
        temperature: kept as an initializer that `set_temperature` changes.
        function: over the labels, or of each of them for itself.
    """
    value = numpy_helper.from_array(np.array(temperature, dtype=np.float32), TEMPERATURE)
    graph.graph.initializer.append(value)
    graph.graph.node.append(helper.make_node("Div", ["logits", TEMPERATURE], ["scaled_logits"], name="temperature_div"))
    axis = {"axis": -1} if function == "Softmax" else {}
    name = f"probabilities_{function.lower()}"
    graph.graph.node.append(helper.make_node(function, ["scaled_logits"], ["probabilities"], name=name, **axis))
    axes = [axis.dim_value or axis.dim_param for axis in graph.graph.output[0].type.tensor_type.shape.dim]
    graph.graph.output.append(helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, axes))
    return graph


def add_embeddings(graph: onnx.ModelProto, pooling: str) -> onnx.ModelProto:
    """Answer with `embeddings` (batch, width) instead of `last_hidden_state`: pooled and of length 1; in place.

    Args:
        graph: with output `last_hidden_state` (batch, tokens, width) and input `attention_mask`.
        pooling: `mean` over the tokens that are no padding (Reimers and Gurevych, "Sentence-BERT", 2019), or `cls`, the
            first token.
    """
    nodes = {
        "cls": [helper.make_node("Gather", [HIDDEN, "first"], ["pooled"], name="pooling_first", axis=1)],
        "mean": [
            helper.make_node("Cast", ["attention_mask"], ["mask"], name="pooling_mask", to=TensorProto.FLOAT),
            helper.make_node("Unsqueeze", ["mask", "last_axis"], ["column"], name="pooling_column"),
            helper.make_node("Mul", [HIDDEN, "column"], ["unpadded"], name="pooling_unpadded"),
            helper.make_node("ReduceSum", ["unpadded", "token_axis"], ["total"], name="pooling_total", keepdims=0),
            helper.make_node("ReduceSum", ["mask", "token_axis"], ["count"], name="pooling_count", keepdims=1),
            helper.make_node("Div", ["total", "count"], ["pooled"], name="pooling_mean"),
        ],
    }[pooling]
    places: dict[str, int | list[int]] = {"first": 0} if pooling == "cls" else {"last_axis": [2], "token_axis": [1]}
    for name, value in places.items():
        graph.graph.initializer.append(numpy_helper.from_array(np.array(value, dtype=np.int64), name))
    norm = helper.make_node("LpNormalization", ["pooled"], [EMBEDDINGS], name="embeddings_norm", axis=1, p=2)
    graph.graph.node.extend([*nodes, norm])
    width = graph.graph.output[0].type.tensor_type.shape.dim[2].dim_value
    del graph.graph.output[:]
    graph.graph.output.append(helper.make_tensor_value_info(EMBEDDINGS, TensorProto.FLOAT, ["batch", width]))
    return graph


def set_temperature(graph: onnx.ModelProto, temperature: float) -> onnx.ModelProto:
    """Change the temperature of a graph in place; one without `add_probabilities` has none."""
    for tensor in graph.graph.initializer:
        if tensor.name == TEMPERATURE:
            tensor.CopyFrom(numpy_helper.from_array(np.array(temperature, dtype=np.float32), TEMPERATURE))
    return graph


def finish(made: Path, target: Path, kind: str = "single-label", pooling: str = "mean") -> None:
    """Append what a graph's kind answers with, and write it.

    Args:
        made: captured or quantized, as `files.save` wrote it.
        target: where it goes.
        kind: as the manifest names it.
        pooling: of embeddings.
    """
    model = load(made)
    # Operators of edgeft leave little to fuse, and their bodies have to stay, as have pairs of static int8.
    if not model.functions and not any(node.op_type == "QuantizeLinear" for node in model.graph.node):
        del model
        model = fused(made, target)
    # After the fusion, which would take a temperature of 1 for a division that can go.
    if kind == "embeddings":
        add_embeddings(model, pooling)
    elif kind in FUNCTIONS:
        add_probabilities(model, function=FUNCTIONS[kind])
    save(model, target)


def fused(made: Path, scratch: Path) -> onnx.ModelProto:
    """Let onnxruntime fuse a graph once and for all.

    Fusions up to the extended level depend on no processor, so the graph stays portable among onnxruntimes.

    Args:
        made: the graph.
        scratch: a file to write.
    """
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
    options.optimized_model_filepath = str(scratch)
    options.log_severity_level = 3
    ort.InferenceSession(str(made), options, providers=["CPUExecutionProvider"], disabled_optimizers=list(SLOW_FUSIONS))
    return onnx.load(scratch)

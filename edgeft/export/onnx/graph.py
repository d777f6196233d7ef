"""Small rewrites of an ONNX graph: post-processing, calibration, and fusion for onnxruntime."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import onnx
import onnxruntime as ort
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from edgeft import tasks
from edgeft.artifact import Calibration
from edgeft.export.onnx.files import load, save
from edgeft.runtime.engine import SLOW_FUSIONS

CALIBRATION = "calibration"  # how the names begin of what stands between logits and probabilities
Function = Literal["Softmax", "Sigmoid"]
HIDDEN, EMBEDDINGS = "last_hidden_state", "embeddings"


def add_probabilities(graph: onnx.ModelProto, function: Function = "Softmax") -> onnx.ModelProto:
    """Append `probabilities` = function(`logits`) as a second output, in place.

    Args:
        graph: with output `logits` (batch, labels) or (batch, tokens, labels).
        function: over the labels, or of each of them for itself.
    """
    graph.graph.node.append(_function(function, "logits", "probabilities", f"probabilities_{function.lower()}"))
    axes = [axis.dim_value or axis.dim_param for axis in graph.graph.output[0].type.tensor_type.shape.dim]
    graph.graph.output.append(helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, axes))
    return graph


def _function(function: str, given: str, made: str, name: str) -> onnx.NodeProto:
    options: dict[str, Any] = {"axis": -1} if function == "Softmax" else {}
    return helper.make_node(function, [given], [made], name=name, **options)


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


def set_calibration(graph: onnx.ModelProto, calibration: Calibration) -> onnx.ModelProto:
    """Let a graph's `probabilities` be calibrated, in place; an earlier calibration is replaced.

    A graph without probabilities stays as it is.
    """
    nodes, constants = graph.graph.node, graph.graph.initializer
    last = next((node for node in nodes if "probabilities" in node.output), None)
    if last is None:
        return graph
    function = next(node.op_type for node in nodes if node.name.startswith("probabilities_"))
    for things in (nodes, constants):
        kept = [one for one in things if not one.name.startswith((CALIBRATION, "probabilities_"))]
        del things[:]
        things.extend(kept)
    calibrate = _isotonic if calibration.method == "isotonic" else _affine
    made, values = calibrate(calibration, function)
    nodes.extend(made)
    constants.extend(numpy_helper.from_array(value, name) for name, value in values.items())
    return graph


Tail = tuple[list[onnx.NodeProto], dict[str, NDArray[Any]]]  # nodes, and the constants that they read


def _affine(calibration: Calibration, function: str) -> Tail:
    """function(logits * scale + bias), without what does nothing."""
    scale = np.array(calibration.scale or [1 / calibration.temperature], dtype=np.float32)  # (L,) or (1,)
    bias = np.array(calibration.bias or [0.0], dtype=np.float32)
    steps = [("Mul", f"{CALIBRATION}_scale", scale), ("Add", f"{CALIBRATION}_bias", bias)]
    nodes, constants, given = [], {}, "logits"
    for operator, name, value in steps:
        if (value != (operator == "Mul")).any():
            nodes.append(helper.make_node(operator, [given, name], [f"{name}d_logits"], name=f"{name}_node"))
            constants[name], given = value, f"{name}d_logits"
    return [*nodes, _function(function, given, "probabilities", f"probabilities_{function.lower()}")], constants


def _isotonic(calibration: Calibration, function: str) -> Tail:
    """A table for each label: its lowest value, and of each step to the next point the part that the score has gone.

    After a softmax the labels are made to sum to 1 again (Zadrozny and Elkan 2002, section 5).
    """
    starts, widths, rises, lowest = _steps(calibration.isotonic)
    constants = {"starts": starts, "speeds": 1 / widths, "rises": rises, "lowest": lowest}
    constants |= {"zero": np.float32(0), "one": np.float32(1), "last": np.array([-1])}
    ends = [*_sum_to_one()] if function == "Softmax" else [("Identity", ["mapped"], "probabilities", {})]
    chain: list[tuple[str, list[str], str, dict[str, Any]]] = [
        ("Unsqueeze", ["scores", "last"], "column", {}),  # (..., L, 1)
        ("Sub", ["column", "starts"], "past", {}),  # (..., L, K)
        ("Mul", ["past", "speeds"], "parts", {}),
        ("Clip", ["parts", "zero", "one"], "gone", {}),
        ("Mul", ["gone", "rises"], "risen", {}),
        ("ReduceSum", ["risen", "last"], "total", {"keepdims": 0}),  # (..., L)
        ("Add", ["total", "lowest"], "mapped", {}),
        *ends,
    ]
    own = {name: f"{CALIBRATION}_{name}" for name in (*constants, "scores", *(made for _, _, made, _ in chain))}
    own["probabilities"] = "probabilities"
    nodes = [_function(function, "logits", own["scores"], f"probabilities_{function.lower()}")]
    for operator, given, made, options in chain:
        names = [own[name] for name in given]
        nodes.append(helper.make_node(operator, names, [own[made]], name=f"{CALIBRATION}_{made}_node", **options))
    return nodes, {own[name]: np.asarray(value) for name, value in constants.items()}


def _sum_to_one() -> list[tuple[str, list[str], str, dict[str, Any]]]:
    return [
        ("ReduceSum", ["mapped", "last"], "sum", {"keepdims": 1}),
        ("Div", ["mapped", "sum"], "probabilities", {}),
    ]


def _steps(tables: Sequence[Sequence[tuple[float, float]]]) -> tuple[NDArray[np.float32], ...]:
    """Starts, widths and rises of the steps between points, (L, K) each, and the lowest values (L,).

    A table with fewer points than another gets steps that rise by nothing.
    """
    most = max(2, max(len(points) for points in tables))
    padded = [
        [*points, *[(points[-1][0] + 1 + extra, points[-1][1]) for extra in range(most - len(points))]]
        for points in tables
    ]
    values = np.array(padded, dtype=np.float32)  # (L, K + 1, 2)
    steps = np.diff(values, axis=1)
    return values[:, :-1, 0], steps[..., 0], steps[..., 1], values[:, 0, 1]


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
        model = fuse(made, target)
    # After the fusion, so that what is calibrated later stands alone at the end.
    form = tasks.find_form(kind)
    if form.answers_with_embedding:
        add_embeddings(model, pooling)
    elif form.probabilities:
        add_probabilities(model, function=form.probabilities)
    save(model, target)


def fuse(made: Path, scratch: Path) -> onnx.ModelProto:
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

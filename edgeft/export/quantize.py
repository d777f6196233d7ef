"""Dynamic int8: per-channel weights, activations quantized at run time; and which layers it hurts."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, numpy_helper
from onnxruntime.quantization import QuantType, quantize_dynamic

from edgeft.progress import track

OPERATORS = ("MatMul", "Gemm", "Gather")
SCHEME = "dynamic: per-channel int8 weights, uint8 activations with one scale for each tensor"

Predict = Callable[[Path], NDArray[np.float32]]


def int8(source: Path, target: Path, float_layers: Iterable[str] = ()) -> None:
    """Quantize a graph's weights to int8.

    Args:
        source: fp32 graph.
        target: where the int8 graph goes.
        float_layers: weights (initializer names) that stay fp32.
    """
    graph = onnx.load(source)
    keep = set(float_layers)
    excluded = [node.name for node in graph.graph.node if keep.intersection(node.input)]
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)  # the quantizer advises pre-processing that the exporter has already done
    try:
        quantize_dynamic(
            graph,
            target,
            per_channel=True,
            weight_type=QuantType.QInt8,
            op_types_to_quantize=list(OPERATORS),
            nodes_to_exclude=excluded,
            extra_options={"DefaultTensorType": TensorProto.FLOAT},
        )
    finally:
        logging.disable(before)


def weights(path: Path) -> list[str]:
    """Names of the weights that int8 would quantize: the matrices of MatMul and Gemm."""
    graph = onnx.load(path).graph
    matrices = {tensor.name for tensor in graph.initializer if len(tensor.dims) == 2}
    found = (name for node in graph.node if node.op_type in ("MatMul", "Gemm") for name in node.input)
    return list(dict.fromkeys(name for name in found if name in matrices))


def sensitivity(source: Path, scratch: Path, predict: Predict, reference: NDArray[np.float32]) -> list[str]:
    """Weights by how much int8 in them alone moves the logits, most harmful first.

    Args:
        source: fp32 graph.
        scratch: file for the trials.
        predict: logits of a graph on some real rows.
        reference: logits of the fp32 graph on the same rows, (rows, labels).
    """
    names = weights(source)
    harm = {}
    for name in track(names, "int8 sensitivity"):
        int8(source, scratch, float_layers=[other for other in names if other != name])
        harm[name] = float(np.abs(predict(scratch) - reference).mean())
    scratch.unlink(missing_ok=True)
    return sorted(names, key=lambda name: -harm[name])


def exact_twin(graph: onnx.ModelProto) -> onnx.ModelProto:
    """The same int8 graph with its weights shifted to uint8, in place.

    u8s8 products saturate in 16 bits on x86 without VNNI; u8u8 kernels don't. w and w + 128 with a zero point of 128
    stand for the same numbers, so equal answers of both forms prove that nothing saturates here.
    """
    tensors = {tensor.name: tensor for tensor in graph.graph.initializer}
    shifted: set[str] = set()
    for node in graph.graph.node:
        if node.op_type == "MatMulInteger":
            shifted.update(name for name in (node.input[1], node.input[3]) if name in tensors)
    for name in shifted:
        values = numpy_helper.to_array(tensors[name])
        if values.dtype == np.int8:
            moved = (values.astype(np.int16) + 128).astype(np.uint8)
            tensors[name].CopyFrom(numpy_helper.from_array(moved, name))
    return graph

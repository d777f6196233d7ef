"""Small rewrites of an ONNX graph: post-processing, temperature, and fusion for onnxruntime."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
from onnx import TensorProto, helper, numpy_helper

from edgeft.runtime.engine import SLOW_FUSIONS

TEMPERATURE = "temperature"


def add_probabilities(graph: onnx.ModelProto, temperature: float = 1.0) -> onnx.ModelProto:
    """Append `probabilities` = softmax(`logits` / temperature) as a second output, in place.

    Args:
        graph: with output `logits` (batch, labels).
        temperature: kept as an initializer that `set_temperature` changes.
    """
    value = numpy_helper.from_array(np.array(temperature, dtype=np.float32), TEMPERATURE)
    graph.graph.initializer.append(value)
    graph.graph.node.append(helper.make_node("Div", ["logits", TEMPERATURE], ["scaled_logits"], name="temperature_div"))
    graph.graph.node.append(
        helper.make_node("Softmax", ["scaled_logits"], ["probabilities"], name="probabilities_softmax", axis=-1)
    )
    labels = graph.graph.output[0].type.tensor_type.shape.dim[1]
    columns = labels.dim_value or labels.dim_param
    graph.graph.output.append(helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, ["batch", columns]))
    return graph


def set_temperature(graph: onnx.ModelProto, temperature: float) -> onnx.ModelProto:
    """Change the temperature of a graph that `add_probabilities` made, in place."""
    found = next(tensor for tensor in graph.graph.initializer if tensor.name == TEMPERATURE)
    found.CopyFrom(numpy_helper.from_array(np.array(temperature, dtype=np.float32), TEMPERATURE))
    return graph


def finish(source: Path, target: Path) -> None:
    """Fuse a captured or quantized graph, append `probabilities`, and write it."""
    fuse(source, target)
    # After the fusion, which would take a temperature of 1 for a division that can go.
    onnx.save(add_probabilities(onnx.load(target)), target)


def fuse(source: Path, target: Path) -> None:
    """Let onnxruntime fuse the graph once and for all, and write it.

    Fusions up to the extended level depend on no processor, so the file stays portable among onnxruntimes.
    """
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
    options.optimized_model_filepath = str(target)
    options.log_severity_level = 3
    ort.InferenceSession(
        str(source), options, providers=["CPUExecutionProvider"], disabled_optimizers=list(SLOW_FUSIONS)
    )

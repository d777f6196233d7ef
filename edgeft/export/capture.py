"""A torch model to an fp32 ONNX graph. transformers.exporters is kept behind this one module."""

from __future__ import annotations

import contextlib
import logging
import os
import warnings
from collections.abc import Iterator
from typing import Any

import onnx
import torch

from edgeft.errors import ModelError
from edgeft.progress import say

INPUTS = ("input_ids", "attention_mask")
AXES = {0: "batch", 1: "tokens"}


def capture(model: Any, opset: int) -> onnx.ModelProto:
    """Capture a sequence classifier with dynamic batch and length.

    Args:
        model: on the CPU.
        opset: ONNX operator set.

    Returns:
        A graph with int64 inputs `input_ids` and `attention_mask` (batch, tokens) and output `logits`
        (batch, labels).

    Raises:
        ModelError: neither exporter can take the model.
    """
    model = model.cpu().eval()
    sample = _sample(model)
    for attempt in (_by_transformers, _by_torch):
        try:
            with _quiet():
                graph = attempt(model, sample, opset)
        except Exception as error:  # noqa: BLE001 - exporters raise whatever their many parts raise
            failure = error
            say(
                f"export: {attempt.__name__.removeprefix('_by_')} exporter failed: {' '.join(str(error).split())[:160]}"
            )
            continue
        return _tidy(graph)
    raise ModelError(f"{type(model).__name__} can't be captured as ONNX: {' '.join(str(failure).split())[:300]}")


def _sample(model: Any) -> dict[str, torch.Tensor]:
    """Two rows of different length, so that no axis looks constant."""
    ids = torch.arange(10, 26).reshape(2, 8) % model.config.vocab_size
    mask = torch.ones_like(ids)
    mask[1, 5:] = 0
    return {"input_ids": ids, "attention_mask": mask}


def _dynamic_shapes() -> dict[str, dict[int, Any]]:
    batch, tokens = torch.export.Dim("batch"), torch.export.Dim("tokens")
    return {name: {0: batch, 1: tokens} for name in INPUTS}


def _by_transformers(model: Any, sample: dict[str, torch.Tensor], opset: int) -> onnx.ModelProto:
    import onnx_ir
    from transformers.exporters import OnnxConfig, OnnxExporter

    config = OnnxConfig(dynamic=True, opset_version=opset)
    program = OnnxExporter().export(model, dict(sample), config=config)
    return onnx_ir.to_proto(getattr(program, "program", program))


def _by_torch(model: Any, sample: dict[str, torch.Tensor], opset: int) -> onnx.ModelProto:
    program = torch.onnx.export(
        model,
        args=(),
        kwargs=dict(sample),
        input_names=list(INPUTS),
        output_names=["logits"],
        opset_version=opset,
        dynamic_shapes=_dynamic_shapes(),
        dynamo=True,
        verbose=False,
    )
    assert program is not None
    return program.model_proto


def _tidy(graph: onnx.ModelProto) -> onnx.ModelProto:
    """Name the axes, and drop what tracing leaves behind: stale shapes (they break the quantizer) and stack traces."""
    del graph.graph.value_info[:]
    for node in graph.graph.node:
        del node.metadata_props[:]
        node.doc_string = ""
    del graph.metadata_props[:]
    for value in (*graph.graph.input, *graph.graph.output):
        del value.metadata_props[:]
        for axis, name in AXES.items():
            if axis == 0 or value.name in INPUTS:
                value.type.tensor_type.shape.dim[axis].dim_param = name
    for tensor in graph.graph.initializer:
        tensor.doc_string = ""
        del tensor.metadata_props[:]
    return graph


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """The exporters print progress and drift warnings that tell a user nothing to act on."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    with warnings.catch_warnings(), contextlib.redirect_stdout(open(os.devnull, "w")):  # noqa: PTH123
        warnings.simplefilter("ignore")
        try:
            yield
        finally:
            logging.disable(before)

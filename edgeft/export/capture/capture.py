"""A torch model to an fp32 ONNX graph. transformers.exporters is kept behind this one module."""

from __future__ import annotations

import contextlib
import gc
import logging
import os
import tempfile
import warnings
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import onnx
import torch

from edgeft.errors import ModelError
from edgeft.export.capture.attention import as_operator
from edgeft.export.onnx.rewrite import pack_attention, share_constants
from edgeft.progress import say
from edgeft.runtime.machine.memory import give_back

INPUTS, TYPES = ("input_ids", "attention_mask"), "token_type_ids"
# What a graph answers with, by the names of transformers; a bare encoder's `pooler_output` is dropped.
OUTPUTS = ("logits", "start_logits", "end_logits", "last_hidden_state")
BATCH, TOKENS = "batch", "tokens"


def capture(model: Any, opset: int, types: bool = False) -> onnx.ModelProto:
    """The first of `captures`."""
    return next(captures(model, opset, types))


def captures(model: Any, opset: int, types: bool = False) -> Iterator[onnx.ModelProto]:
    """Capture an encoder, with or without a head, with dynamic batch and length; each exporter's graph when asked for.

    Args:
        model: on the CPU.
        opset: ONNX operator set.
        types: whether the graph takes `token_type_ids`, too.

    Yields:
        Graphs with int64 inputs `input_ids` and `attention_mask` (batch, tokens) and, by the kind of model, outputs
        `logits` (batch, labels), `logits` (batch, tokens, labels), `start_logits` and `end_logits` (batch, tokens) or
        `last_hidden_state` (batch, tokens, width); the one that runs fastest first.

    Raises:
        ModelError: no exporter can take the model.
    """
    model = model.cpu().eval()
    sample = _sample(model, types)
    failure, any_made = "", False
    attempts = (
        ("capture with attention as one operator", _with_attention),
        ("the exporter of transformers", _by_transformers),
        ("the exporter of torch", _by_torch),
    )
    for name, attempt in attempts:
        try:
            with _quiet(), _without_cache(model):
                made = [attempt(model, sample, opset)]
        except Exception as error:  # noqa: BLE001 - exporters raise whatever their many parts raise
            failure = " ".join(str(error).split())
            if not _is_unsupported(error):
                say(f"export: {name} failed: {failure[:160]}")
            continue
        if not any(value.name in OUTPUTS for value in made[0].graph.output):
            names = ", ".join(value.name for value in made[0].graph.output)
            raise ModelError(f"{type(model).__name__} answers with {names}; what can be exported: {', '.join(OUTPUTS)}")
        any_made = True
        yield share_constants(_tidy(made.pop()))  # nothing here keeps the graph while its user works on it
    if not any_made:
        raise ModelError(f"{type(model).__name__} can't be captured as ONNX: {failure[:300]}")


def _is_unsupported(error: BaseException | None) -> bool:
    """Whether the error, or one that caused it, says that the model isn't supported: no exporter broke then."""
    while error is not None and not isinstance(error, ModelError):
        error = error.__cause__ or error.__context__
    return error is not None


def _sample(model: Any, types: bool) -> dict[str, torch.Tensor]:
    """Two rows of different length, so that no axis looks constant."""
    ids = torch.arange(10, 26).reshape(2, 8) % model.config.vocab_size
    mask = torch.ones_like(ids)
    mask[1, 5:] = 0
    found = dict(zip(INPUTS, (ids, mask), strict=True))
    return {**found, TYPES: (torch.arange(16) % 8 > 2).long().reshape(2, 8)} if types else found


def _dynamic_shapes(names: Iterable[str]) -> dict[str, dict[int, Any]]:
    batch, tokens = torch.export.Dim(BATCH), torch.export.Dim(TOKENS)
    return {name: {0: batch, 1: tokens} for name in names}


def _outputs(model: Any, sample: dict[str, torch.Tensor]) -> list[str]:
    """All outputs that the model has, in its order."""
    with torch.no_grad():
        return list(model(**sample))


def _with_attention(model: Any, sample: dict[str, torch.Tensor], opset: int) -> onnx.ModelProto:
    """Attention as one operator; most encoders' attention is no more than that."""
    with as_operator(model):
        return pack_attention(_by_torch(model, sample, opset))


def _by_transformers(model: Any, sample: dict[str, torch.Tensor], opset: int) -> onnx.ModelProto:
    import onnx_ir
    from transformers.exporters import OnnxConfig, OnnxExporter

    config = OnnxConfig(dynamic=True, opset_version=opset)
    program = OnnxExporter().export(model, dict(sample), config=config)
    captured: onnx.ModelProto = onnx_ir.to_proto(getattr(program, "program", program))
    return captured


def _by_torch(model: Any, sample: dict[str, torch.Tensor], opset: int) -> onnx.ModelProto:
    program = torch.onnx.export(
        model,
        args=(),
        kwargs=dict(sample),
        input_names=list(sample),
        output_names=_outputs(model, sample),
        opset_version=opset,
        dynamic_shapes=_dynamic_shapes(sample),
        dynamo=True,
        verbose=False,
        optimize=False,
    )
    assert program is not None
    weights = list(program.model.graph.initializers.values())
    program.optimize()
    weights += program.model.graph.initializers.values()
    with tempfile.TemporaryDirectory() as place:  # one message has the weights thrice
        path = Path(place) / "model.onnx"
        program.save(path, external_data=True)
        for value in weights:  # onnxscript's rewriter keeps the graph that it saw last
            value.const_value = None
        del program, weights
        gc.collect()
        give_back()
        return onnx.load(path)


def _tidy(graph: onnx.ModelProto) -> onnx.ModelProto:
    """Name the axes, keep the outputs that are meant, and drop what tracing leaves behind.

    That is stale shapes, which break the quantizer, and stack traces.
    """
    kept = [value for value in graph.graph.output if value.name in OUTPUTS]
    del graph.graph.output[:]
    graph.graph.output.extend(kept)
    del graph.graph.value_info[:]
    for node in graph.graph.node:
        del node.metadata_props[:]
        node.doc_string = ""
    del graph.metadata_props[:]
    for value in (*graph.graph.input, *graph.graph.output):
        del value.metadata_props[:]
        axes = value.type.tensor_type.shape.dim
        axes[0].dim_param = BATCH
        if len(axes) == 3 or value.name != "logits":
            axes[1].dim_param = TOKENS
    for tensor in graph.graph.initializer:
        tensor.doc_string = ""
        del tensor.metadata_props[:]
    return graph


@contextlib.contextmanager
def _without_cache(model: Any) -> Iterator[None]:
    """No keys and values as further outputs, which decoders' bodies give for a next token that nobody asks for."""
    before = getattr(model.config, "use_cache", None)
    model.config.use_cache = False
    try:
        yield
    finally:
        if before is None:
            del model.config.use_cache
        else:
            model.config.use_cache = before


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

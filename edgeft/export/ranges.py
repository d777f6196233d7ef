"""What values a graph's activations take on real rows, in memory that doesn't grow with their number."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper

from edgeft.runtime.engine import Engine


def channel_ranges(
    model: onnx.ModelProto, names: Iterable[str], rows: Iterable[Sequence[int]], scratch: Path
) -> dict[str, NDArray[np.float32]]:
    """The largest size of each channel of some values.

    Args:
        model: an fp32 graph.
        names: values of shape (..., K).
        rows: token ids of real texts, run one by one.
        scratch: a file for the graph with these values as outputs; removed.

    Returns:
        Value to float32 (K).
    """
    wanted = list(dict.fromkeys(names))
    watched = onnx.ModelProto()
    watched.CopyFrom(model)
    present = {value.name for value in watched.graph.output}
    extra = [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in wanted if name not in present]
    watched.graph.output.extend(extra)
    onnx.save(watched, scratch)
    try:
        engine = Engine(scratch, pad_token_id=0)
        found: dict[str, NDArray[np.float32]] = {}
        for ids in rows:
            for name, values in zip(wanted, engine.run([ids], wanted), strict=True):
                size = np.abs(values).reshape(-1, values.shape[-1]).max(axis=0)
                found[name] = np.maximum(found[name], size) if name in found else size
        return found
    finally:
        scratch.unlink()

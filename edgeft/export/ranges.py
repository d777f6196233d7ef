"""What values a graph's activations take on real rows, in memory that doesn't grow with their number."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Literal

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper
from onnxruntime.quantization.calibrate import (
    CalibrationMethod,
    HistogramCollector,
    TensorData,
    TensorsData,
)

from edgeft.export.net import save
from edgeft.runtime.engine import Engine
from edgeft.runtime.windows import Window

Method = Literal["minmax", "percentile", "entropy"]
Rows = Iterable[Window]

BINS, LEVELS, PERCENTILE = 2048, 128, 99.99  # as onnxruntime's own calibrators have them


def watch(
    model: onnx.ModelProto, names: Sequence[str], rows: Rows, scratch: Path
) -> Iterator[dict[str, NDArray[np.float32]]]:
    """Values inside a graph, row by row.

    Args:
        model: an fp32 graph.
        names: values of shape (..., K).
        rows: real inputs.
        scratch: a file for the graph with these values as outputs; removed.
    """
    if not names:  # onnxruntime would take none for all
        return
    outputs = model.graph.output
    own = {value.name for value in outputs}
    outputs.extend(helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in names if name not in own)
    save(model, scratch)
    del outputs[len(own) :]
    try:
        engine = Engine(scratch, pad_token_id=0)
        for window in rows:
            yield dict(zip(names, engine.run([window.ids], names, [window.types]), strict=True))
    finally:
        scratch.unlink()


def channel_ranges(
    model: onnx.ModelProto, names: Iterable[str], rows: Rows, scratch: Path
) -> dict[str, NDArray[np.float32]]:
    """The largest size of each channel of some values; arguments as of `watch`.

    Returns:
        Value to float32 (K).
    """
    wanted = list(dict.fromkeys(names))
    found: dict[str, NDArray[np.float32]] = {}
    for values in watch(model, wanted, rows, scratch):
        for name, value in values.items():
            size = np.abs(value).reshape(-1, value.shape[-1]).max(axis=0)
            found[name] = np.maximum(found[name], size) if name in found else size
    return found


def tensor_ranges(
    model: onnx.ModelProto, names: Iterable[str], rows: Rows, scratch: Path, method: Method
) -> TensorsData:
    """The range of each value as a whole, for static quantization; arguments as of `watch`.

    Args:
        model: as above.
        names: as above.
        rows: as above.
        scratch: as above.
        method: smallest and largest; 99.99% of the values; or the range that loses least information.
    """
    wanted = list(dict.fromkeys(names))
    if method == "minmax":
        return _extremes(watch(model, wanted, rows, scratch))
    collector = HistogramCollector(method, False, BINS, LEVELS, PERCENTILE, "same")
    with contextlib.redirect_stdout(open(os.devnull, "w")):  # noqa: PTH123
        for values in watch(model, wanted, rows, scratch):
            collector.collect({name: [value] for name, value in values.items()})
        found = collector.compute_collection_result()
    kind = CalibrationMethod.Percentile if method == "percentile" else CalibrationMethod.Entropy
    return TensorsData(kind, {name: found[name] for name in wanted})


def _extremes(values: Iterable[dict[str, NDArray[np.float32]]]) -> TensorsData:
    found: dict[str, tuple[np.float32, np.float32]] = {}
    for row in values:
        for name, value in row.items():
            low, high = found.get(name, (np.float32(0), np.float32(0)))
            found[name] = (min(low, value.min()), max(high, value.max()))
    ranges = {name: TensorData(lowest=np.array(low), highest=np.array(high)) for name, (low, high) in found.items()}
    return TensorsData(CalibrationMethod.MinMax, ranges)

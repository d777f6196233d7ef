"""What values a graph's activations take on real rows, in memory that doesn't grow with their number."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from onnx import TensorProto, helper
from onnxruntime.quantization.calibrate import (
    HistogramCollector,
)

from edgeft.export.onnx.files import load, save
from edgeft.runtime.answers.windows import Window
from edgeft.runtime.engine import Engine

Method = Literal["minmax", "percentile", "entropy"]
Rows = Iterable[Window]
Channels = NDArray[np.float32]
Smoothed = tuple[str, Channels]  # a value of a graph, and what its channels are divided by
Limits = tuple[float, float]

BINS, LEVELS, PERCENTILE = 2048, 128, 99.99  # as onnxruntime's own calibrators have them


def watch(captured: Path, names: Sequence[str], rows: Rows, scratch: Path) -> Iterator[dict[str, NDArray[np.float32]]]:
    """Values inside a graph, row by row.

    Args:
        captured: an fp32 graph.
        names: values of shape (..., K).
        rows: real inputs.
        scratch: a file for the graph with these values as outputs; removed.
    """
    if not names:  # onnxruntime would take none for all
        return
    _add_outputs(captured, names, scratch)
    try:
        engine = Engine(scratch, pad_token_id=0)
        for window in rows:
            yield dict(zip(names, engine.run([window.ids], names, [window.types]), strict=True))
    finally:
        scratch.unlink()


def _add_outputs(captured: Path, names: Sequence[str], target: Path) -> None:
    """Write a graph with further outputs; a function of its own, so that its weights go before it runs."""
    model = load(captured)
    own = {value.name for value in model.graph.output}
    model.graph.output.extend(
        helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in names if name not in own
    )
    save(model, target)


def channel_ranges(captured: Path, names: Iterable[str], rows: Rows, scratch: Path) -> dict[str, Channels]:
    """The largest size of each channel of some values; arguments as of `watch`.

    Returns:
        Value to float32 (K).
    """
    wanted = list(dict.fromkeys(names))
    found: dict[str, Channels] = {}
    for values in watch(captured, wanted, rows, scratch):
        for name, value in values.items():
            size = np.abs(value).reshape(-1, value.shape[-1]).max(axis=0)
            found[name] = np.maximum(found[name], size) if name in found else size
    return found


def tensor_ranges(
    captured: Path, products: Mapping[str, Smoothed], rows: Rows, scratch: Path, method: Method
) -> dict[str, Limits]:
    """The range of each smoothed value as a whole, for static quantization.

    Args:
        captured: as of `watch`.
        products: what to call it -> the value and the divisors of its channels.
        rows: as of `watch`.
        scratch: as of `watch`.
        method: smallest and largest; 99.99% of the values; or the range that loses least information.
    """
    names = list(dict.fromkeys(value for value, _ in products.values()))
    seen = (
        {product: values[name] / divisors for product, (name, divisors) in products.items()}
        for values in watch(captured, names, rows, scratch)
    )
    if method == "minmax":
        return _find_extremes(seen)
    collector = HistogramCollector(method, False, BINS, LEVELS, PERCENTILE, "same")
    with contextlib.redirect_stdout(open(os.devnull, "w")):  # noqa: PTH123
        for values in seen:
            collector.collect({name: [value] for name, value in values.items()})
        found = collector.compute_collection_result() if products else {}
    return {name: _limits(found[name]) for name in products}


def _limits(found: tuple[Any, ...]) -> Limits:
    """onnxruntime's collectors give the range first, and of entropy more behind it."""
    return float(found[0]), float(found[1])


def _find_extremes(seen: Iterable[dict[str, NDArray[np.float32]]]) -> dict[str, Limits]:
    found: dict[str, Limits] = {}
    for values in seen:
        for name, value in values.items():
            low, high = found.get(name, (0.0, 0.0))
            found[name] = (min(low, float(value.min())), max(high, float(value.max())))
    return found

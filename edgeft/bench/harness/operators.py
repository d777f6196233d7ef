"""A profile of onnxruntime: which operators take a session's time, and how much a graph computes for a text."""

from __future__ import annotations

import json
import math
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from edgeft.runtime.engine import Engine

Event = Mapping[str, Any]
Shape = tuple[str, Sequence[int]]  # element type and lengths

# The first input's elements times the output's last axis are the multiply-adds of these.
FP32 = frozenset({"MatMul", "FusedMatMul", "Gemm", "FusedGemm"})
INT8 = frozenset(
    {
        *("MatMulInteger", "MatMulIntegerToFloat", "DynamicQuantizeMatMul", "QLinearMatMul", "QGemm", "MatMulNBits"),
        *("Linear", "GeluLinear", "LinearNorm", "GeluLinearNorm"),
    }
)
# Every token's output row looks at every token, once for its scores and once for its values.
ATTENTION = frozenset({"Attention", "QAttention", "MultiHeadAttention"})
PROJECTING = {"Attention": 4.0, "QAttention": 1.0}  # onnxruntime's own have the projections' weights, of so many bytes
WEIGHT_BYTES = {**dict.fromkeys(FP32, 4.0), **dict.fromkeys(INT8, 1.0), "MatMulNBits": 0.5}
WEIGHTS = frozenset({"float", "float16", "int8", "uint8"})  # what a mask, the other input of so few axes, never is


def profile_operators(graph: Path, like: Engine, ask: Callable[[Engine], None]) -> list[Event]:
    """Profile a graph: onnxruntime's event of each operator that ran.

    Args:
        graph: of the session.
        like: an engine of the same graph with the padding and threads to use.
        ask: runs it.
    """
    with tempfile.TemporaryDirectory(prefix="edgeft-profile-") as folder:
        engine = Engine(graph, like.pad_token_id, like.threads, profile=Path(folder) / "run")
        ask(engine)
        events = json.loads(engine.profiled().read_text(encoding="utf-8"))
    return [event for event in events if event.get("cat") == "Node" and event["name"].endswith("_kernel_time")]


def describe_operators(events: Sequence[Event], texts: int) -> dict[str, Any]:
    """Time shares and work per text, from profiler events."""
    return {"operators": shares(events), "work": count_work(events, texts)}


def shares(events: Sequence[Event]) -> dict[str, float]:
    """Operator to its share of the session's time, the largest first."""
    took: dict[str, float] = {}
    for event in events:
        name = event["args"]["op_name"]
        took[name] = took.get(name, 0.0) + event["dur"]
    total = sum(took.values()) or 1.0
    return {name: took[name] / total for name in sorted(took, key=lambda name: -took[name])}


def count_work(events: Sequence[Event], texts: int) -> dict[str, float]:
    """Count the average work of a text: `fp32_macs` and `int8_macs`, multiply-adds of products and of
    attention, and `weight_bytes` of these products as the kernels read them. Weights that were packed beforehand stand
    in no event: what isn't shown is a weight.

    Args:
        events: of all texts.
        texts: how many.
    """
    totals = {"fp32_macs": 0.0, "int8_macs": 0.0, "weight_bytes": 0.0}
    for event in events:
        name = event["args"]["op_name"]
        inputs, outputs = (_shapes(event["args"].get(key)) for key in ("input_type_shape", "output_type_shape"))
        if not inputs or not outputs or not inputs[0][1] or not outputs[0][1]:
            continue
        (_, first), (_, out), columns, size = inputs[0], outputs[0], 0, WEIGHT_BYTES.get(name, 0.0)
        if name in WEIGHT_BYTES:
            columns = out[-1]
            size = 0.0 if len(inputs) > 1 and len(inputs[1][1]) > 2 else size  # a product of two activations
        elif name in ATTENTION and len(out) > 1:
            totals["fp32_macs"] += 2 * math.prod(out) * out[-2]
            columns, size = _projected_columns(inputs) if name in PROJECTING else 0, PROJECTING.get(name, 0.0)
        int8 = name in INT8 or name == "QAttention"
        totals["int8_macs" if int8 else "fp32_macs"] += math.prod(first) * columns
        totals["weight_bytes"] += size * first[-1] * columns
    return {name: value / max(1, texts) for name, value in totals.items()}


def _projected_columns(inputs: Sequence[Shape]) -> int:
    """How many columns the projections inside of an attention have, by their bias or weights; 0: there are none."""
    return next((shape[-1] for kind, shape in inputs[1:] if kind in WEIGHTS and len(shape) in (1, 2)), 0)


def _shapes(listed: Iterable[Mapping[str, Sequence[int]]] | None) -> list[Shape]:
    """Element type and shape of each input or output."""
    return [next(iter(entry.items())) for entry in listed or () if entry]

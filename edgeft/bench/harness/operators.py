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

# The first input's elements times the output's last axis are the multiply-adds of these.
PRODUCTS = frozenset(
    {
        *("MatMul", "FusedMatMul", "Gemm", "FusedGemm", "MatMulNBits"),
        *("MatMulInteger", "MatMulIntegerToFloat", "DynamicQuantizeMatMul", "QLinearMatMul", "QGemm"),
        *("Linear", "GeluLinear", "LinearNorm", "GeluLinearNorm"),
    }
)
# Every token's output row looks at every token, once for its scores and once for its values; onnxruntime's own kinds
# may hold the projections' weights, too.
ATTENTION = frozenset({"Attention", "QAttention", "MultiHeadAttention"})
INT8, WEIGHTS = frozenset({"int8", "uint8"}), frozenset({"int8", "uint8", "float", "float16"})


def profiled(graph: Path, like: Engine, ask: Callable[[Engine], None]) -> list[Event]:
    """What onnxruntime writes of each operator that ran.

    Args:
        graph: of the session.
        like: an engine of the same graph, whose padding and threads are taken.
        ask: runs it.
    """
    with tempfile.TemporaryDirectory(prefix="edgeft-profile-") as folder:
        engine = Engine(graph, like.pad_token_id, like.threads, profile=Path(folder) / "run")
        ask(engine)
        events = json.loads(engine.profiled().read_text(encoding="utf-8"))
    return [one for one in events if one.get("cat") == "Node" and one["name"].endswith("_kernel_time")]


def described(events: Sequence[Event], texts: int) -> dict[str, Any]:
    """Shares and work of some texts' events."""
    return {"operators": shares(events), "work": work(events, texts)}


def shares(events: Sequence[Event]) -> dict[str, float]:
    """Operator to its share of the session's time, the largest first."""
    took: dict[str, float] = {}
    for event in events:
        name = event["args"]["op_name"]
        took[name] = took.get(name, 0.0) + event["dur"]
    total = sum(took.values()) or 1.0
    return {name: took[name] / total for name in sorted(took, key=lambda name: -took[name])}


def work(events: Sequence[Event], texts: int) -> dict[str, float]:
    """What a text asks of the machine, on average: `fp32_macs` and `int8_macs`, multiply-adds of products and of
    attention, and `weight_bytes` of these products, as the kernels read them: one byte each in int8, else four.

    Args:
        events: of all texts.
        texts: how many.
    """
    found = {"fp32_macs": 0.0, "int8_macs": 0.0, "weight_bytes": 0.0}
    for event in events:
        given, made = (_shapes(event["args"].get(key)) for key in ("input_type_shape", "output_type_shape"))
        name = event["args"]["op_name"]
        if not given or not made or not given[0][1] or not made[0][1]:
            continue
        (_, first), (_, out) = given[0], made[0]
        int8 = any(kind in INT8 for kind, _ in given)
        columns = out[-1] if name in PRODUCTS else 0
        if name in ATTENTION and len(out) > 1:
            found["fp32_macs"] += 2 * math.prod(out) * out[-2]
            columns = given[1][1][-1] if len(given) > 1 and len(given[1][1]) == 2 and given[1][0] in WEIGHTS else 0
        found["int8_macs" if int8 else "fp32_macs"] += math.prod(first) * columns
        if len(given) < 2 or len(given[1][1]) <= 2:  # else a product of two activations
            found["weight_bytes"] += first[-1] * columns * (1 if int8 else 4)
    return {name: value / max(1, texts) for name, value in found.items()}


def _shapes(listed: Iterable[Mapping[str, Sequence[int]]] | None) -> list[tuple[str, Sequence[int]]]:
    """Element type and shape of each input or output."""
    return [next(iter(one.items())) for one in listed or () if one]

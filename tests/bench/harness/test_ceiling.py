"""What a graph computes by onnxruntime's own profile, against numbers by hand; and what a machine reaches."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgeft.bench.harness import ceiling, operators
from edgeft.runtime.engine import Engine

TOKENS, WIDTH, WIDE, LABELS = 5, 8, 16, 3


def event(name: str, given: list[tuple[str, list[int]]], made: list[int], took: float = 1.0) -> dict[str, Any]:
    shapes = {"input_type_shape": [{kind: shape} for kind, shape in given], "output_type_shape": [{"float": made}]}
    return {"dur": took, "args": {"op_name": name, **shapes}}


def embedded(path: Path) -> Path:
    """ids -> embeddings -> a product with weights -> a product with itself, transposed."""
    draw = np.random.default_rng(0)
    table, weights = (draw.standard_normal(shape).astype(np.float32) for shape in ((9, WIDTH), (WIDTH, WIDE)))
    nodes = [
        helper.make_node("Gather", ["table", "input_ids"], ["embedded"]),
        helper.make_node("MatMul", ["embedded", "weights"], ["wide"]),
        helper.make_node("Transpose", ["wide"], ["turned"], perm=[0, 2, 1]),
        helper.make_node("MatMul", ["wide", "turned"], ["logits"]),
    ]
    ids = helper.make_tensor_value_info("input_ids", TensorProto.INT64, ["batch", "tokens"])
    logits = helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", "tokens", "tokens"])
    kept = [numpy_helper.from_array(table, "table"), numpy_helper.from_array(weights, "weights")]
    graph = helper.make_graph(nodes, "embedded", [ids], [logits], kept)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), path)
    return path


def test_the_work_of_a_graph_by_hand(tmp_path: Path) -> None:
    graph = embedded(tmp_path / "model.onnx")
    engine = Engine(graph, 0, 1)

    def ask(one: Engine) -> None:
        for length in (TOKENS, TOKENS + 2):
            one.run([[1] * length])

    events = operators.profile_operators(graph, engine, ask)
    lengths = (TOKENS, TOKENS + 2)
    macs = np.mean([length * WIDTH * WIDE + length * length * WIDE for length in lengths])
    # onnxruntime may fold the transposition into the product; the multiply-adds stay the same
    assert operators.count_work(events, 2) == {"fp32_macs": macs, "int8_macs": 0.0, "weight_bytes": 4 * WIDTH * WIDE}
    found = operators.shares(events)
    assert sum(found.values()) == pytest.approx(1)
    assert "Gather" in found
    assert list(found.values()) == sorted(found.values(), reverse=True)


WIDE_IN, WIDE_OUT = 64, 192
FUSED: dict[str, tuple[dict[str, Any], list[Any]]] = {
    "Attention": ({"num_heads": 2}, [np.ones((WIDE_IN, WIDE_OUT), np.float32), np.ones(WIDE_OUT, np.float32)]),
    "DynamicQuantizeMatMul": ({}, [np.ones((WIDE_IN, WIDE_OUT), np.int8), np.ones(1, np.float32)]),
    "MatMulNBits": (
        {"K": WIDE_IN, "N": WIDE_OUT, "bits": 4, "block_size": 32},
        [np.ones((WIDE_OUT, 2, 16), np.uint8), np.ones(WIDE_OUT * 2, np.float32)],
    ),
}


@pytest.mark.parametrize(
    ("name", "fp32", "int8", "weights"),
    [
        ("Attention", 5 * 64 * 192 + 2 * 5 * 5 * 64, 0, 4 * 64 * 192),
        ("DynamicQuantizeMatMul", 0, 5 * 64 * 192, 64 * 192),
        ("MatMulNBits", 0, 5 * 64 * 192, 64 * 192 / 2),
    ],
)
def test_weights_that_onnxruntime_packs_and_hides_count(
    name: str, fp32: float, int8: float, weights: float, tmp_path: Path
) -> None:
    options, given = FUSED[name]
    inputs = [f"weight_{place}" for place in range(len(given))]
    table = np.random.default_rng(0).standard_normal((9, WIDE_IN)).astype(np.float32)
    nodes = [
        helper.make_node("Gather", ["table", "input_ids"], ["embedded"]),
        helper.make_node(name, ["embedded", *inputs], ["logits"], domain="com.microsoft", **options),
    ]
    ids = helper.make_tensor_value_info("input_ids", TensorProto.INT64, ["batch", "tokens"])
    logits = helper.make_tensor_value_info("logits", TensorProto.FLOAT, None)
    kept = [numpy_helper.from_array(value, key) for key, value in zip(["table", *inputs], [table, *given], strict=True)]
    graph = helper.make_graph(nodes, "fused", [ids], [logits], kept)
    domains = [helper.make_opsetid("", 17), helper.make_opsetid("com.microsoft", 1)]
    onnx.save(helper.make_model(graph, opset_imports=domains, ir_version=9), tmp_path / "model.onnx")

    def run_once(one: Engine) -> None:
        one.run([[1] * TOKENS])

    engine = Engine(tmp_path / "model.onnx", 0, 1)
    events = operators.profile_operators(tmp_path / "model.onnx", engine, run_once)
    assert operators.count_work(events, 1) == {"fp32_macs": fp32, "int8_macs": int8, "weight_bytes": weights}


@pytest.mark.parametrize(
    ("one", "fp32", "int8", "weights"),
    [
        (event("Gemm", [("float", [1, 8]), ("float", [3])], [1, 3]), 24, 0, 96),  # packed weights aren't shown
        (event("Linear", [("float", [1, 5, 8]), ("int8", [8, 16])], [1, 5, 16]), 0, 640, 128),
        (event("DynamicQuantizeMatMul", [("float", [1, 5, 8])], [1, 5, 16]), 0, 640, 128),
        (event("MatMulNBits", [("float", [1, 5, 8])], [1, 5, 16]), 0, 640, 64),
        (event("Attention", [("float", [1, 5, 8]), ("float", [24])], [1, 5, 8]), 400 + 960, 0, 768),
        (event("MultiHeadAttention", [("float", [1, 5, 8]), ("float", [24])], [1, 5, 8]), 400, 0, 0),
        (event("MatMul", [("float", [1, 2, 5, 4]), ("float", [1, 2, 4, 5])], [1, 2, 5, 5]), 200, 0, 0),
        (event("Attention", [("float", [1, 5, 24]), ("int64", [1, 5])], [1, 5, 8]), 400, 0, 0),
        (event("Attention", [("float", [1, 5, 8]), ("float", [8, 24])], [1, 5, 8]), 400 + 960, 0, 768),
        (event("QAttention", [("uint8", [1, 5, 8]), ("int8", [8, 24])], [1, 5, 8]), 400, 960, 192),
        (event("Add", [("float", [1, 5, 8]), ("float", [8])], [1, 5, 8]), 0, 0, 0),
        (event("MatMul", [], []), 0, 0, 0),
    ],
)
def test_the_work_of_an_operator(one: dict[str, Any], fp32: float, int8: float, weights: float) -> None:
    assert operators.count_work([one], 1) == {"fp32_macs": fp32, "int8_macs": int8, "weight_bytes": weights}


def test_shares_of_the_time() -> None:
    events = [event(name, [], [], took) for name, took in (("A", 1.0), ("B", 6.0), ("A", 1.0))]
    assert operators.shares(events) == {"B": 0.75, "A": 0.25}
    assert operators.shares([]) == {}


def test_the_least_time_by_hand() -> None:
    work = {"fp32_macs": 2e6, "int8_macs": 8e6, "weight_bytes": 5e6}
    peak = {"fp32_macs_per_s": 1e9, "int8_macs_per_s": 4e9, "bytes_per_s": 1e10}
    assert ceiling.ceiling(work, peak) == pytest.approx({"arithmetic_ms": 4.0, "bandwidth_ms": 0.5})


def test_what_this_machine_reaches(monkeypatch: pytest.MonkeyPatch) -> None:
    found = ceiling.measure_peaks(1)
    assert found is not None
    assert found["threads"] == 1
    assert found["fp32_macs_per_s"] > 1e8
    assert found["bytes_per_s"] > 1e8
    monkeypatch.setattr(ceiling, "PEAKS", "raise MemoryError")
    assert ceiling.measure_peaks(1) is None
    monkeypatch.setattr(ceiling, "PEAKS", 'print(\'{"fp32_macs_per_s": 2e9, "bytes_per_s": 1e9}\')')
    for sets, by, times in ((["avx2", "avx512_vnni"], "avx512_vnni", 4), ([], "fp32", 1), (["avx512f"], "avx512f", 1)):
        monkeypatch.setattr(ceiling, "instruction_sets", lambda sets=sets: sets)
        found = ceiling.measure_peaks(1)
        assert found is not None
        assert found["int8_by"] == by
        assert found["int8_macs_per_s"] == times * 2e9

"""Capture, quantization and their checks, on tiny models made in code."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
import torch
from onnx import numpy_helper

from edgeft import models
from edgeft.bench.race import Ratio
from edgeft.errors import GateError, RecipeError
from edgeft.export import capture as capturing
from edgeft.export import graph, parity, quantize
from edgeft.export.capture import capture
from edgeft.export.export import check_names, check_parity, objections
from edgeft.export.parity import Parity
from edgeft.recipe import ExportConfig

TEXT_IDS = [[2, 5, 9, 11, 3], [2, 7, 3]]


@pytest.fixture(scope="module")
def captured(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Path]:
    """A tiny classifier and its captured graph."""
    torch.manual_seed(0)
    model = models.load_classifier(tiny_model, ["a", "b", "c"])
    with torch.no_grad():
        model.classifier.weight.normal_()
    path = tmp_path_factory.mktemp("graph") / "captured.onnx"
    onnx.save(capture(model, 18), path)
    return model, path


def run(path: Path, ids: list[list[int]], output: str = "logits") -> np.ndarray[Any, Any]:
    from edgeft.runtime.engine import Engine

    return Engine(path, 0, threads=1).run(ids, [output])[0]


def torch_logits(model: Any, ids: list[list[int]]) -> np.ndarray[Any, Any]:
    from edgeft.train.tasks.sequences import predict

    return predict(model, ids, 0)


def test_the_graph_takes_any_batch_and_length(captured: tuple[Any, Path]) -> None:
    model, path = captured
    for ids in (TEXT_IDS, [[2, 3]], [[2, *range(4, 30), 3]] * 5):
        np.testing.assert_allclose(run(path, ids), torch_logits(model, ids), atol=1e-5)


def test_the_captured_graph_names_its_axes_and_carries_no_traces(captured: tuple[Any, Path]) -> None:
    proto = onnx.load(captured[1])
    shapes = {item.name: [d.dim_param for d in item.type.tensor_type.shape.dim] for item in proto.graph.input}
    assert shapes == {"input_ids": ["batch", "tokens"], "attention_mask": ["batch", "tokens"]}
    assert str(Path.home()).encode() not in proto.SerializeToString()
    assert b"site-packages" not in proto.SerializeToString()


def test_torch_takes_over_where_transformers_fails(
    captured: tuple[Any, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def _by_transformers(*_: object) -> None:
        raise RuntimeError("no such exporter")

    monkeypatch.setattr(capturing, "_by_transformers", _by_transformers)
    onnx.save(capture(captured[0], 18), tmp_path / "m.onnx")
    assert "transformers exporter failed: no such exporter" in capsys.readouterr().err
    np.testing.assert_allclose(run(tmp_path / "m.onnx", TEXT_IDS), torch_logits(captured[0], TEXT_IDS), atol=1e-5)


def test_capture_twice_gives_equal_bytes(captured: tuple[Any, Path]) -> None:
    model, path = captured
    assert capture(model, 18).SerializeToString(deterministic=True) == onnx.load(path).SerializeToString(
        deterministic=True
    )


def test_finished_graph_has_probabilities_that_follow_the_temperature(
    captured: tuple[Any, Path], tmp_path: Path
) -> None:
    graph.finish(captured[1], tmp_path / "m.onnx")
    onnx.save(graph.set_temperature(onnx.load(tmp_path / "m.onnx"), 4.0), tmp_path / "warm.onnx")
    logits = run(tmp_path / "warm.onnx", TEXT_IDS)
    expected = np.exp(logits / 4) / np.exp(logits / 4).sum(axis=1, keepdims=True)
    np.testing.assert_allclose(run(tmp_path / "warm.onnx", TEXT_IDS, "probabilities"), expected, rtol=1e-5)
    np.testing.assert_allclose(logits, run(captured[1], TEXT_IDS), atol=1e-5)


def test_int8_equals_numpy_on_one_matrix(tmp_path: Path) -> None:
    """The slow twin: one dynamic scale for the activations, one scale for each column of the weight."""
    from onnx import TensorProto, helper

    generator = np.random.default_rng(0)
    weight = generator.normal(size=(16, 4)).astype(np.float32)
    x = generator.normal(size=(3, 16)).astype(np.float32)
    proto = helper.make_model(
        helper.make_graph(
            [helper.make_node("MatMul", ["x", "w"], ["y"], name="product")],
            "one",
            [helper.make_tensor_value_info("x", TensorProto.FLOAT, [None, 16])],
            [helper.make_tensor_value_info("y", TensorProto.FLOAT, [None, 4])],
            [numpy_helper.from_array(weight, "w")],
        ),
        opset_imports=[helper.make_opsetid("", 18)],
        ir_version=9,
    )
    onnx.save(proto, tmp_path / "f.onnx")
    quantize.int8(tmp_path / "f.onnx", tmp_path / "q.onnx")
    found = ort.InferenceSession(str(tmp_path / "q.onnx")).run(["y"], {"x": x})[0]
    low, high = min(x.min(), 0), max(x.max(), 0)
    scale = (high - low) / 255
    zero = np.clip(np.round(-low / scale), 0, 255)
    activations = np.clip(np.round(x / scale) + zero, 0, 255) - zero
    columns = np.abs(weight).max(axis=0) / 127
    integers = np.round(weight / columns)
    np.testing.assert_allclose(found, (activations @ integers) * scale * columns, atol=0.02)


def test_float_layers_stay_float(captured: tuple[Any, Path], tmp_path: Path) -> None:
    names = quantize.weights(captured[1])
    quantize.int8(captured[1], tmp_path / "q.onnx", float_layers=names[:2])
    kept = {tensor.name for tensor in onnx.load(tmp_path / "q.onnx").graph.initializer}
    assert set(names[:2]) <= kept
    assert not set(names[2:]) & kept


def test_the_exact_twin_answers_alike_and_holds_no_signed_weights(captured: tuple[Any, Path], tmp_path: Path) -> None:
    quantize.int8(captured[1], tmp_path / "q.onnx")
    twin = quantize.exact_twin(onnx.load(tmp_path / "q.onnx"))
    onnx.save(twin, tmp_path / "t.onnx")
    np.testing.assert_allclose(run(tmp_path / "t.onnx", TEXT_IDS), run(tmp_path / "q.onnx", TEXT_IDS), atol=1e-5)
    tensors = {tensor.name: tensor for tensor in twin.graph.initializer}
    products = [node for node in twin.graph.node if node.op_type == "MatMulInteger"]
    assert len(products) >= 20
    assert {numpy_helper.to_array(tensors[node.input[1]]).dtype for node in products} == {np.dtype(np.uint8)}


def test_sensitivity_puts_a_damaged_matrix_first(captured: tuple[Any, Path], tmp_path: Path) -> None:
    """A weight with one huge outlier in each column loses everything else at 8 bits."""
    proto = onnx.load(captured[1])
    victim = quantize.weights(captured[1])[5]
    tensor = next(item for item in proto.graph.initializer if item.name == victim)
    values = numpy_helper.to_array(tensor).copy()
    values[0] = 500 * np.abs(values).max()
    tensor.CopyFrom(numpy_helper.from_array(values, victim))
    onnx.save(proto, tmp_path / "damaged.onnx")
    ranked = quantize.sensitivity(
        tmp_path / "damaged.onnx",
        tmp_path / "trial.onnx",
        lambda path: run(path, TEXT_IDS),
        run(tmp_path / "damaged.onnx", TEXT_IDS),
    )
    assert ranked[0] == victim


@pytest.mark.parametrize(
    ("precision", "agreement", "int8", "speedup", "words"),
    [
        ("auto", 0.99, 25, (1.5, 1.4, 1.6), []),
        ("auto", 0.96, 25, (1.5, 1.4, 1.6), ["96.0% of the answers agree with fp32, wanted are 97.0%"]),
        ("auto", 0.99, 25, (1.02, 1.01, 1.03), ["1.02 times the speed of fp32 (1.01 to 1.03), wanted is 1.05"]),
        ("auto", 0.99, 25, (1.2, 0.9, 1.5), ["1.20 times the speed of fp32 (0.90 to 1.50)"]),
        ("int8", 0.99, 25, (1.02, 0.9, 1.1), []),
        ("int8", 0.99, 25, (0.9, 0.8, 1.1), []),
        ("int8", 0.99, 25, (0.9, 0.88, 0.93), ["0.90 times the speed"]),
        ("auto", 0.99, 101, (1.5, 1.4, 1.6), ["101 bytes are not fewer than the 100"]),
    ],
)
def test_what_int8_must_hold(
    precision: Any, agreement: float, int8: int, speedup: tuple[float, float, float], words: list[str]
) -> None:
    ratio = Ratio(median=speedup[0], low=speedup[1], high=speedup[2])
    found = objections(ExportConfig(precision=precision), agreement, int8, 100, ratio)
    assert len(found) == len(words)
    assert all(word in line for word, line in zip(words, found, strict=True))


def test_a_weight_that_the_graph_has_not_is_named() -> None:
    check_names(["dense_1"], ["dense_1", "dense_2"])
    with pytest.raises(RecipeError, match="no weight 'dens_2'; the nearest is dense_2"):
        check_names(["dens_2"], ["dense_1", "dense_2"])


@pytest.mark.parametrize(
    ("found", "line"),
    [
        (
            Parity(rows=2, difference=0.5, other_tokens=0),
            r"differ from torch by 5\.00e-01 on 2 rows, allowed are 1e-04",
        ),
        (Parity(rows=2, difference=float("inf"), other_tokens=0), "differ from torch by inf on 2 rows"),
        (
            Parity(rows=2, difference=0.0, other_tokens=1),
            "1 of 2 rows have other tokens in the runtime than in training",
        ),
    ],
)
def test_a_parity_failure_has_both_numbers(found: Parity, line: str, monkeypatch: pytest.MonkeyPatch) -> None:
    bed = SimpleNamespace(
        config=ExportConfig(), task=SimpleNamespace(loose=False), source=None, model=lambda file: None
    )
    monkeypatch.setattr(parity, "compare", lambda *_: found)
    with pytest.raises(GateError, match=line):
        check_parity(bed)  # type: ignore[arg-type]

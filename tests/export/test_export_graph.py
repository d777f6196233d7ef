"""Capture, post-processing and the parity check, on a tiny model made in code."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from support_encoders import keep_layers

from edgeft.artifact import Calibration
from edgeft.data.dataset import Dataset, Split
from edgeft.errors import ArtifactError, GateError, ModelError
from edgeft.export import candidates as candidates_module
from edgeft.export.candidates import CAPTURED, ExportCandidates, capture_candidates, comes_from_onnxruntime
from edgeft.export.capture import capture as capturing
from edgeft.export.capture import parity
from edgeft.export.capture.capture import capture
from edgeft.export.capture.parity import Parity
from edgeft.export.onnx import graph, operators
from edgeft.models import model_folder
from edgeft.recipe import ExportConfig
from edgeft.runtime.engine import Engine
from edgeft.runtime.tokenization import load_tokenizer

TEXT_IDS = [[2, 5, 9, 11, 3], [2, 7, 3]]


@pytest.fixture(scope="module")
def captured(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Path]:
    """A tiny classifier and its captured graph."""
    torch.manual_seed(0)
    model = model_folder.load_classifier(tiny_model, ["a", "b", "c"])
    keep_layers(model, 1)
    with torch.no_grad():
        model.classifier.weight.normal_()
    path = tmp_path_factory.mktemp("graph") / "captured.onnx"
    onnx.save(operators.add_bodies(capture(model, 20)), path)
    return model, path


def run(path: Path, ids: list[list[int]], output: str = "logits") -> np.ndarray[Any, Any]:
    from edgeft.runtime.engine import Engine

    return Engine(path, 0, threads=1).run(ids, [output])[0]


def torch_logits(model: Any, ids: list[list[int]]) -> np.ndarray[Any, Any]:
    from edgeft.train.tasks.sequences import predict_encoded

    return predict_encoded(model, ids, 0)


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

    def _with_attention(*_: object) -> None:
        raise ModelError("attention of its own")

    monkeypatch.setattr(capturing, "_by_transformers", _by_transformers)
    monkeypatch.setattr(capturing, "_with_attention", _with_attention)
    onnx.save(capture(captured[0], 20), tmp_path / "m.onnx")
    said = capsys.readouterr().err
    assert "the exporter of transformers failed: no such exporter" in said
    assert "attention of its own" not in said
    assert not any(node.domain == operators.DOMAIN for node in onnx.load(tmp_path / "m.onnx").graph.node)
    np.testing.assert_allclose(run(tmp_path / "m.onnx", TEXT_IDS), torch_logits(captured[0], TEXT_IDS), atol=1e-5)


def test_capture_twice_gives_equal_bytes(captured: tuple[Any, Path]) -> None:
    model, path = captured
    again = operators.add_bodies(capture(model, 20))
    assert again.SerializeToString(deterministic=True) == path.read_bytes()


def test_finished_graph_has_probabilities_that_follow_the_temperature(
    captured: tuple[Any, Path], tmp_path: Path
) -> None:
    graph.finish(captured[1], tmp_path / "m.onnx")
    warm = Calibration(method="temperature", temperature=4.0)
    onnx.save(graph.set_calibration(onnx.load(tmp_path / "m.onnx"), warm), tmp_path / "warm.onnx")
    logits = run(tmp_path / "warm.onnx", TEXT_IDS)
    expected = np.exp(logits / 4) / np.exp(logits / 4).sum(axis=1, keepdims=True)
    np.testing.assert_allclose(run(tmp_path / "warm.onnx", TEXT_IDS, "probabilities"), expected, rtol=1e-5)
    np.testing.assert_allclose(logits, run(captured[1], TEXT_IDS), atol=1e-5)


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
def test_a_parity_failure_has_both_numbers(
    found: Parity,
    line: str,
    captured: tuple[Any, Path],
    tiny_model: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(candidates_module, "captures", lambda *_: iter([onnx.load(captured[1])] * 2))
    monkeypatch.setattr(parity, "compare", lambda *_: found)
    with pytest.raises(GateError, match=line):
        laid(tiny_model, tmp_path)


def test_a_capture_whose_numbers_are_wrong_is_followed_by_the_next(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    attend = capturing._with_attention

    def _with_attention(*parts: Any) -> onnx.ModelProto:
        made = attend(*parts)
        for node in made.graph.node:
            for item in node.attribute:
                if node.domain == operators.DOMAIN and item.name == "scale":
                    item.f *= 3
        return made

    monkeypatch.setattr(capturing, "_with_attention", _with_attention)
    candidates = laid(tiny_model, tmp_path)
    assert "differ from torch" in capsys.readouterr().err
    assert candidates.parity["max_logit_difference"] < 1e-4
    assert not any(node.domain == operators.DOMAIN for node in onnx.load(candidates.folder / CAPTURED).graph.node)


def test_a_capture_that_does_not_run_is_followed_by_the_next(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    attend = capturing._with_attention

    def broken(*parts: Any) -> onnx.ModelProto:
        made = attend(*parts)
        made.graph.node[0].op_type = "NoSuchOperator"
        return made

    monkeypatch.setattr(capturing, "_with_attention", broken)
    candidates = laid(tiny_model, tmp_path)
    said = capsys.readouterr().err
    assert "export: the captured graph doesn't run: " in said
    assert "INVALID_GRAPH" in said
    assert candidates.parity["rows"] == 6


@pytest.mark.parametrize("error", [MemoryError("no room"), AttributeError("a mistake of ours")])
def test_an_error_inside_the_parity_check_goes_on_as_itself(
    error: Exception,
    captured: tuple[Any, Path],
    tiny_model: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def fail(*_: object) -> None:
        raise error

    monkeypatch.setattr(candidates_module, "captures", lambda *_: iter([onnx.load(captured[1])] * 2))
    monkeypatch.setattr(parity, "torch_arrays", fail)
    with pytest.raises(type(error), match=str(error)):
        laid(tiny_model, tmp_path)
    assert "doesn't run" not in capsys.readouterr().err


def test_errors_are_told_from_those_of_onnxruntime(tmp_path: Path) -> None:
    (tmp_path / "model.onnx").write_bytes(b"no graph")
    with pytest.raises(ArtifactError) as refused:
        Engine(tmp_path / "model.onnx", 0)
    with pytest.raises(Exception, match="INVALID_PROTOBUF") as raw:
        onnxruntime.InferenceSession(str(tmp_path / "model.onnx"))
    with pytest.raises(ArtifactError) as foreign:
        load_tokenizer(tmp_path / "model.onnx", None)
    assert comes_from_onnxruntime(refused.value)
    assert comes_from_onnxruntime(raw.value)
    assert not comes_from_onnxruntime(foreign.value)
    assert not comes_from_onnxruntime(MemoryError())


def laid(tiny_model: Path, folder: Path) -> ExportCandidates:
    """A classifier of large weights, captured."""
    torch.manual_seed(0)
    model = model_folder.load_classifier(tiny_model, ["a", "b", "c"])
    keep_layers(model, 1)
    with torch.no_grad():
        for weight in model.parameters():
            weight.mul_(8)
    model_folder.save(model, model_folder.load_tokenizer(tiny_model), folder / "model", 32)
    numbers = np.arange(6, dtype=np.int64)
    texts = ["good film", "a bad plot", "so fine", "the actor is bad", "good", "awful awful plot"]
    split = Split(columns={"text": texts}, labels=numbers % 3, rows=numbers + 1)
    (folder / "scratch").mkdir()
    dataset = Dataset("text-classification", ["a", "b", "c"], split, split, split, [])
    return capture_candidates(ExportConfig(), folder / "model", dataset, folder / "scratch")

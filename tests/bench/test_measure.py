"""Measuring a tiny real artifact, and showing what was measured."""

from __future__ import annotations

import io
import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console

from edgeft import artifact
from edgeft.artifact import InputSpec, Manifest, Quantization
from edgeft.bench import measure, table
from edgeft.errors import ArtifactError, EdgeftError, UserError
from edgeft.recipe import BenchConfig

TEXTS = ["good", "bad", "good good"]
CONFIG = BenchConfig(queries=12, warmup=2, batch_size=2, seed=0)


def write_artifact(folder: Path) -> Path:
    """An artifact whose logits are the counts of `bad` and `good`."""
    onnx = pytest.importorskip("onnx")
    tokenizers = pytest.importorskip("tokenizers")
    folder.mkdir(parents=True)
    helper, numpy_helper = onnx.helper, onnx.numpy_helper
    rows = np.array([[0, 0], [3, 0], [0, 3]], dtype=np.float32)  # [PAD] bad good
    nodes = [
        helper.make_node("Gather", ["rows", "input_ids"], ["each"]),
        helper.make_node("ReduceSum", ["each", "axis"], ["logits"], keepdims=0),
        helper.make_node("Softmax", ["logits"], ["probabilities"], axis=-1),
    ]
    graph = helper.make_graph(
        nodes,
        "counts",
        [helper.make_tensor_value_info("input_ids", onnx.TensorProto.INT64, ["batch", "tokens"])],
        [helper.make_tensor_value_info(n, onnx.TensorProto.FLOAT, ["batch", 2]) for n in ("logits", "probabilities")],
        [numpy_helper.from_array(rows, "rows"), numpy_helper.from_array(np.array([1], dtype=np.int64), "axis")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    onnx.save(model, folder / artifact.MODEL)
    words = tokenizers.Tokenizer(tokenizers.models.WordLevel({"[PAD]": 0, "bad": 1, "good": 2}, unk_token="[PAD]"))
    words.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    words.save(str(folder / artifact.TOKENIZER))
    (folder / artifact.GOLDEN).write_text(json.dumps({"tolerance": 1e-3, "rows": [{"text": text} for text in TEXTS]}))
    manifest = Manifest(
        task="text-classification",
        labels=["negative", "positive"],
        inputs=InputSpec(names=["input_ids"], max_length=8, pad_token_id=0),
        quantization=Quantization(precision="fp32", scheme="none"),
    )
    artifact.write_manifest(folder, manifest, [artifact.MODEL, artifact.TOKENIZER, artifact.GOLDEN])
    return folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_artifact(tmp_path_factory.mktemp("bench") / "run" / "artifact")


@pytest.fixture(scope="module")
def measured(folder: Path) -> dict[str, Any]:
    return measure.measure(folder, TEXTS, CONFIG, labels=["positive", "negative", "negative"])


def test_measures_everything_with_its_conditions(measured: dict[str, Any], folder: Path) -> None:
    assert measured["artifact"] == "artifact"
    assert measured["latency"]["queries"] == 12
    assert 0 < measured["latency"]["p50_ms"] <= measured["latency"]["p99_ms"]
    assert measured["throughput_texts_per_s"] > 0
    assert measured["texts"] == {"rows": 3, "median_tokens": 1.0, "max_tokens": 2}
    assert (measured["threads"], measured["batch_size"], measured["precision"]) == (1, 2, "fp32")
    assert measured["quality"] == {"accuracy": pytest.approx(2 / 3), "rows": 3}
    sizes = measured["size"]
    assert sizes["model_bytes"] == (folder / artifact.MODEL).stat().st_size
    assert sizes["device_bytes"] == sizes["model_bytes"] + sizes["tokenizer_bytes"] < sizes["folder_bytes"]
    assert "processor" in measured["machine"]


def test_cold_start_comes_from_a_fresh_process(measured: dict[str, Any]) -> None:
    cold = measured["cold_start"]
    parts = cold["import_ms"] + cold["load_ms"] + cold["first_answer_ms"]
    assert 0 < cold["first_answer_ms"] < parts < cold["process_ms"] * 1.5
    assert 5e6 < cold["peak_rss_bytes"] < 1e9
    assert cold["runs"] == 3


def test_the_document_is_plain_json_without_paths(measured: dict[str, Any], folder: Path) -> None:
    assert json.loads(json.dumps(measured)) == measured
    assert str(folder) not in json.dumps(measured)


def test_compare_gives_a_ratio_against_the_first(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    slow = write_artifact(folder.parent.parent / "slow" / "artifact")
    monkeypatch.setattr(measure, "COLD_RUNS", 1)
    monkeypatch.setattr(measure, "cold_start", lambda *_: {"import_ms": 1.0, "load_ms": 1.0, "first_answer_ms": 1.0,
                                                           "process_ms": 3.0, "peak_rss_bytes": 1})  # fmt: skip
    load = measure.load

    def load_slowly(path: Path, threads: int) -> Any:
        model = load(path, threads=threads)
        return Slow(model) if path == slow else model

    monkeypatch.setattr(measure, "load", load_slowly)
    found = measure.compare([folder, slow], TEXTS, CONFIG)
    assert [item["artifact"] for item in found["artifacts"]] == ["run/artifact", "slow/artifact"]
    assert list(found["ratios"]) == ["slow/artifact"]
    assert found["ratios"]["slow/artifact"]["low"] > 1.5
    stream = io.StringIO()
    assert table.show(found, Console(file=stream, width=160)) is found
    assert "slow/artifact" in stream.getvalue()
    assert "against first" in stream.getvalue()


class Slow:
    """A model whose every answer takes 3 ms longer."""

    def __init__(self, model: Any) -> None:
        self._model = model

    def __getattr__(self, name: str) -> Any:
        return getattr(self._model, name)

    def __call__(self, text: str) -> Any:
        time.sleep(0.003)
        return self._model(text)


def test_table_shows_figures_conditions_and_machine(
    measured: dict[str, Any], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    latency = measured["latency"]
    ratio = {"median": 5.6, "low": 5.4, "high": 5.8}
    table.show({**measured, "against_teacher": {"teacher": latency, "artifact": latency, "ratio": ratio}})
    printed = capsys.readouterr().out
    for expected in ("artifact", "fp32", "0.6667", "12 queries", "1 thread;", "5.60x [5.40, 5.80]", "peak RSS MB"):
        assert expected in printed


@pytest.mark.parametrize(
    ("labels", "message"), [(["positive"], "3 texts but 1 labels"), (["positive", "x", "negative"], "label 'x'")]
)
def test_labels_that_do_not_fit(folder: Path, labels: list[str], message: str) -> None:
    with pytest.raises(UserError, match=message):
        measure.measure(folder, TEXTS, CONFIG, labels)


def test_a_cold_start_that_fails_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(EdgeftError, match=r"cold start of none failed with exit code 1: .*no such artifact"):
        measure.cold_start(tmp_path / "none", "x", 1)


def test_golden_texts(folder: Path, tmp_path: Path) -> None:
    assert measure.texts_of(folder) == TEXTS
    with pytest.raises(ArtifactError, match="give texts"):
        measure.texts_of(tmp_path)
    for content, message in (("{", "can't be read"), ("[]", "can't be read"), ('{"rows": []}', "no rows")):
        (tmp_path / artifact.GOLDEN).write_text(content)
        with pytest.raises(ArtifactError, match=message):
            measure.texts_of(tmp_path)


def test_names_are_the_shortest_that_differ(tmp_path: Path) -> None:
    paths = [tmp_path / "a" / "artifact", tmp_path / "b" / "artifact"]
    assert measure.names_of(paths[:1]) == ["artifact"]
    assert measure.names_of(paths) == ["a/artifact", "b/artifact"]
    assert measure.names_of([paths[0], paths[0]]) == ["artifact", "artifact (2)"]

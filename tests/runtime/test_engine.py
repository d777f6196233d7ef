"""The engine and the model around it, on small graphs made in code."""

from __future__ import annotations

import dataclasses
import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import parser
from support_graphs import bag_of_words

from edgeft import artifact
from edgeft.artifact import Calibration, InputSpec, Manifest, Quantization, Selective
from edgeft.errors import ArtifactError, UserError
from edgeft.export.onnx.graph import add_probabilities, set_calibration
from edgeft.runtime import load
from edgeft.runtime.answers.classification import decode
from edgeft.runtime.describe import describe
from edgeft.runtime.engine import Engine, pad
from edgeft.runtime.loading import assemble
from edgeft.runtime.machine import threads
from edgeft.runtime.model import length_sorted


@pytest.fixture
def folder(tmp_path: Path, tiny_tokenizer: Any) -> Path:
    """An artifact of the bag of words at temperature 2."""
    place = tmp_path / "words"
    place.mkdir()
    warm = Calibration(method="temperature", temperature=2.0)
    onnx.save(set_calibration(add_probabilities(bag_of_words()), warm), place / artifact.MODEL)
    tiny_tokenizer.backend_tokenizer.save(str(place / artifact.TOKENIZER))
    manifest = Manifest(
        task="text-classification",
        labels=["bad", "good"],
        inputs=InputSpec(names=["input_ids", "attention_mask"], max_length=8, pad_token_id=0),
        quantization=Quantization(precision="fp32", scheme="none"),
    )
    artifact.write_manifest(place, manifest, list(artifact.REQUIRED))
    return place


def test_padding_by_hand() -> None:
    feeds = pad([[7, 8, 9], [5]], 1)
    assert feeds["input_ids"].tolist() == [[7, 8, 9], [5, 1, 1]]
    assert feeds["attention_mask"].tolist() == [[1, 1, 1], [1, 0, 0]]


def test_token_types_are_0_where_a_row_has_none() -> None:
    feeds = pad([[7, 8], [5, 6, 7]], 1, [(), [0, 1, 1]], 4)
    assert feeds["token_type_ids"].tolist() == [[0, 0, 0, 0], [0, 1, 1, 0]]
    assert feeds["input_ids"].tolist() == [[7, 8, 1, 1], [5, 6, 7, 1]]
    assert set(pad([[7]], 1, names=["input_ids"])) == {"input_ids"}


def test_a_graph_with_inputs_that_nobody_gives_is_refused(folder: Path) -> None:
    model = parser.parse_model(
        '<ir_version: 10, opset_import: ["" : 20]> g (int64[b, t] input_ids, int64[b, t] position_ids)'
        " => (int64[b, t] logits) { logits = Add(input_ids, position_ids) }"
    )
    onnx.save(model, folder / artifact.MODEL)
    with pytest.raises(ArtifactError, match="its graph asks for position_ids; given are input_ids, "):
        assemble(folder, artifact.read_manifest(folder))


def test_the_shape_of_answers_is_that_of_transformers_pipeline(folder: Path) -> None:
    model = load(folder)
    one, many = model("a good film"), model(["a good film", "so poor"])
    assert [set(row) for row in one] == [{"label", "score"}]
    assert one == many[:1]
    every = model(["a good film"], top_k=None)
    assert [row["label"] for row in every[0]] in (["bad", "good"], ["good", "bad"])
    assert every[0][0]["score"] >= every[0][1]["score"]


def test_probabilities_are_softmax_of_logits_over_temperature(folder: Path) -> None:
    model = load(folder)
    scaled = model.logits(["fine", "awful plot"]) / 2
    expected = np.exp(scaled) / np.exp(scaled).sum(axis=1, keepdims=True)
    np.testing.assert_allclose(model.probabilities(["fine", "awful plot"]), expected, rtol=1e-5)


def abstaining(folder: Path, threshold: float | None) -> Path:
    """The artifact with a threshold."""
    manifest = artifact.read_manifest(folder)
    selective = Selective(threshold=threshold, max_error=0.1, confidence=0.9, share={"validation": 0.5})
    calibration = dataclasses.replace(manifest.calibration, method="temperature", temperature=2.0, selective=selective)
    artifact.write_manifest(folder, dataclasses.replace(manifest, calibration=calibration), list(artifact.REQUIRED))
    return folder


def test_an_answer_below_the_threshold_abstains_and_all_labels_of_a_text_alike(folder: Path) -> None:
    texts = ["a good film", "so poor", "plot", "fine"]
    sure = load(folder).probabilities(texts).max(axis=1)
    least = float(np.sort(sure)[2])  # two are surer, or as sure
    model = load(abstaining(folder, least))
    assert [answer["abstain"] for answer in model(texts)] == (sure < least).tolist()
    assert [[own["abstain"] for own in row] for row in model(texts, top_k=None)] == [[one] * 2 for one in sure < least]
    assert [answers[0]["abstain"] for answers in model.predict_many(texts)] == (sure < least).tolist()
    assert all(answer["abstain"] is True for answer in load(abstaining(folder, None))(texts))


def test_what_an_artifact_says_of_its_calibration(folder: Path) -> None:
    assert "calibration   none\n" in describe(artifact.read_manifest(folder)) + "\n"
    said = describe(artifact.read_manifest(abstaining(folder, 0.75)))
    assert "calibration   temperature 2.000" in said
    assert "abstains      answers below 0.7500 abstain; the others: at most 10.0% of them wrong, with 90% conf" in said


def test_a_manifest_of_the_schema_before_is_read(folder: Path) -> None:
    document = json.loads((folder / artifact.MANIFEST).read_text())
    figures = {"ece": 0.1, "nll": 0.5, "brier": 0.2}
    old = {"method": "temperature", "temperature": 2.0, "test": {"before": figures, "after": figures}}
    (folder / artifact.MANIFEST).write_text(json.dumps({**document, "schema_version": 3, "calibration": old}))
    model = load(folder)
    assert model.manifest.calibration.temperature == 2.0
    assert set(model("fine")[0]) == {"label", "score"}


@pytest.mark.parametrize("batch_size", [1, 2, 5])
def test_order_and_batch_do_not_change_an_fp32_answer(folder: Path, batch_size: int) -> None:
    model = load(folder)
    texts = ["a", "a good film so good", "", "plot", "the actor was fine", "xyz qqq"]
    alone = np.concatenate([model.logits([text]) for text in texts])
    np.testing.assert_allclose(model.logits(texts, batch_size=batch_size), alone, atol=1e-5)


def test_texts_are_truncated_as_in_training_and_unknown_ones_answer(folder: Path) -> None:
    model = load(folder)
    assert [len(ids) for ids in model.encode(["good " * 50, "\u4f60\u597d \U0001f600", ""])] == [8, 5, 2]
    assert model.probabilities([]).shape == (0, 2)


def test_threads_share_a_model(folder: Path) -> None:
    model = load(folder, threads=1)
    texts = [f"good {'film ' * (index % 5)}" for index in range(200)]
    expected = model.logits(texts)
    wrong: list[int] = []

    def ask() -> None:
        if not np.allclose(model.logits(texts), expected, atol=1e-5):
            wrong.append(1)

    workers = [threading.Thread(target=ask) for _ in range(8)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert wrong == []


def test_many_texts_are_answered_as_they_are_read(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edgeft.runtime.model.CHUNK", 3)
    model, read = load(folder), []

    def asked(last: object = "good") -> Iterator[Any]:
        for text in ["a fine film", "", "bad bad", "good", last]:
            read.append(text)
            yield text

    answers = model.predict_many(asked(), top_k=None)
    first = next(answers)
    assert len(read) == 3
    assert [first, *answers] == model(["a fine film", "", "bad bad", "good", "good"], top_k=None)
    with pytest.raises(UserError, match=r"^text 4 is int, expected str$"):
        list(model.predict_many(asked(5)))
    for wrong in ({"top_k": 0}, {"batch_size": 0}, {"batch_size": -1}):
        with pytest.raises(
            UserError, match=f"^{next(iter(wrong))} is {next(iter(wrong.values()))}, expected 1 or more$"
        ):
            model.predict_many(["good"], **wrong)
    with pytest.raises(UserError, match=r"^predict_many: expected several texts, got one"):
        model.predict_many("good")
    with pytest.raises(UserError, match=r"^batch_size is 0"):
        model.logits(["good"], batch_size=0)


def test_a_text_that_is_none_is_named(folder: Path) -> None:
    with pytest.raises(UserError, match="text 1 is NoneType, expected str"):
        load(folder)(["a", None])


def test_a_truncated_graph_and_an_absent_provider_are_one_line_errors(folder: Path, tmp_path: Path) -> None:
    cut = tmp_path / "cut.onnx"
    cut.write_bytes((folder / artifact.MODEL).read_bytes()[:200])
    with pytest.raises(ArtifactError, match=r"cut\.onnx can't be loaded by onnxruntime") as found:
        Engine(cut, 0)
    assert "\n" not in str(found.value)
    with pytest.raises(UserError, match="CUDAExecutionProvider is not in the installed onnxruntime"):
        Engine(folder / artifact.MODEL, 0, provider="CUDAExecutionProvider")


def test_equal_scores_keep_the_order_of_the_labels() -> None:
    found = decode([0.25, 0.5, 0.25], ["x", "y", "z"], None)
    assert [row["label"] for row in found] == ["y", "x", "z"]


def test_batches_hold_every_row_once_and_similar_lengths() -> None:
    ids = [[0] * length for length in (5, 1, 9, 2, 8)]
    assert list(length_sorted(ids, 2)) == [[1, 3], [0, 4], [2]]


def test_the_containers_share_bounds_the_threads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    quota = tmp_path / "cpu.max"
    monkeypatch.setattr(threads, "CGROUP_V2", quota)
    quota.write_text("max 100000\n")
    assert threads.container_share() is None
    quota.write_text("150000 100000\n")
    assert threads.container_share() == 1.5
    quota.write_text("50000 100000\n")
    assert threads.usable_cores() == 1


@pytest.mark.parametrize(
    ("measured", "cores", "expected"),
    [
        ({}, 3, 3),
        ({"1": 2.0, "2": 1.9}, 2, 1),  # 5% isn't worth a core
        ({"1": 2.0, "2": 1.2}, 2, 2),
        ({"1": 2.0, "2": 1.2, "4": 0.7}, 2, 2),  # 4 don't fit
        ({"1": 2.0, "2": 1.2, "4": 1.5}, 8, 2),
        ({"4": 1.0}, 2, 2),  # nothing that fits was measured
    ],
)
def test_threads_are_as_many_as_are_worth_their_cores(measured: dict[str, float], cores: int, expected: int) -> None:
    assert threads.fastest(measured, cores) == expected


@pytest.mark.parametrize(
    ("precision", "provider", "line"),
    [
        ("int8", "CUDAExecutionProvider", "is int8, whose operators are made for CPUExecutionProvider"),
        ("int4-blocks", "CUDAExecutionProvider", "export it with --precision fp16"),
        ("fp16", "CPUExecutionProvider", "is fp16, which a CPU runs slowly"),
    ],
)
def test_a_provider_that_the_artifact_is_not_made_for(folder: Path, precision: str, provider: str, line: str) -> None:
    manifest = artifact.read_manifest(folder)
    other = dataclasses.replace(manifest, quantization=Quantization(precision=precision, scheme="none"))
    artifact.write_manifest(folder, other, list(artifact.REQUIRED))
    with pytest.raises(ArtifactError, match=line) as caught:
        load(folder, provider=provider)
    assert "\n" not in str(caught.value)


def test_a_provider_that_is_not_installed(folder: Path) -> None:
    with pytest.raises(UserError, match="CUDAExecutionProvider is not in the installed onnxruntime, which has"):
        load(folder, provider="CUDAExecutionProvider")


def test_a_graph_that_was_cut_off_is_one_line(folder: Path) -> None:
    whole = (folder / artifact.MODEL).read_bytes()
    (folder / artifact.MODEL).write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ArtifactError, match=rf"{artifact.MODEL} has {len(whole) // 2} bytes instead of {len(whole)}"):
        load(folder)
    with pytest.raises(ArtifactError, match="can't be loaded by onnxruntime") as caught:
        Engine(folder / artifact.MODEL, 0)
    assert "\n" not in str(caught.value)


def test_a_large_batch_in_passes_is_answered_as_in_one(folder: Path) -> None:
    ids = [[1 + (row * 7 + place) % 190 for place in range(5 + row % 9)] for row in range(80)]
    engine = Engine(folder / artifact.MODEL, 0, threads=1)
    passes = engine.run(ids, ["logits", "probabilities"])
    engine.pass_tokens = None
    for found, whole in zip(passes, engine.run(ids, ["logits", "probabilities"]), strict=True):
        assert found.shape == (80, 2)
        np.testing.assert_allclose(found, whole, rtol=1e-6)

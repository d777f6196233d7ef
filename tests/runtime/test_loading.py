"""Artifacts from elsewhere: whole by their digests, and still nothing that an edgeft wrote."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from support_counts import write_artifact

from edgeft import artifact
from edgeft.errors import ArtifactError, EdgeftError
from edgeft.listed_files import read_listed
from edgeft.runtime import load, tokenization
from edgeft.runtime.answers.questions import Reader
from edgeft.runtime.loading import model_class


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_artifact(tmp_path / "counts")


def repair(folder: Path, **fields: Any) -> None:
    """Write the manifest anew, so that every digest is right."""
    manifest = dataclasses.replace(artifact.read_manifest(folder), **fields)
    artifact.write_manifest(folder, manifest, list(manifest.files))


def change_graph(folder: Path, change: Callable[[onnx.GraphProto], object]) -> None:
    model = onnx.load(folder / artifact.MODEL, load_external_data=False)
    change(model.graph)
    (folder / artifact.MODEL).write_bytes(model.SerializeToString())
    repair(folder)


def change_tokenizer(folder: Path, **parts: Any) -> None:
    document = json.loads((folder / artifact.TOKENIZER).read_text())
    (folder / artifact.TOKENIZER).write_text(json.dumps({**document, **parts}))
    repair(folder)


def refusal(folder: Path) -> str:
    """The one line with which an artifact is refused."""
    with pytest.raises(ArtifactError) as caught:
        load(folder)
    message = str(caught.value)
    assert "\n" not in message
    assert folder.name in message
    return message


def test_weights_of_another_file_are_refused_although_every_digest_is_right(folder: Path) -> None:
    def move_out(graph: onnx.GraphProto) -> None:
        rows = graph.initializer[0]
        (folder / "rows.bin").write_bytes(rows.raw_data)
        rows.ClearField("raw_data")
        rows.data_location = TensorProto.EXTERNAL
        rows.external_data.add(key="location", value="rows.bin")

    change_graph(folder, move_out)
    assert "model.onnx has external data" in refusal(folder)


def test_what_is_loaded_is_what_was_hashed(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Files that change right after they were compared change nothing."""

    def read_then_overwrite(path: Path, file: Any) -> bytes:
        content = read_listed(path, file)
        path.write_bytes(b"somebody else's")
        return content

    monkeypatch.setattr("edgeft.listed_files.read_listed", read_then_overwrite)
    model = load(folder)
    assert (folder / artifact.MODEL).read_bytes() == b"somebody else's"
    assert model(["good good", "bad"])[0]["label"] == "positive"


def test_the_bytes_of_the_graph_are_let_go(folder: Path) -> None:
    assert load(folder).engine._session._model_bytes is None


def rename(old: str, new: str) -> Callable[[onnx.GraphProto], object]:
    def change(graph: onnx.GraphProto) -> None:
        next(value for value in graph.output if value.name == old).name = new
        for node in graph.node:
            node.input[:] = [new if name == old else name for name in node.input]
            node.output[:] = [new if name == old else name for name in node.output]

    return change


def keep_axis(graph: onnx.GraphProto) -> None:
    graph.node[1].attribute[0].i = 1
    for value in graph.output:
        value.type.tensor_type.ClearField("shape")


def answer_in_double(graph: onnx.GraphProto) -> None:
    graph.node.append(helper.make_node("Cast", ["logits"], ["double"], to=TensorProto.DOUBLE))
    graph.node[2].input[0] = "double"
    graph.output[1].type.tensor_type.elem_type = TensorProto.DOUBLE
    graph.node.insert(2, graph.node.pop())


def widen(graph: onnx.GraphProto) -> None:
    graph.initializer[0].CopyFrom(numpy_helper.from_array(np.zeros((3, 3), dtype=np.float32), "rows"))
    for value in graph.output:
        value.type.tensor_type.ClearField("shape")


def shorten(graph: onnx.GraphProto) -> None:
    graph.initializer[0].CopyFrom(numpy_helper.from_array(np.zeros((2, 2), dtype=np.float32), "rows"))


def divide_by_zero(graph: onnx.GraphProto) -> None:
    rows = np.array([[0, 0], [np.nan, 0], [0, 3]], dtype=np.float32)
    graph.initializer[0].CopyFrom(numpy_helper.from_array(rows, "rows"))


SHAPES: dict[str, tuple[Callable[[onnx.GraphProto], object], str]] = {
    "no probabilities": (rename("probabilities", "chances"), "no output probabilities; it has logits, chances"),
    "an axis more": (keep_axis, "gives probabilities of shape (1, 1, 2) in float32, expected (1, 2) in float32"),
    "another type": (answer_in_double, "gives probabilities of shape (1, 2) in float64, expected (1, 2) in float32"),
    "a label more": (widen, "gives probabilities of shape (1, 3) in float32, expected (1, 2) in float32"),
    "a row of the table less": (shorten, "can't answer 1 x 4 tokens up to number 2: "),
}


@pytest.mark.parametrize("kind", SHAPES)
def test_a_graph_that_answers_in_another_shape_is_refused_at_load(folder: Path, kind: str) -> None:
    change, words = SHAPES[kind]
    change_graph(folder, change)
    assert words in refusal(folder)


def test_numbers_that_are_none_are_no_answer(folder: Path) -> None:
    change_graph(folder, divide_by_zero)
    model = load(folder)  # the row of `good` is sound, and the largest
    assert model("good")[0]["label"] == "positive"
    for ask in (lambda: model("bad"), lambda: model(["good", "bad"]), lambda: model.probabilities(["bad"])):
        with pytest.raises(ArtifactError, match="its graph answers with probabilities that are not finite numbers"):
            ask()


def test_an_answer_of_another_batch_is_no_answer(folder: Path) -> None:
    def sum_up(graph: onnx.GraphProto) -> None:
        graph.initializer.append(numpy_helper.from_array(np.array([0], dtype=np.int64), "first"))
        graph.node.insert(2, helper.make_node("ReduceSum", ["each2", "first"], ["logits"], keepdims=1))
        graph.node[1].output[0] = "each2"
        for value in graph.output:
            value.type.tensor_type.ClearField("shape")

    change_graph(folder, sum_up)
    model = load(folder)
    with pytest.raises(ArtifactError, match="its graph gives 1 rows of probabilities for a batch of 2"):
        model(["good", "bad"])


def test_decoding_is_checked_against_its_kind(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    repair(folder, kind="squad", task="question-answering", decoding={"max_answer_tokens": "many", "no_answer": True})
    assert "decoding, of its manifest.json: Expected `int`, got `str` - at `$.max_answer_tokens`" in refusal(folder)
    repair(folder, decoding={"no_answer": True})
    assert "missing required field `max_answer_tokens`" in refusal(folder)
    repair(folder, decoding={"max_answer_tokens": 15, "no_answer": True})
    assert "no output start_logits, end_logits" in refusal(folder)
    assert model_class("squad") is Reader


@pytest.mark.parametrize(
    ("deviation", "words"), [({}, "Expected `float`"), (0.0, "Expected `float` > 0"), (1e99, "<= 1e")]
)
def test_the_unit_of_a_number_is_a_bounded_number(deviation: object, words: str, folder: Path) -> None:
    repair(folder, kind="regression", task="text-regression", decoding={"deviation": deviation})
    assert words in refusal(folder)


def split(pattern: str) -> dict[str, Any]:
    return {"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": False}


def replace(count: int, content: str, pattern: str = "a") -> dict[str, Any]:
    step = {"type": "Replace", "pattern": {"String": pattern}, "content": content}
    return {"type": "Sequence", "normalizers": [step] * count}


TOKENIZERS: dict[str, tuple[dict[str, Any], str]] = {
    "repeats what repeats": ({"pre_tokenizer": split(r"(a+)+$")}, r"repeats what repeats: 'a+'"),
    "the same hidden": ({"pre_tokenizer": split(r"(?:(?:[a-z])*x?){2,}$")}, "repeats what repeats"),
    "a pattern that is none": ({"pre_tokenizer": split("(")}, "is not a tokenizer: "),
    "grows": ({"normalizer": replace(20, "aa")}, "one character could become more than 100"),
    "grows at once": ({"normalizer": replace(1, "b" * 1000)}, "one character could become more than 100"),
    "replaces nothing": ({"normalizer": replace(1, "b", "")}, "it replaces what is between characters"),
    "parts without end": ({"normalizer": replace(300, "a")}, "it has more than 200 parts"),
    "a token of another table": (
        {"added_tokens": [{"id": 9, "content": "x", **dict.fromkeys(("single_word", "lstrip", "rstrip"), False),
                           "normalized": False, "special": False}]},
        "can't answer 1 x 4 tokens up to number 9: ",
    ),
}  # fmt: skip


@pytest.mark.parametrize("kind", TOKENIZERS)
def test_a_tokenizer_that_nobody_should_run_is_refused_at_load(folder: Path, kind: str) -> None:
    parts, words = TOKENIZERS[kind]
    change_tokenizer(folder, **parts)
    assert words in refusal(folder)


@pytest.mark.parametrize("kind", ["repeats what repeats", "grows", "parts without end"])
def test_nothing_is_built_of_a_tokenizer_that_is_refused(
    folder: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Builder:
        @staticmethod
        def from_buffer(content: bytes) -> None:
            raise AssertionError("built")

    monkeypatch.setattr(tokenization, "Tokenizer", Builder)
    parts, words = TOKENIZERS[kind]
    change_tokenizer(folder, **parts)
    assert words in refusal(folder)


@pytest.mark.parametrize(
    "pattern",
    [
        r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+",
        r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+",
        r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}]*[\p{Ll}\p{Lm}]+(?i:'s|'t|'re)?|\p{N}{1,3}|\s*[\r\n]+|\s+(?!\S)|\s+",
        r" ?[^(\s|[.,!?])]+",
        r"\(a+\)+|[(a+)+]",
    ],
)
def test_patterns_of_real_tokenizers_pass(pattern: str) -> None:
    tokenization.check_pattern(pattern)


def test_a_panic_of_the_tokenizer_is_a_line(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(tokenization, "check_pattern", lambda pattern: None)
    change_tokenizer(folder, pre_tokenizer=split(r"(a+)+$"))
    monkeypatch.setattr(tokenization, "TRIAL_TEXTS", ("a" * 30 + "b",))
    assert "tokenizer.json is not a tokenizer: Onig: Regex search error" in refusal(folder)
    monkeypatch.setattr(tokenization, "TRIAL_TEXTS", ("harmless",))
    model = load(folder)
    with pytest.raises(EdgeftError, match=r"tokenizer.json can't encode text 0 or one after it: Onig: Regex search"):
        model("a" * 30 + "b")
    capfd.readouterr()  # what the Rust side says of it by itself


def test_a_tokenizer_that_does_not_come_back_is_refused(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tokenization, "TRIAL_SECONDS", 0.05)
    monkeypatch.setattr(tokenization, "TRIAL_TEXTS", ("a" * 30,) * 20)  # 0.14 s each
    change_tokenizer(folder, pre_tokenizer=split(r"(a|aa)+b"))
    assert "tokenizer.json takes more than 0.05 s for 20 short texts" in refusal(folder)


def test_other_exceptions_of_the_base_class_pass(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def stop(*_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("edgeft.runtime.loading.try_tokenizer", stop)
    with pytest.raises(KeyboardInterrupt):
        load(folder)


def test_a_cold_start_imports_neither_recipes_nor_what_draws_tables_and_pages(folder: Path) -> None:
    code = (
        "import sys, edgeft; print(edgeft.load(sys.argv[1])('a fine film')[0]['label']);"
        "print([name for name in sys.argv[2:] if name in sys.modules])"
    )
    spared = ("edgeft.recipe", "yaml", "rich", "jinja2", "matplotlib")
    command = [sys.executable, "-c", code, str(folder), *spared]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    label, imported = done.stdout.splitlines()
    assert label in artifact.read_manifest(folder).labels
    assert imported == "[]"
    spoiled = [*command[:2], f"import edgeft.progress; {code}", *command[3:]]
    assert "rich" in subprocess.run(spoiled, capture_output=True, text=True, timeout=120, check=True).stdout

"""From a trained folder to an artifact, kind by kind: the runtime answers as torch and transformers do."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
import transformers
from support_kinds import KINDS, MAX_LENGTH, artifact_of, columns_of, dataset_of
from tiny_language import data_folder

import edgeft
from edgeft import artifact
from edgeft.cleaning import Cleaning
from edgeft.compress.calibrate.calibrate import run as calibrate
from edgeft.compress.distill.distill import run as distill
from edgeft.data import dataset as datasets
from edgeft.errors import ArtifactError, DataError, ModelError, RecipeError, UserError
from edgeft.export.export import run as export
from edgeft.export.quantize import precision_search
from edgeft.models import model_folder
from edgeft.recipe import CalibrateConfig, DistillConfig, ExportConfig, TrainingConfig
from edgeft.runtime import replay
from edgeft.train import evaluate, tasks

CLOSE = 1e-4
SHORT = ["the great actor", "unfilmed plot so bad", "", "a film is so the the"]
LONG = "the great unfilmed actor is so bad a plot " * 5


def pipeline(name: str, folder: Path, auto: Any) -> Any:
    model = auto.from_pretrained(folder)
    return transformers.pipeline(name, model=model, tokenizer=model_folder.load_tokenizer(folder), device="cpu")


def same(found: Any, expected: Any) -> None:
    """Equal keys, names and places, and scores within 1e-4."""
    assert type(found) is type(expected), (found, expected)
    if isinstance(found, list):
        assert len(found) == len(expected), (found, expected)
        for one, other in zip(found, expected, strict=True):
            same(one, other)
        return
    assert set(found) == set(expected)
    for name, value in expected.items():
        if name == "score":
            assert found[name] == pytest.approx(float(value), abs=CLOSE)
        else:
            assert found[name] == value, (name, found, expected)


def asked_and_predicted(root: Path, folder: str = "export") -> tuple[Any, Any, Any]:
    """The task of a trained folder, and what the runtime and torch predict for the test rows."""
    dataset = datasets.load(root / "data")
    tokenizer = model_folder.load_tokenizer(root / "teacher")
    task = tasks.create_task(dataset, tokenizer, tokenizer.model_max_length, TrainingConfig())
    model = model_folder.load(root / "teacher", task.head(dataset.labels))
    predicted = task.predict(model, task.items(dataset.test))
    return task, task.predict_artifact(edgeft.load(root / folder), dataset.test), predicted


@pytest.mark.parametrize("kind", KINDS)
def test_an_artifact_of_every_kind(kind: str, kind_root: Any) -> None:
    model = edgeft.load(kind_root(kind) / "artifact")
    manifest = model.manifest
    assert (manifest.kind, manifest.schema_version) == (kind, artifact.SCHEMA_VERSION)
    assert manifest.parity["max_logit_difference"] <= CLOSE
    assert manifest.parity["rows_with_other_tokens"] == 0
    assert model.long_texts == ("windowed" if kind in ("tokens", "squad") else "truncated")
    assert replay(model).passed
    # All 8 test and 12 validation rows, as there are fewer than 32.
    assert replay(model).rows == 20
    golden = manifest.golden
    assert golden is not None
    assert (golden.rows, golden.candidates, golden.texts) == (20, 20, True)
    assert golden.note == "only 20 test and validation rows"
    assert golden.tolerance == pytest.approx(1e-3 * model.unit)


@pytest.mark.parametrize("kind", ["single-label", "multi-label", "regression", "squad"])
def test_the_runtime_predicts_as_torch_does(kind: str, kind_root: Any) -> None:
    """Long rows included: both cut them alike."""
    task, asked, predicted = asked_and_predicted(kind_root(kind))
    assert task.answers(asked) == task.answers(predicted)
    np.testing.assert_allclose(task.logits_to_compare(asked), task.logits_to_compare(predicted), atol=CLOSE)
    test = task.dataset.test
    assert task.figures(asked, test) == pytest.approx(task.figures(predicted, test), rel=1e-4)


def test_tags_of_rows_of_one_window_are_those_of_torch_and_all_words_are_tagged(kind_root: Any) -> None:
    task, asked, predicted = asked_and_predicted(kind_root("tokens"))
    rows = task.dataset.test.columns["tokens"]
    owners = np.repeat(np.arange(len(rows)), [len(words) for words in rows])
    items = task.items(task.dataset.test)
    short = np.isin(owners, [row for row in range(len(rows)) if (items.rows == row).sum() == 1])
    assert 0 < short.sum() < len(short)
    np.testing.assert_allclose(asked[short], predicted[short], atol=CLOSE)
    assert len(asked) == len(predicted)
    assert not np.isclose(asked, task.prior).all(axis=1).any()


def test_several_labels_have_a_probability_each(kind_root: Any) -> None:
    root = kind_root("multi-label")
    pipe = pipeline("text-classification", root / "teacher", transformers.AutoModelForSequenceClassification)
    model = edgeft.load(root / "export")
    same(model(SHORT, top_k=None), pipe(SHORT, top_k=None))
    same(model(SHORT, top_k=2), pipe(SHORT, top_k=2))
    same(model(SHORT), pipe(SHORT))
    same(model(SHORT[0]), pipe(SHORT[0]))
    logits = model.logits(SHORT)
    np.testing.assert_allclose(model.probabilities(SHORT), 1 / (1 + np.exp(-logits)), atol=1e-6)
    calibrated = edgeft.load(root / "artifact")
    found = calibrated.manifest.calibration
    assert found.method != "none"
    scaled = logits / found.temperature * (found.scale or 1) + (found.bias or 0)
    np.testing.assert_allclose(calibrated.probabilities(SHORT), 1 / (1 + np.exp(-scaled)), atol=1e-6)


def test_a_number_is_that_of_transformers(kind_root: Any) -> None:
    root = kind_root("regression")
    pipe = pipeline("text-classification", root / "teacher", transformers.AutoModelForSequenceClassification)
    model = edgeft.load(root / "artifact")
    same(model(SHORT), pipe(SHORT))
    same(model(SHORT[0]), pipe(SHORT[0]))
    assert model(SHORT[0])[0]["label"] == "score"
    with pytest.raises(UserError, match=r"text-regression \(regression\) has no probabilities of a whole text"):
        model.probabilities(SHORT)


@pytest.mark.parametrize("strategy", ["none", "simple", "first"])
def test_tags_are_those_of_transformers(strategy: Any, kind_root: Any) -> None:
    root = kind_root("tokens")
    pipe = pipeline("token-classification", root / "teacher", transformers.AutoModelForTokenClassification)
    model = edgeft.load(root / "export")
    texts = [text for text in SHORT if text]
    for ignored in (["O"], []):
        options = {"aggregation_strategy": strategy, "ignore_labels": ignored}
        same(model(texts, **options), [pipe(text, **options) for text in texts])
    assert model("", aggregation_strategy=strategy) == []
    assert model([]) == []


def test_all_of_a_long_text_is_tagged(kind_root: Any) -> None:
    model = edgeft.load(kind_root("tokens") / "artifact")
    found = model(LONG, ignore_labels=())
    assert len(model.windows([LONG])[0]) > 3
    spans = [(entity["start"], entity["end"]) for entity in found]
    assert spans == sorted(set(spans))
    assert "".join(LONG[start:end] for start, end in spans) == LONG.replace(" ", "")
    assert [entity["index"] for entity in found] == list(range(1, len(found) + 1))
    with pytest.raises(UserError, match="aggregation_strategy is 'max', expected one of none, simple, first"):
        model("a", aggregation_strategy="max")


def test_questions_are_answered_from_their_context(kind_root: Any) -> None:
    model: Any = edgeft.load(kind_root("squad") / "artifact")
    asked = {"question": "is the film so", "context": LONG}
    one = model(**asked)
    assert model(asked) == one
    assert model([asked, asked]) == [one, one]
    assert model([asked])[0]["answer"] == LONG[one["start"] : one["end"]]
    best = model(asked, top_k=3)
    assert best[0] == one
    assert len({(answer["start"], answer["end"]) for answer in best}) == 3
    assert set(one) == {"answer", "score", "start", "end"}
    assert model.manifest.inputs.names == ["input_ids", "attention_mask", "token_type_ids"]


def test_places_are_those_of_the_cleaned_text(tiny_tokenizer: Any, tmp_path: Path) -> None:
    made = artifact_of("tokens", tiny_tokenizer, tmp_path, cleaning=Cleaning(steps=["html", "whitespace"]))
    model = edgeft.load(made)
    dirty = "the <b>great</b>   actor"
    assert model.clean(dirty) == "the great actor"
    assert model(dirty, ignore_labels=()) == model("the great actor", ignore_labels=())


@pytest.mark.parametrize("kind", ["multi-label", "regression", "tokens", "squad"])
def test_int8_of_every_kind(
    kind: str, kind_root: Any, tmp_path: Path, tiny_tokenizer: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The whole path of int8; speed is left out, as tiny models gain none."""
    monkeypatch.setattr(precision_search, "objections", lambda *_: [])
    root = kind_root(kind)
    config = ExportConfig(precision="int8", seed=0, latency_queries=10, min_agreement=0.9)
    done = export(config, {"data": root / "data", "model": root / "teacher"}, tmp_path / "out")
    found = done.metrics["quantization"]
    assert found["precision"] == "int8"
    assert 0.9 <= found["agreement"] <= 1
    assert done.metrics["int8"]["bytes"] < done.metrics["fp32"]["bytes"]
    assert edgeft.load(tmp_path / "out").manifest.kind == kind


# ----------------------------------------------------------------------------------------------------------- embeddings


@pytest.fixture(scope="module")
def encoder(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bare encoder as sentence-transformers writes it, which pools by its first token."""
    folder = tmp_path_factory.mktemp("encoder") / "model"
    shutil.copytree(tiny_model, folder)
    kinds = ("Transformer", "Pooling", "Normalize")
    layers = [{"type": f"sentence_transformers.models.{kind}"} for kind in kinds]
    (folder / "modules.json").write_text(json.dumps(layers))
    (folder / "1_Pooling").mkdir()
    flags = {"word_embedding_dimension": 64, "pooling_mode_cls_token": True, "pooling_mode_mean_tokens": False}
    (folder / "1_Pooling" / "config.json").write_text(json.dumps(flags))
    (folder / "sentence_bert_config.json").write_text('{"max_seq_length": 12, "do_lower_case": false}')
    return folder


def exported(model: Path, out: Path) -> Any:
    texts = out.parent / "texts.txt"
    texts.write_text("\n".join(columns_of("regression", 12, 0)["text"]) + "\n\n")
    return export(ExportConfig(precision="fp32", seed=0), {"data": texts, "model": model}, out)


def by_hand(folder: Path, texts: list[str], way: str, longest: int) -> Any:
    tokenizer, model = model_folder.load_tokenizer(folder), transformers.AutoModel.from_pretrained(folder).eval()
    rows = []
    for text in texts:
        with torch.no_grad():
            given = tokenizer(text, return_tensors="pt", truncation=True, max_length=longest)
            hidden = model(**given).last_hidden_state[0].numpy()
        vector = hidden[0] if way == "cls" else hidden.mean(axis=0)
        rows.append(vector / np.linalg.norm(vector))
    return np.array(rows)


@pytest.mark.parametrize(("own", "way", "longest"), [("tiny_model", "mean", 32), ("encoder", "cls", 12)])
def test_embeddings(own: str, way: str, longest: int, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    folder = request.getfixturevalue(own)
    exported(folder, tmp_path / "out")
    model: Any = edgeft.load(tmp_path / "out")
    assert (model.kind, model.manifest.task) == ("embeddings", "feature-extraction")
    assert model.manifest.decoding == {"pooling": way, "width": 64}
    assert model.manifest.inputs.max_length == longest
    assert replay(model).passed
    texts = [*SHORT, LONG]
    found = model.embed(texts, batch_size=3)
    assert (found.shape, found.dtype) == ((5, 64), np.float32)
    np.testing.assert_allclose(found, by_hand(folder, texts, way, longest), atol=1e-5)
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1, atol=1e-5)
    assert model(texts) == [pytest.approx(row.tolist(), abs=1e-5) for row in found]
    assert all(type(value) is float for value in model(SHORT[0]))
    assert model.embed([]).shape == (0, 64)
    outputs = onnx.load(tmp_path / "out" / artifact.MODEL).graph.output
    assert [value.name for value in outputs] == ["embeddings"]


def test_int8_embeddings(encoder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(precision_search, "objections", lambda *_: [])
    datasets.save(dataset_of("single-label"), tmp_path / "data")
    config = ExportConfig(precision="int8", seed=0, latency_queries=10, min_agreement=0.5)
    done = export(config, {"data": tmp_path / "data", "model": encoder}, tmp_path / "out")
    assert done.metrics["int8"]["validation"]["agreement"] >= 0.5
    model = edgeft.load(tmp_path / "out")
    cosines = (model.embed(SHORT) * by_hand(encoder, SHORT, "cls", 12)).sum(axis=1)
    assert cosines.min() > 0.95


@pytest.mark.parametrize(
    ("file", "content", "line"),
    [
        ("modules.json", '[{"type": "sentence_transformers.models.Dense"}]', "its embeddings pass through Dense"),
        ("1_Pooling/config.json", '{"pooling_mode_max_tokens": true}', "pools by max_tokens; what can be exported:"),
        ("1_Pooling/config.json", '{"pooling_mode": "lasttoken"}', "pools by lasttoken"),
    ],
)
def test_what_cannot_be_pooled_is_one_line(file: str, content: str, line: str, encoder: Path, tmp_path: Path) -> None:
    shutil.copytree(encoder, tmp_path / "model")
    (tmp_path / "model" / file).write_text(content)
    with pytest.raises(ModelError, match=line):
        exported(tmp_path / "model", tmp_path / "out")


# ------------------------------------------------------------------------------------------------------------- refusals


def test_a_single_text_is_too_little_to_check_with(encoder: Path, tmp_path: Path) -> None:
    (tmp_path / "one.txt").write_text("a film\n")
    with pytest.raises(DataError, match=r"one\.txt: 1 texts; at least 2 are needed"):
        export(ExportConfig(), {"data": tmp_path / "one.txt", "model": encoder}, tmp_path / "out")


def test_a_folder_of_another_head_is_refused(kind_root: Any, tmp_path: Path) -> None:
    inputs = {"data": kind_root("tokens") / "data", "model": kind_root("multi-label") / "teacher"}
    with pytest.raises(ModelError, match="has no head for tokens rows; fine-tune it on them first"):
        export(ExportConfig(), inputs, tmp_path / "out")


def test_rows_of_another_kind_are_refused(kind_root: Any, tmp_path: Path) -> None:
    inputs = {"data": kind_root("tokens") / "data", "artifact": kind_root("multi-label") / "export"}
    with pytest.raises(ArtifactError, match="the artifact answers as multi-label, but the rows are tokens"):
        calibrate(CalibrateConfig(), inputs, tmp_path / "out")
    inputs = {"data": data_folder(tmp_path / "pairs", "pairs"), "teacher": kind_root("tokens") / "teacher"}
    with pytest.raises(RecipeError, match=r"^distill: takes no pairs rows; the model itself can go on"):
        distill(DistillConfig(), inputs, tmp_path / "out")


def test_a_kind_of_tomorrow_is_refused(kind_root: Any, tmp_path: Path) -> None:
    shutil.copytree(kind_root("regression") / "artifact", tmp_path / "artifact")
    document = json.loads((tmp_path / "artifact" / artifact.MANIFEST).read_text())
    (tmp_path / "artifact" / artifact.MANIFEST).write_text(json.dumps({**document, "kind": "poems"}))
    with pytest.raises(ArtifactError, match="its kind 'poems' is none of single-label, multi-label"):
        edgeft.load(tmp_path / "artifact")


def test_agreement_of_numbers_is_within_a_tenth_of_their_deviation(tiny_tokenizer: Any) -> None:
    task: Any = tasks.create_task(dataset_of("regression"), tiny_tokenizer, MAX_LENGTH, TrainingConfig())
    before = np.zeros((4, 1), np.float32)
    now = np.array([[0.0], [0.09], [0.11], [-0.2]], np.float32) * np.float32(task.deviation)
    assert task.agreement(before, now) == 0.5
    assert (
        evaluate.score_splits(task, {"validation": np.ones((12, 1), np.float32)}, None)["validation"]["pearson"] == 0.0
    )

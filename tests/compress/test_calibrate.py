"""The stage that calibrates: figures by hand, what it writes for each kind, and when it refuses."""

from __future__ import annotations

import json
import math
import shutil
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

import edgeft
from edgeft.artifact import Calibration, Selective
from edgeft.compress.calibrate import calibrate, scaling
from edgeft.data.dataset import load, save
from edgeft.errors import RecipeError
from edgeft.export.package import run as package
from edgeft.recipe import CalibrateConfig, StageConfig
from edgeft.train import tasks


def stage(root: Path, out: Path, **options: Any) -> dict[str, Any]:
    """The stage on the tiny export of a kind: its metrics."""
    inputs = {"data": root / "data", "artifact": root / "export"}
    return calibrate.run(CalibrateConfig(**{"seed": 0, **options}), inputs, out).metrics


def packaged(root: Path, out: Path, **options: Any) -> edgeft.Model:
    """The artifact of a tiny export with a calibration of its own."""
    stage(root, out / "calibrate", **options)
    inputs = {"data": root / "data", "export": root / "export", "calibrate": out / "calibrate"}
    package(StageConfig(seed=0), inputs, out / "artifact")
    return edgeft.load(out / "artifact")


def surely_right(root: Path) -> None:
    """Change the labels of the rows: the surer two thirds of a split's answers become right, the others wrong."""
    dataset, model = load(root / "data"), edgeft.load(root / "export")
    for split in (dataset.validation, dataset.test):
        chances = model.probabilities(split.texts, batch_size=1)
        order = np.argsort(-chances.max(axis=1))
        answers, unsure = chances.argmax(axis=1), order[len(order) * 2 // 3 :]
        answers[unsure] = 1 - answers[unsure]
        split.columns["label"] = [dataset.labels[answer] for answer in answers]
    shutil.rmtree(root / "data")
    save(dataset, root / "data")


def test_figures_by_hand() -> None:
    logits, labels = np.array([[math.log(3), 0.0], [0.0, 0.0]]), np.array([0, 1])
    found = calibrate.measure_calibration(logits, labels, 15)
    assert found["nll"] == pytest.approx((-math.log(0.75) + math.log(2)) / 2)
    assert found["brier"] == pytest.approx((2 * 0.0625 + 2 * 0.25) / 2)
    assert found["ece"] == pytest.approx((0.25 + 0.5) / 2)  # 0.75 is right, 0.5 (the first of equals) is wrong


def test_each_of_several_labels_is_a_choice_between_two() -> None:
    logits, labels = np.array([[math.log(3), -math.log(3)]]), np.array([[1, 1]])
    found = calibrate.measure_calibration(logits, labels, 15)
    assert found["nll"] == pytest.approx(-(math.log(0.75) + math.log(0.25)) / 2)
    assert found["brier"] == pytest.approx((2 * 0.0625 + 2 * 0.5625) / 2)
    assert found["ece"] == pytest.approx(abs(1.5 - 1) / 2)  # both confidences are 0.75, one answer is right


def test_both_splits_have_figures_before_and_after() -> None:
    generator = np.random.default_rng(0)
    logits = generator.normal(size=(600, 2)) * 4
    labels = (generator.random(600) < scaling.to_probabilities(logits / 3, False)[:, 1]).astype(int)
    choices = {"validation": (logits[:300], labels[:300]), "test": (logits[300:], labels[300:])}
    found = calibrate.calibrate(CalibrateConfig(seed=0), choices)
    assert found.method == "temperature"
    assert found.test["before"] == calibrate.measure_calibration(logits[300:], labels[300:], 15)
    assert found.test["after"] == calibrate.measure_calibration(logits[300:] / found.temperature, labels[300:], 15)
    assert found.test["after"]["ece"] <= found.test["before"]["ece"] / 2
    assert found.selective is None


@pytest.mark.parametrize("kind", ["single-label", "multi-label", "tokens"])
@pytest.mark.parametrize("method", ["vector", "isotonic"])
def test_the_artifact_answers_as_the_stage_measured(kind: str, method: str, kind_root: Any, tmp_path: Path) -> None:
    """The gate figures of answers that a calibration changed are those of the artifact that ships."""
    root = kind_root(kind)
    model = packaged(root, tmp_path, method=method)
    assert model.manifest.calibration.method == method
    task = tasks.create_artifact_task(load(root / "data"), model.manifest)
    metrics = json.loads((tmp_path / "calibrate" / "stage.json").read_text())["metrics"]
    asked = task.predict_artifact(model, task.dataset.test)
    figures = task.figures(asked, task.dataset.test)
    stated = metrics["answers"]["test"]
    assert {name: stated[name] for name in figures} == pytest.approx(figures, rel=1e-3, abs=1e-6)
    raw = task.predict_artifact(edgeft.load(root / "export"), task.dataset.test)
    assert stated["agreement"] == pytest.approx(task.agreement(raw, asked))
    assert edgeft.runtime.replay(model).passed


def test_answers_of_golden_rows_are_those_of_a_call(kind_root: Any, tmp_path: Path) -> None:
    model = packaged(kind_root("single-label"), tmp_path, method="vector")
    rows = json.loads((model.folder / "golden.json").read_text())["rows"]
    assert [row["label"] for row in rows] == [model(row["text"])[0]["label"] for row in rows]


def test_a_calibrated_artifact_is_calibrated_anew(kind_root: Any, tmp_path: Path) -> None:
    root = kind_root("single-label")
    packaged(root, tmp_path, method="vector")
    again = {"data": root / "data", "artifact": tmp_path / "artifact"}
    calibrate.run(CalibrateConfig(seed=0, method="vector"), again, tmp_path / "again")
    first, second = (
        msgspec.json.decode((tmp_path / name / "calibration.json").read_bytes(), type=Calibration)
        for name in ("calibrate", "again")
    )
    np.testing.assert_allclose(second.scale, first.scale, atol=1e-4)
    np.testing.assert_allclose(second.bias, first.bias, atol=1e-4)


def test_a_number_stays_as_it_is(kind_root: Any, tmp_path: Path) -> None:
    assert stage(kind_root("regression"), tmp_path / "out") == {
        "method": "none",
        "reason": "an answer of this kind is no choice among labels",
        "temperature": 1.0,
    }


def test_off_is_the_method_none(kind_root: Any, tmp_path: Path) -> None:
    root = kind_root("single-label")
    off = stage(root, tmp_path / "off", enabled=False)
    assert off == stage(root, tmp_path / "none", method="none")
    assert off["method"] == "none"
    assert off["test"]["before"] == off["test"]["after"]


@pytest.mark.parametrize(
    ("kind", "options", "line"),
    [
        ("multi-label", {}, "an answer to multi-label rows is not one label that is right or wrong; leave it unset"),
        ("tokens", {}, "an answer to tokens rows is not one label"),
        ("single-label", {"method": "isotonic"}, "method=isotonic follows the validation rows too closely"),
        ("single-label", {"method": "vector"}, "method=vector follows the validation rows too closely"),
    ],
)
def test_what_cannot_hold_an_error_rate_is_refused(
    kind: str, options: dict[str, Any], line: str, kind_root: Any, tmp_path: Path
) -> None:
    with pytest.raises(RecipeError, match=f"^calibrate.max_error: {line}"):
        stage(kind_root(kind), tmp_path / "out", max_error=0.1, **options)


def test_a_threshold_is_in_the_manifest_and_in_every_answer(
    kind_root: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = tmp_path / "root"
    shutil.copytree(kind_root("single-label"), root)
    surely_right(root)
    model = packaged(root, tmp_path, max_error=0.3, confidence=0.7, method="none")
    found = model.manifest.calibration.selective
    assert found is not None
    assert found.threshold is not None
    assert "the others: at most 30.0% of them wrong, with 70% confidence" in capsys.readouterr().err
    texts = load(root / "data").test.texts
    best = model.probabilities(texts, batch_size=1).max(axis=1)
    expected = [bool(chance < found.threshold) for chance in best]
    assert [model(text)[0]["abstain"] for text in texts] == expected
    assert 0 < 1 - np.mean(expected) == found.share["test"] < 1
    every = [model(text, top_k=None) for text in texts]
    assert [[answer["abstain"] for answer in answers] for answers in every] == [[one, one] for one in expected]
    assert "abstain" not in edgeft.load(root / "export")("bad")[0]


def test_with_a_threshold_nothing_is_fitted_label_by_label() -> None:
    """A scale and a bias for each of 20 labels would make 300 rows surer than they are."""
    generator = np.random.default_rng(0)
    labels = generator.integers(20, size=600)
    logits = 3 * np.eye(20)[labels] * np.linspace(0.3, 2, 20) + generator.normal(size=(600, 20))
    logits = logits * np.linspace(0.5, 4, 20) + np.linspace(-2, 2, 20)
    choices = {"validation": (logits[:300], labels[:300]), "test": (logits[300:], labels[300:])}
    assert calibrate.calibrate(CalibrateConfig(seed=0), choices).method == "vector"
    found = calibrate.calibrate(CalibrateConfig(seed=0, max_error=0.3), choices)
    assert found.method == "temperature"
    assert found.selective is not None
    assert found.selective.share["validation"] > 0


def test_where_all_answers_hold_the_rate_none_abstains() -> None:
    found = Selective(threshold=0.0, max_error=0.1, confidence=0.95)
    assert found.line == "no answer abstains: at most 10.0% of all wrong, with 95% confidence"


def test_where_no_threshold_holds_every_answer_abstains(kind_root: Any, tmp_path: Path, run: Any) -> None:
    model = packaged(kind_root("single-label"), tmp_path, max_error=0.01)
    found = model.manifest.calibration.selective
    assert found is not None
    assert (found.threshold, found.share, found.error) == (
        None,
        {"validation": 0.0, "test": 0.0},
        {"validation": 0.0, "test": 0.0},
    )
    assert [answer["abstain"] for answer in model(["bad", "a great film"])] == [True, True]
    assert run("predict", model.folder, "bad")[1].rstrip().endswith(" (abstains)")
    assert f"\nabstains      {found.line}\n" in run("inspect", model.folder)[1]
    assert found.line == (
        "every answer abstains: no threshold lets answers through and at most 1.0% of them wrong, with 95% confidence"
        "; it takes at least 299 validation rows that are answered right"
    )

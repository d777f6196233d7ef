"""Intervals, slices and identity terms reach the user: stage metrics, terminal, report, card and manifest."""

from __future__ import annotations

import csv
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support import last_json

from edgeft import artifact, recipe
from edgeft.errors import RecipeError
from edgeft.pipeline.preflight import check_ships, preflight, stages_left_out, without_unfit_stages
from edgeft.pipeline.run import plan, run_pipeline
from edgeft.pipeline.stages import in_run, steps
from edgeft.stage_folder import read_result

OPENINGS = ("so", "the plot was", "a movie", "the film is", "it is so", "a film", "the actor is", "so it was", "it was")
ENDINGS = ("a plot", "the film", "so so", "the movie", "is it", "was a film", "a movie so", "it is", "so it is")
SETTINGS: dict[str, Any] = {
    "finetune.method": "full",
    "finetune.learning_rate": 2e-3,
    "finetune.epochs": 6,
    "finetune.batch_size": 8,
    "finetune.max_length": 24,
    "finetune.bootstrap_resamples": 200,
    "data.slice_columns": ["country"],
    "data.test_fraction": 0.3,
    "data.validation_fraction": 0.2,
}
QUICK: dict[str, Any] = {
    "distill.num_layers": 2,
    "distill.epochs": 6,
    "distill.learning_rate": 2e-3,
    "distill.batch_size": 8,
    "prune.enabled": False,
    "export.precision": "fp32",
    "export.latency_queries": 10,
    "bench.queries": 10,
    "bench.warmup": 2,
    "bench.against_teacher": False,
    "baseline.max_features": 50,
}


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A label, labels and a number that all follow the gendered word."""
    found, generator = [], np.random.default_rng(0)
    for opening in OPENINGS:
        for ending in ENDINGS:
            for word, label in (("he", "up"), ("she", "down")):
                fair = ("good", "bad")[generator.integers(0, 2)]
                country = ("fr", "de", "", "日本")[generator.integers(0, 4)]
                labels = ",".join([*(["male"] if word == "he" else []), *(["kind"] if fair == "good" else [])])
                target = 2.0 if word == "he" else -1.0
                found.append((f"{opening} {word} {fair} {ending}", label, labels, target, country))
    path = tmp_path_factory.mktemp("rows") / "rows.csv"
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([("text", "label", "labels", "target", "country"), *found])
    return path


def chosen(rows: Path, model: Path, **more: Any) -> recipe.Recipe:
    named = {name.replace("__", "."): value for name, value in more.items()}
    return recipe.load(None, {"data.file": str(rows), "finetune.model": str(model), **SETTINGS, **named})


def holds_no_text(written: str) -> bool:
    return not any(f"{opening} {word}" in written for opening in OPENINGS for word in ("he", "she"))


def test_a_whole_run_says_it_everywhere(rows: Path, tiny_model: Path, tmp_path: Path, run: Any) -> None:
    folder = tmp_path / "run"
    settings = {**SETTINGS, **QUICK}
    given = [item for name, value in settings.items() for item in ("--set", f"{name}={json.dumps(value)}")]
    base = ("pipeline", "--data", rows, "--model", tiny_model, "--run-dir", folder, *given)
    code, out, err = run(*base, "--until", "finetune")
    assert code == 0, err
    assert "teacher on test: accuracy " in out
    assert f"Report: {folder / 'report.html'}" in out
    assert "Bench" not in (folder / "report.html").read_text(encoding="utf-8").split("<main>")[0]
    code, out, err = run(*base, "--json")
    assert code == 0, err
    assert not (folder / "report.html").exists()  # the artifact has its own
    assert "artifact on test: accuracy " in out
    assert re.search(r"identity terms: swapping them changes the answer to \d+ of \d+ texts", out)
    manifest = artifact.read_manifest(folder / "artifact")
    for name in ("teacher", "artifact"):
        assert set(manifest.metrics[name]) >= {"intervals", "slices", "counterfactual"}
        assert "examples" not in manifest.metrics[name]["counterfactual"]
    own = manifest.metrics["artifact"]
    assert own["intervals"]["accuracy"]["value"] == pytest.approx(own["accuracy"])
    assert own["intervals"]["macro_f1"]["value"] == pytest.approx(own["macro_f1"])
    assert own["counterfactual"]["flip_rate"] > 0.5
    assert set(own["slices"]["by_column"]["country"]) == {"fr", "de", "日本", "(missing)"}
    assert last_json(out)["stages"]["artifact"]["metrics"]["intervals"] == own["intervals"]
    for name in ("artifact/manifest.json", "artifact/stage.json", "finetune/stage.json"):
        assert holds_no_text((folder / name).read_text(encoding="utf-8"))
    card = (folder / "artifact" / "README.md").read_text(encoding="utf-8")
    assert re.search(r"\| artifact \| [\d.]+% \| [\d.]+ to [\d.]+ \| [\d.]+ \|", card)
    assert "Identity terms: swapping them changes the answer to" in card
    page = (folder / "artifact" / "report.html").read_text(encoding="utf-8")
    for text in ('id="slices"', 'id="lengths"', 'id="identity"', "by country", "日本", "<del>"):
        assert text in page
    assert f"95% interval {own['intervals']['accuracy']['low'] * 100:.1f} to" in page


def test_what_can_not_ship_is_said_before_anything_runs(rows: Path, tiny_model: Path) -> None:
    whole = recipe.resolve(chosen(rows, tiny_model, task="text-generation"))
    with pytest.raises(RecipeError, match=r"task: text rows can be trained on, .*; --until finetune trains"):
        check_ships(whole, {"data", "finetune", "export"})
    check_ships(whole, {"data", "finetune"})


@pytest.mark.parametrize(
    ("kind", "options", "lead", "second"),
    [
        ("multi-label", {"data__multi_label": True, "data__label_column": "labels"}, "micro_f1", "subset_accuracy"),
        ("regression", {"task": "text-regression"}, "pearson", "mae"),
    ],
)
def test_a_run_until_the_teacher_ends_with_a_report(
    kind: str, options: dict[str, Any], lead: str, second: str, rows: Path, tiny_model: Path, tmp_path: Path
) -> None:
    whole = chosen(rows, tiny_model, **options)
    names = [step.name for step in steps(without_unfit_stages(recipe.resolve(whole)), in_run(tmp_path))]
    assert names == ["data", "finetune", "distill", "prune", "export", "calibrate", "package", "bench"]
    assert stages_left_out(recipe.resolve(whole)) == ["baseline"]
    assert [name for name, _ in plan(whole, tmp_path / "run", "finetune")] == ["data", "finetune"]
    results = run_pipeline(whole, tmp_path / "run", "finetune")
    metrics = results["finetune"].metrics
    assert list(metrics["intervals"]) == [lead, second]
    assert metrics["intervals"][lead]["low"] <= metrics["test"][lead] <= metrics["intervals"][lead]["high"]
    assert metrics["slices"]["metric"] == lead
    assert metrics["counterfactual"]["flip_rate"] > 0.5
    assert read_result(tmp_path / "run" / "finetune") == results["finetune"]
    page = (tmp_path / "run" / "report.html").read_text(encoding="utf-8")
    assert 'id="slices"' in page
    assert 'id="confusion"' not in page
    assert 'id="mistakes"' not in page
    assert "<del>" in page


def test_stages_that_do_not_run_need_nothing(rows: Path, tiny_model: Path) -> None:
    whole = recipe.resolve(chosen(rows, tiny_model, distill__num_layers=40))
    preflight(whole, ["data", "baseline", "finetune"])
    with pytest.raises(Exception, match="40 layers wanted"):
        preflight(whole)

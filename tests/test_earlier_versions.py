"""Folders that edgeft wrote on 2026-11-30, before schema changes of later days: they load, verify, answer and resume.

`folders/2026-11-30.tar.xz` holds `rows.csv`, `model` (a BERT of two layers, 32 wide), `run` (a whole pipeline over
both, without its cache) and `artifacts` (one with edgeft's operators, one for each other form of rows). All of it was
made in code, with random weights.
"""

from __future__ import annotations

import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import edgeft
from edgeft import artifact, recipe
from edgeft.data import dataset
from edgeft.models import model_folder
from edgeft.runtime import verify
from edgeft.stage_folder import read_result

ARCHIVE = Path(__file__).parent / "folders" / "2026-11-30.tar.xz"
ARTIFACTS = (
    "run/artifact",
    "artifacts/int8",
    "artifacts/multi-label",
    "artifacts/regression",
    "artifacts/tokens",
    "artifacts/squad",
)
STAGES = ("data", "baseline", "finetune", "distill", "prune", "export", "calibrate", "package", "bench", "artifact")


@pytest.fixture(scope="module")
def earlier(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The unpacked folder."""
    folder = tmp_path_factory.mktemp("earlier")
    with tarfile.open(ARCHIVE) as archive:
        archive.extractall(folder, filter="data")
    return folder


@pytest.mark.parametrize("name", ARTIFACTS)
def test_an_earlier_artifact_loads_and_answers_as_recorded(earlier: Path, name: str) -> None:
    model = edgeft.load(earlier / name)
    replay = verify.replay(model)
    assert replay.passed
    assert replay.rows >= 8
    assert replay.max_logit_difference < 1e-3


def test_an_earlier_manifest_keeps_what_it_says(earlier: Path) -> None:
    manifest = artifact.read_manifest(earlier / "run" / "artifact")
    assert manifest.labels == ["down", "up"]
    assert manifest.quantization.precision == "fp32"
    assert manifest.metrics["artifact"]["accuracy"] > 0
    assert manifest.latency["latency"]["p50_ms"] > 0


@pytest.mark.parametrize("stage", STAGES)
def test_the_result_of_an_earlier_stage_is_read(earlier: Path, stage: str) -> None:
    result = read_result(earlier / "run" / stage)
    assert result is not None
    assert result.stage == stage
    assert result.metrics


def test_an_earlier_recipe_is_read(earlier: Path) -> None:
    chosen = recipe.load(str(earlier / "run" / "recipe.yaml"))
    assert chosen.finetune.method == "lora"
    assert chosen.data.text_column == "review"


@pytest.mark.parametrize("stage", ["finetune", "distill", "prune"])
def test_an_earlier_model_folder_answers_as_it_did(earlier: Path, stage: str) -> None:
    import torch

    from edgeft.train import tasks

    rows = dataset.load(earlier / "run" / "data")
    folder = earlier / "run" / stage
    model = model_folder.load(folder, tasks.task_class(rows.kind).head(rows.labels)).eval()
    tokenizer = model_folder.load_tokenizer(folder)
    encoded = tokenizer(list(rows.test.texts), padding=True, truncation=True, return_tensors="pt")
    with torch.no_grad():
        logits = model(**encoded).logits.numpy()
    recorded = np.load(folder / "test_logits.npy")
    np.testing.assert_allclose(logits, recorded, atol=2e-3)


def test_an_earlier_run_is_taken_up_again(earlier: Path, run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(earlier)
    code, printed, said = run("pipeline", "run/recipe.yaml", "--run-dir", "run", "--until", "baseline")
    assert code == 0, said
    results = [read_result(earlier / "run" / name) for name in ("data", "baseline")]
    assert all(results)
    assert (earlier / "run" / "artifact" / artifact.MANIFEST).is_file()
    assert "baseline" in printed + said

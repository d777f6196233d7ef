"""`kill -9` at random moments, the same command again: always the same bytes (benchmarks/kills.py does more)."""

from __future__ import annotations

import contextlib
import random
import subprocess
import time
from pathlib import Path

import pytest
from kills import command, write_rows
from support_processes import Forked, edgeft

from edgeft.errors import ArtifactError
from edgeft.runtime import load

# So narrow a model is slower in int8 where the processor has no VNNI, and that isn't what is tested here.
SLOWLY = ("--set", "export.min_speedup=10")


def finish(line: list[str], run: Path) -> bytes:
    """Run the pipeline to its end; the artifact's graph."""
    done = edgeft(*line)
    assert done.returncode == 0, done.stderr[-3000:]
    return (run / "artifact" / "model.onnx").read_bytes()


def test_a_killed_pipeline_ends_with_the_same_bytes(tiny_model: Path, tmp_path: Path) -> None:
    data = write_rows(tmp_path / "rows.csv")
    start = time.monotonic()
    expected = finish([*command(data, tmp_path / "whole", str(tiny_model)), *SLOWLY], tmp_path / "whole")
    seconds = time.monotonic() - start
    generator, run = random.Random(0), tmp_path / "run"
    line = [*command(data, run, str(tiny_model)), *SLOWLY]
    for _ in range(3):
        with Forked(*line) as process, contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(generator.uniform(0.25, 0.7) * seconds)
        if not (run / "artifact" / "manifest.json").exists():
            with pytest.raises(ArtifactError):
                load(run / "artifact")
    assert finish(line, run) == expected

"""`kill -9` at random moments, the same command again: always the same bytes (benchmarks/kills.py does more)."""

from __future__ import annotations

import random
import time
from pathlib import Path

import pytest
from kills import finish, kill_at, write_rows

from edgeft.errors import ArtifactError
from edgeft.runtime import load


@pytest.mark.slow
def test_a_killed_pipeline_ends_with_the_same_bytes(tmp_path: Path) -> None:
    data = write_rows(tmp_path / "rows.csv")
    start = time.monotonic()
    expected = finish(data, tmp_path / "whole")
    seconds = time.monotonic() - start
    generator, run = random.Random(0), tmp_path / "run"
    for _ in range(3):
        kill_at(data, run, generator.uniform(0.25, 0.7) * seconds)
        if not (run / "artifact" / "manifest.json").exists():
            with pytest.raises(ArtifactError):
                load(run / "artifact")
    assert finish(data, run) == expected

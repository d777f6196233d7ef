"""A search that another process ends: it says which trials there are, and the same command goes on."""

from __future__ import annotations

import signal
from pathlib import Path

from support import up_and_down, write_csv
from support_processes import Forked

SPACE = "finetune.epochs: [1, 500]\nfinetune.learning_rate: [1.0e-3, 2.0e-3]\n"


def test_a_sigterm_is_answered_with_the_trials_so_far(tiny_model: Path, tmp_path: Path) -> None:
    data = write_csv(tmp_path / "rows.csv", up_and_down()[::4])
    (tmp_path / "space.yaml").write_text(SPACE)
    settings = ("finetune.method=full", "finetune.max_length=16", "finetune.epochs=1", "finetune.learning_rate=1e-3")
    line = ["search", "--trials", "40", "--space", str(tmp_path / "space.yaml"), "--data", str(data)]
    line += ["--text-column", "review", "--label-column", "stars", "--model", str(tiny_model)]
    line += ["--run-dir", str(tmp_path / "run"), *(word for one in settings for word in ("--set", one))]
    with Forked(*line) as process:
        process.wait_until(lambda: "\nsearch: trial 1 of 40" in process.stderr)
        process.send_signal(signal.SIGTERM)
        code, said = process.wait(), process.stderr
    assert code == 128 + signal.SIGTERM
    assert any(one.startswith("search: trial 0 of 40: the recipe itself") for one in said.splitlines())
    assert "The score is the validation accuracy" in said
    assert f"search: the trials so far: {tmp_path / 'run' / 'search.html'}" in said
    assert said.endswith("edgeft: stopped; the same command goes on where it was\n")
    assert (tmp_path / "run" / "best.yaml").exists()

"""A search that another process ends: it says which trials there are, and the same command goes on."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

from support import up_and_down, write_csv

SPACE = "finetune.epochs: [1, 500]\nfinetune.learning_rate: [1.0e-3, 2.0e-3]\n"


def test_a_sigterm_is_answered_with_the_trials_so_far(tiny_model: Path, tmp_path: Path) -> None:
    data = write_csv(tmp_path / "rows.csv", up_and_down()[::4])
    (tmp_path / "space.yaml").write_text(SPACE)
    settings = ("finetune.method=full", "finetune.max_length=16", "finetune.epochs=1", "finetune.learning_rate=1e-3")
    line = [sys.executable, "-m", "edgeft", "search", "--trials", "40", "--space", str(tmp_path / "space.yaml")]
    line += ["--data", str(data), "--text-column", "review", "--label-column", "stars", "--model", str(tiny_model)]
    line += ["--run-dir", str(tmp_path / "run"), *(word for one in settings for word in ("--set", one))]
    heard = []
    with subprocess.Popen(line, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr
        for heard_line in process.stderr:
            heard.append(heard_line)
            if heard_line.startswith("search: trial 1 of 40"):
                process.send_signal(signal.SIGTERM)
                break
        said, code = process.stderr.read(), process.wait(120)
    assert code == 128 + signal.SIGTERM
    assert any(one.startswith("search: trial 0 of 40: the recipe itself") for one in heard)
    assert "trials by validation accuracy" in said
    assert f"search: the trials so far: {tmp_path / 'run' / 'search.html'}" in said
    assert said.endswith("edgeft: stopped; the same command goes on where it was\n")
    assert (tmp_path / "run" / "best.yaml").exists()

"""`edgeft evaluate` on the artifact of the real run, with the training libraries out of reach."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import sklearn.metrics as sklearn

import edgeft

WITHOUT_TORCH = """
import sys

class Block:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("torch", "transformers", "datasets", "peft", "accelerate", "pyarrow", "onnx"):
            raise ModuleNotFoundError(f"{name} is blocked", name=name)

sys.meta_path.insert(0, Block())
from edgeft.cli import main
main()
"""


def test_the_artifact_knows_its_columns_and_needs_no_torch(real_artifact: Path, reviews: Path) -> None:
    command = [sys.executable, "-c", WITHOUT_TORCH, "evaluate", real_artifact, "--file", reviews, "--json"]
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.strip().splitlines()[-1])
    assert found["columns"] == {"text": "review", "label": "stars"}
    with reviews.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    model = edgeft.load(real_artifact)
    said = [model(row["review"])[0]["label"] for row in rows]
    truth = [row["stars"] for row in rows]
    assert found["rows"] == len(rows) == 320
    assert found["metrics"]["accuracy"] == pytest.approx(sklearn.accuracy_score(truth, said))
    assert found["metrics"]["macro_f1"] == pytest.approx(sklearn.f1_score(truth, said, average="macro"))
    assert found["recorded"]["accuracy"] == model.manifest.metrics["artifact"]["intervals"]["accuracy"]


@pytest.mark.skipif("EDGEFT_DEVICE_PYTHON" not in os.environ, reason="make test sets EDGEFT_DEVICE_PYTHON")
def test_a_device_is_told_which_extra_it_needs(real_artifact: Path, reviews: Path) -> None:
    command = [os.environ["EDGEFT_DEVICE_PYTHON"], "-m", "edgeft", "evaluate", real_artifact, "--file", reviews]
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 2
    assert (
        "sklearn is not installed and is needed to evaluate an artifact: pip install 'edgeft[evaluate]'" in done.stderr
    )

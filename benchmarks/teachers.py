"""Fine-tuned teachers by method on Rotten Tomatoes: 7,000 training rows, 1,000 test rows, both drawn anew by each seed.

python benchmarks/teachers.py --methods full lora qlora --seeds 0 1 2 --folder runs/teachers
"""

from __future__ import annotations

import argparse
import random
import subprocess
import sys
from pathlib import Path
from statistics import mean

import movies
import msgspec

TRAIN, TEST = 7000, 1000  # the other 530 rows are for validation
# Grouping was judged on validation rows, QLoRA's rate by its loss curve (docs/log.md).
OPTIONS = {
    "full": ["--learning-rate", "1e-4", "--no-length-grouped"],
    "lora": ["--learning-rate", "5e-4"],
    "qlora": ["--learning-rate", "5e-4"],
}


def edgeft(*arguments: str) -> None:
    """Run a command of edgeft."""
    subprocess.run([sys.executable, "-m", "edgeft", *arguments], check=True)


def write_split(seed: int, folder: Path) -> dict[str, str]:
    """The rows of a seed, a file for each split. edgeft itself splits by content, so that no seed would move a row."""
    folder.mkdir(parents=True, exist_ok=True)
    rows = movies.rows()
    random.Random(seed).shuffle(rows)
    parts = {"train": rows[:TRAIN], "test": rows[TRAIN : TRAIN + TEST], "validation": rows[TRAIN + TEST :]}
    return {name: str(movies.write(folder / f"{name}.csv", part)) for name, part in parts.items()}


def split(seed: int, folder: Path) -> Path:
    """The data folder of a seed."""
    files = write_split(seed, folder)
    own = ["--validation-file", files["validation"], "--test-file", files["test"]]
    edgeft("data", files["train"], *own, "--out", str(folder / "data"))
    return folder / "data"


def teacher(method: str, seed: int, data: Path, folder: Path) -> tuple[float, float]:
    """Test accuracy of one teacher in percent, and the seconds of its stage."""
    model = ["--model", "demo:all-minilm-l6-v2", "--method", method, "--seed", str(seed), "--epochs", "2"]
    edgeft("finetune", "--data", str(data), "--out", str(folder), *model, *OPTIONS[method])
    done = msgspec.json.decode((folder / "stage.json").read_bytes())
    return 100 * done["metrics"]["test"]["accuracy"], done["seconds"]


def main() -> None:
    """Run what is not complete and print the table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--methods", nargs="+", default=["full", "lora", "qlora"])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--folder", type=Path, default=Path("runs/teachers"))
    options = parser.parse_args()
    places = {seed: split(seed, options.folder / f"rows-{seed}") for seed in options.seeds}
    print("| method | " + " | ".join(f"seed {seed}" for seed in options.seeds) + " | mean | s each |")
    print("|---|" + "---|" * (len(options.seeds) + 2))
    for method in options.methods:
        found = [teacher(method, seed, data, options.folder / f"{method}-{seed}") for seed, data in places.items()]
        accuracies, seconds = zip(*found, strict=True)
        shown = " | ".join(f"{value:.1f}" for value in accuracies)
        print(f"| {method} | {shown} | {mean(accuracies):.2f} | {mean(seconds):.0f} |", flush=True)


if __name__ == "__main__":
    main()

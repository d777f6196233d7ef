"""`kill -9` at random moments of a small real pipeline, the same command again: model.onnx must not change.

python benchmarks/kills.py --kills 20 --runs 4
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import movies

ROWS = 160
SETTINGS = (
    "finetune.method=full",
    "finetune.epochs=1",
    "finetune.max_length=24",
    "finetune.checkpoint_steps=2",
    "distill.epochs=1",
    "distill.num_layers=2",
    "distill.checkpoint_steps=2",
    "prune.epochs=0.5",
    "prune.max_drop_points=100",
    "prune.importance_rows=16",
    "prune.checkpoint_steps=2",
    "export.precision=int8",
    "export.min_agreement=0.01",
    "export.float_layers=[]",
    "export.latency_queries=10",
    "bench.queries=10",
    "bench.against_teacher=false",
)


def write_rows(path: Path) -> Path:
    """A few real rows with string labels, the two in turn."""
    rows = movies.rows()
    by_label = [[text for text, own in rows if own == label] for label in ("bad", "good")]
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(("review", "stars"))
        for bad, good in list(zip(*by_label, strict=False))[: ROWS // 2]:
            writer.writerows(((bad, "bad"), (good, "good")))
    return path


def command(data: Path, run: Path, model: str = "demo:all-minilm-l6-v2") -> list[str]:
    """Arguments of edgeft: the pipeline over the rows into a run folder."""
    flags = ["--data", data, "--text-column", "review", "--label-column", "stars", "--run-dir", run]
    settings = [argument for setting in SETTINGS for argument in ("--set", setting)]
    return ["pipeline", *map(str, flags), "--model", model, *settings]


def start(data: Path, run: Path) -> subprocess.Popen[str]:
    """The pipeline in a process of its own."""
    line = [sys.executable, "-m", "edgeft", *command(data, run)]
    return subprocess.Popen(line, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)


def finish(data: Path, run: Path) -> str:
    """Run to the end; SHA-256 of the artifact's graph.

    Raises:
        RuntimeError: the pipeline failed.
    """
    with start(data, run) as child:
        said = child.communicate()[1]
    if child.returncode:
        raise RuntimeError(said[-3000:])
    return hashlib.sha256((run / "artifact" / "model.onnx").read_bytes()).hexdigest()


def kill_at(data: Path, run: Path, seconds: float) -> str | None:
    """Start the pipeline and kill it after so many seconds.

    Returns:
        The stage that was under way; None where the pipeline had ended by itself.
    """
    with start(data, run) as child:
        try:
            child.communicate(timeout=seconds)
            return None
        except subprocess.TimeoutExpired:
            child.kill()
    under_way = sorted(path.parent.name for path in run.glob("*/stage.unfinished.json"))
    return ", ".join(under_way) or "start-up or between stages"


def main() -> None:
    """Print where each kill struck and whether the bytes held."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--kills-per-run", type=int, default=4)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    generator = random.Random(options.seed)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        data = write_rows(folder / "rows.csv")
        start = time.monotonic()
        expected = finish(data, folder / "whole")
        seconds = time.monotonic() - start
        print(f"a run without a kill: {seconds:.0f} s, model.onnx {expected[:16]}", flush=True)
        kills, runs, same = 0, 0, 0
        while kills < options.kills:
            run = folder / f"run-{runs}"
            for _ in range(options.kills_per_run):
                after = generator.uniform(0.15, 0.7) * seconds
                stage = kill_at(data, run, after)
                if stage is None:
                    break
                kills += 1
                print(f"run {runs}: killed after {after:.1f} s in {stage}", flush=True)
            found = finish(data, run)
            runs, same = runs + 1, same + (found == expected)
            print(
                f"run {runs - 1}: model.onnx {found[:16]} {'equal' if found == expected else 'DIFFERENT'}", flush=True
            )
    print(f"{kills} kills, {same} of {runs} runs ended with the same bytes")
    sys.exit(same != runs)


if __name__ == "__main__":
    main()

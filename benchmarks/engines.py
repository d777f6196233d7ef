"""One fine-tuned classifier through several engines: latency interleaved, and how many labels stay as in fp32.

python benchmarks/engines.py MODEL ARTIFACT DATA --envs DIR [--threads 1 2] [--batches 1 8] [--lengths 16 32 128]

MODEL: a fine-tuned model folder; ARTIFACT: what `edgeft export` made of it; DATA: a data folder (the one of the run).
Each peer has an environment of its own under DIR, made when it isn't there.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from edgeft.bench.race import ratio, summary
from edgeft.data.dataset import load as load_dataset
from edgeft.runtime import load

PEERS = {
    "torch_sdpa": ["torch==2.13.0", "transformers==5.23.0", "numpy"],
    "optimum_onnx": ["torch==2.13.0", "optimum-onnx[onnxruntime]", "transformers<4.58"],
    "openvino_int8": ["torch==2.13.0", "transformers==5.23.0", "openvino", "nncf"],
}
OURS = "edgeft_int8"
ROUNDS, BUDGET_MS = 15, 150.0  # of one setting, and about how long one engine's turn takes


@dataclass
class Worker:
    """One engine in its process."""

    name: str
    python: str
    process: Any = field(init=False)

    def __post_init__(self) -> None:
        script = Path(__file__).parent / "peers" / "worker.py"
        self.process = subprocess.Popen(
            [self.python, str(script), self.name], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def ask(self, do: str, **request: Any) -> Any:
        self.process.stdin.write(json.dumps({"do": do, **request}) + "\n")
        self.process.stdin.flush()
        line = self.process.stdout.readline()
        if not line:
            raise SystemExit(f"{self.name}: its process ended while it had to {do}")
        return json.loads(line)

    def close(self) -> None:
        self.process.stdin.close()
        self.process.wait()


def environment(folder: Path, packages: list[str]) -> str:
    """The Python of an environment with these packages."""
    python = folder / "bin" / "python"
    if not (folder / "ready").exists():
        subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
        subprocess.run([str(python), "-m", "pip", "install", "--quiet", *packages], check=True)
        (folder / "ready").touch()
    return str(python)


def race(workers: list[Worker], batch: int, tokens: int) -> dict[str, list[float]]:
    """Median milliseconds of each engine in each turn, the order turned round each time."""
    setting = {"batch": batch, "tokens": tokens, "seed": 0}
    first = [float(np.median(worker.ask("time", **setting, queries=8)[3:])) for worker in workers]
    queries = int(np.clip(BUDGET_MS / float(np.median(first)), 3, 40))
    samples: dict[str, list[float]] = {worker.name: [] for worker in workers}
    for turn in range(ROUNDS):
        for worker in workers if turn % 2 else workers[::-1]:
            samples[worker.name].append(float(np.median(worker.ask("time", **setting, queries=queries + 1)[1:])))
    return samples


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", type=Path)
    parser.add_argument("artifact", type=Path)
    parser.add_argument("data", type=Path)
    parser.add_argument("--envs", type=Path, required=True)
    parser.add_argument("--peers", nargs="*", default=list(PEERS))
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 8])
    parser.add_argument("--lengths", type=int, nargs="+", default=[16, 32, 128])
    chosen = parser.parse_args()
    dataset, artifact = load_dataset(chosen.data), load(chosen.artifact)
    calibration = [[int(token) for token in row] for row in artifact.encode(dataset.train.texts[:300])]
    rows = artifact.encode(dataset.test.texts[:1000])
    pythons = {name: environment(chosen.envs / name, PEERS[name]) for name in chosen.peers}
    workers = [Worker(name, python) for name, python in pythons.items()] + [Worker(OURS, sys.executable)]
    folders = {name: chosen.envs / f"{name}-model" for name in pythons} | {OURS: chosen.artifact}
    for worker in workers:
        folder = str(folders[worker.name])
        worker.ask("build", model=str(chosen.model), rows=calibration, folder=folder)
        worker.ask("load", folder=folder, threads=1)
    agreement(workers, rows, [int(label) for label in dataset.test.labels[:1000]])
    for threads in chosen.threads:
        for worker in workers:
            worker.ask("load", folder=str(folders[worker.name]), threads=threads)
        for batch in chosen.batches:
            for tokens in chosen.lengths:
                show(race(workers, batch, tokens), threads, batch, tokens)
    for worker in workers:
        worker.close()


def agreement(workers: list[Worker], rows: list[list[int]], labels: list[int]) -> None:
    """Labels as the first engine gives them, torch where it is there, and right ones."""
    reference = None
    for worker in workers:
        logits = np.array(worker.ask("answer", rows=rows))
        reference = logits if reference is None else reference
        same = float((logits.argmax(1) == reference.argmax(1)).mean())
        right = float((logits.argmax(1) == np.array(labels)).mean())
        largest = float(np.abs(logits - reference).max())
        print(json.dumps({"engine": worker.name, "same": same, "accuracy": right, "largest": largest}), flush=True)


def show(samples: dict[str, list[float]], threads: int, batch: int, tokens: int) -> None:
    """Medians, and how many times as long each engine takes as ours."""
    ours = summary(samples[OURS])
    line: dict[str, Any] = {"threads": threads, "batch": batch, "tokens": tokens}
    for name, times in samples.items():
        found = ratio(summary(times), ours)
        line[name] = {"p50_ms": round(summary(times).p50_ms, 2)}
        if name != OURS:
            line[name] |= {"ratio": round(found.median, 2), "low": round(found.low, 2), "high": round(found.high, 2)}
    print(json.dumps(line), flush=True)


if __name__ == "__main__":
    main()

"""Seconds and peak memory of `edgeft predict` over files of any size, one thread.

python benchmarks/large_files.py ARTIFACT --texts 5000 60000
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from itertools import cycle, islice
from pathlib import Path

import movies
import msgspec


def measured(artifact: Path, count: int, folder: Path) -> tuple[float, float]:
    """Seconds and peak megabytes of one process that answers so many texts of Rotten Tomatoes."""
    file, out = folder / f"{count}.jsonl", folder / f"{count}-answers.jsonl"
    with file.open("wb") as opened:
        for text, _ in islice(cycle(movies.rows()), count):
            opened.write(msgspec.json.encode({"text": text}) + b"\n")
    line = ["predict", artifact, "--file", file, "--out", out, "--threads", 1]
    start = time.perf_counter()
    child = subprocess.Popen([sys.executable, "-m", "edgeft", *map(str, line)])
    _, status, usage = os.wait4(child.pid, 0)
    seconds = time.perf_counter() - start
    assert status == 0
    with out.open("rb") as answers:
        assert sum(1 for _ in answers) == count
    return seconds, usage.ru_maxrss / 1e3


def main() -> None:
    """Print a row for each number of texts."""
    parser = argparse.ArgumentParser()
    parser.add_argument("artifact", type=Path)
    parser.add_argument("--texts", type=int, nargs="+", default=[5_000, 60_000])
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        for count in options.texts:
            seconds, megabytes = measured(options.artifact, count, Path(folder))
            print(f"{count:,} texts: {seconds:.1f} s, {megabytes:.0f} MB", flush=True)


if __name__ == "__main__":
    main()

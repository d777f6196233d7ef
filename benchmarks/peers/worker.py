"""One engine in its own process: builds its form of a model and times it on demand, in JSON lines.

Run by benchmarks/engines.py with the Python of the engine's own environment; imports nothing of edgeft's but where
edgeft is the engine.
"""

from __future__ import annotations

import importlib
import json
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

VOCABULARY = (1000, 30000)  # ids that the timed queries are drawn from


def timed(engine: Any, batch: int, tokens: int, queries: int, seed: int) -> list[float]:
    """Milliseconds of each query."""
    ids = np.random.default_rng(seed).integers(*VOCABULARY, (batch, tokens))
    samples = []
    for _ in range(queries):
        start = time.perf_counter()
        engine(ids)
        samples.append(1e3 * (time.perf_counter() - start))
    return samples


def answered(engine: Any, rows: list[list[int]]) -> list[list[float]]:
    """Logits of each row, one by one."""
    return [np.asarray(engine(np.array([row])))[0].tolist() for row in rows]


def main() -> None:
    """`worker.py ENGINE`: then `build`, `load`, `time` and `answer` requests until the input ends."""
    sys.path.insert(0, str(Path(__file__).parent))
    maker, out = importlib.import_module(sys.argv[1]), sys.stdout
    sys.stdout = sys.stderr  # what libraries print is no answer
    engine: Any = None
    for line in sys.stdin:
        request = json.loads(line)
        answer: Any = None
        match request.pop("do"):
            case "build":
                answer = maker.build(Path(request["model"]), request["rows"], Path(request["folder"]))
            case "load":
                engine = maker.load(Path(request["folder"]), request["threads"])
            case "time":
                answer = timed(engine, **request)
            case "answer":
                answer = answered(engine, request["rows"])
        print(json.dumps(answer), file=out, flush=True)


if __name__ == "__main__":
    main()

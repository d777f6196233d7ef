"""The least time that a graph could take on this machine: its arithmetic and its weights against what cores can do."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from typing import Any

from edgeft.runtime.machine.processor import instruction_sets

# int8 multiply-adds in the time of one in fp32, by the instruction that makes them; the best one that is there counts.
INT8_TIMES = {
    "avx2": 2.0,
    "neon": 2.0,
    "dotprod": 4.0,
    "avx_vnni": 4.0,
    "avx512_vnni": 4.0,
    "i8mm": 8.0,
    "amx_int8": 32.0,
}
SECONDS = 120.0
THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "VECLIB_MAXIMUM_THREADS")
# The best of some tries, in a process whose BLAS has so many threads from the start.
PEAKS = """
import json, sys, time
from concurrent.futures import ThreadPoolExecutor
import numpy as np
threads, side = int(sys.argv[1]), 1024
left, parts = np.ones((side, side), np.float32), np.array_split(np.ones(1 << 24), threads)
def best(work):
    found = []
    for _ in range(8):
        start = time.perf_counter()
        work()
        found.append(time.perf_counter() - start)
    return min(found)
with ThreadPoolExecutor(threads) as pool:
    walk = best(lambda: list(pool.map(np.sum, parts)))
print(json.dumps({"fp32_macs_per_s": side**3 / best(lambda: left @ left), "bytes_per_s": 8 * (1 << 24) / walk}))
"""


def measure_peaks(threads: int) -> dict[str, Any] | None:
    """What so many threads reach here; None where it can't be measured, as on a machine with too little memory.

    Returns:
        `threads`; `fp32_macs_per_s`, multiply-adds a second of numpy's matrix product; `int8_macs_per_s`, that times
        what the instruction `int8_by` makes more of them; `bytes_per_s` read from memory.
    """
    environment = {**os.environ, **dict.fromkeys(THREADS, str(threads))}
    command = [sys.executable, "-c", PEAKS, str(threads)]
    try:
        done = subprocess.run(command, stdout=subprocess.PIPE, env=environment, timeout=SECONDS, check=True)
        peaks: dict[str, Any] = json.loads(done.stdout)
    except (OSError, subprocess.SubprocessError, ValueError):
        return None
    by = max(instruction_sets(), key=lambda name: INT8_TIMES.get(name, 1.0), default="fp32")
    return {
        "threads": threads,
        **peaks,
        "int8_macs_per_s": INT8_TIMES.get(by, 1.0) * peaks["fp32_macs_per_s"],
        "int8_by": by,
    }


def ceiling(work: Mapping[str, float], peak: Mapping[str, Any]) -> dict[str, float]:
    """The least milliseconds of a text.

    Args:
        work: of a text, see `operators.work`.
        peak: of the machine, see `peaks`.

    Returns:
        `arithmetic_ms`; `bandwidth_ms`, of weights that come from memory for each text: where they stay in a cache a
        graph can be faster than that.
    """
    arithmetic = sum(work[f"{kind}_macs"] / peak[f"{kind}_macs_per_s"] for kind in ("fp32", "int8"))
    return {"arithmetic_ms": 1e3 * arithmetic, "bandwidth_ms": 1e3 * work["weight_bytes"] / peak["bytes_per_s"]}

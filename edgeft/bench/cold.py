"""What a fresh process pays before its first answer: run as `python -m edgeft.bench.cold ARTIFACT THREADS`.

The input comes on stdin as JSON, the figures go to stdout as one JSON document. Nothing heavy is imported before the
clock starts.
"""

from __future__ import annotations

import json
import sys
import time
from typing import Any


def main(path: str, threads: int, text: Any) -> dict[str, float]:
    """Import, load and answer once.

    Returns:
        `import_ms`, `load_ms`, `first_answer_ms`, and `peak_rss_bytes` of this process since its start.
    """
    start = time.perf_counter()
    from edgeft.runtime import load

    imported = time.perf_counter()
    model = load(path, threads=threads)
    loaded = time.perf_counter()
    model(text)
    answered = time.perf_counter()
    from edgeft.bench.harness.subjects.worker import peak_rss_bytes

    return {
        "import_ms": (imported - start) * 1e3,
        "load_ms": (loaded - imported) * 1e3,
        "first_answer_ms": (answered - loaded) * 1e3,
        "peak_rss_bytes": peak_rss_bytes(),
    }


if __name__ == "__main__":
    print(json.dumps(main(sys.argv[1], int(sys.argv[2]), json.loads(sys.stdin.buffer.read()))))

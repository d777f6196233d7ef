"""What a test needn't wait for: long warm-ups, rounds that noise repeats, a disk that must survive a power cut."""

from __future__ import annotations

import functools
import os
import sys
from typing import Any


def shortcuts() -> list[tuple[object, str, Any]]:
    """Objects, names of their attributes, and the quick values of these.

    What is timed in a test decides nothing. No test pulls the plug: the disk of test_power_cuts.py is a model.
    """
    from edgeft.bench import measure, race
    from edgeft.bench.harness.conditions import noise
    from edgeft.bench.harness.scenarios import warm

    training: list[tuple[object, str, Any]] = []
    if "torch" in sys.modules:  # who trains nothing needn't wait for its import
        from edgeft.train import evaluate

        training = [(evaluate, "LATENCY_QUERIES", 5), (evaluate, "LATENCY_WARMUP", 1)]
    return [
        *training,
        (os, "fsync", lambda _: None),
        (warm, "WINDOW_SECONDS", 0.02),
        (noise, "TRIES", 1),
        (noise, "REPEATED_SHARE", 0.0),
        (measure, "cold_start", functools.partial(measure.cold_start, runs=1)),
        (race.OwnGarbage, "__exit__", lambda *_: None),  # what was frozen stays so: collections are quick afterwards
    ]

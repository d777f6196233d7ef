"""Offline: all texts are there, and what counts is how many are answered in a second."""

from __future__ import annotations

from collections.abc import Sequence

from edgeft.bench.harness.subjects.child import Child

BATCHES = (1, 8, 32)


def measure_throughput(child: Child, seconds: float, batches: Sequence[int] = BATCHES) -> dict[str, float | None]:
    """Measure texts a second by batch size; None where the subject takes one text at a time."""
    rates: dict[str, float | None] = {}
    for batch in batches:
        child.request("offline", batch=batch, seconds=seconds / 10)  # the shapes of the batch are made
        done = child.request("offline", batch=batch, seconds=seconds)
        rates[str(batch)] = done["texts"] / done["seconds"] if done["texts"] else None
    return rates

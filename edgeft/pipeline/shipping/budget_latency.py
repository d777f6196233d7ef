"""Latencies near a budget's limit: if one measurement can't decide, they are measured again in fresh processes."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from edgeft.artifact import read_manifest
from edgeft.bench.harness.scenarios.warm import warm_up
from edgeft.bench.harness.subjects.child import Child
from edgeft.bench.harness.subjects.subject import subjects
from edgeft.bench.race import summary
from edgeft.data.dataset import load as load_dataset
from edgeft.progress import say
from edgeft.recipe import BenchConfig
from edgeft.recipe.budget import Limit
from edgeft.train import tasks

QUANTILES = ("p50", "p90", "p99")
PROCESSES, FURTHER = 3, 2  # an odd number in total, whose median decides
COUNTED = {PROCESSES: "three", PROCESSES + FURTHER: "five"}

Seen = dict[str, list[float]]  # quantile -> its milliseconds in each process


def undecided(limit: Limit, latency: Mapping[str, Any]) -> bool:
    """Whether one measurement can't decide if a latency keeps its limit.

    A value under the bound is undecided if its 95% interval, from repeated turns, includes the bound. A value above the
    bound is undecided, as noise only adds time, unless even the fastest query took longer than the bound.

    Args:
        limit: of any quantity.
        latency: of the bench, with `intervals_ms`.
    """
    if limit.quantity not in QUANTILES:
        return False
    value, name = latency[f"{limit.quantity}_ms"], f"{limit.quantity}_ms"
    if value > limit.bound:
        return bool(latency["min_ms"] <= limit.bound)
    return bool(latency.get("intervals_ms", {}).get(name, (value, value))[1] > limit.bound)


def settle(limits: Sequence[Limit], bench: Mapping[str, Any], package: Path, data: Path, config: BenchConfig) -> Seen:
    """Measure latencies again in fresh processes if the bench's measurement can't decide about a limit.

    There are three processes, and two more if their results lie on both sides of a bound. The median decides: it is
    robust to one noisy process, and unlike the minimum not biased towards passing.

    Args:
        limits: of the budget.
        bench: the metrics of the stage.
        package: the artifact.
        data: the data folder; its test texts are the queries.
        config: queries and threads.

    Returns:
        Each undecided quantile -> its milliseconds in each process; empty if all are decided.
    """
    latencies = [limit for limit in limits if undecided(limit, bench["latency"])]
    if not latencies:
        return {}
    say(f"budget: {'; '.join(limit.text for limit in latencies)}: too near to decide, measured again in new processes")
    texts = _texts(package, data)
    runs = [measure_in_process(package, texts, config) for _ in range(PROCESSES)]
    if any(_straddles(limit, runs) for limit in latencies):
        runs += [measure_in_process(package, texts, config) for _ in range(FURTHER)]
    return {limit.quantity: [run[limit.quantity] for run in runs] for limit in latencies}


def _straddles(limit: Limit, runs: Sequence[Mapping[str, float]]) -> bool:
    return len({run[limit.quantity] <= limit.bound for run in runs}) > 1


def _texts(package: Path, data: Path) -> list[Any]:
    dataset = load_dataset(data)
    texts: list[Any] = msgspec.to_builtins(
        tasks.create_artifact_task(dataset, read_manifest(package)).artifact_inputs(dataset.test)
    )
    return texts


def measure_in_process(package: Path, texts: Sequence[Any], config: BenchConfig) -> dict[str, float]:
    """Quantiles [ms] of an artifact alone in a fresh process, warmed up, tokenization counted."""
    (subject,) = subjects([str(package)], config.threads, None, None)
    with Child(subject, texts) as child:
        warm_up(child)
        times = summary(child.request("ask", first=0, count=config.queries)["ms"])
    return {name: getattr(times, f"{name}_ms") for name in QUANTILES}


def medians(seen: Seen) -> dict[str, float]:
    """The medians over the processes, which decide."""
    return {name: statistics.median(values) for name, values in seen.items()}


def describe(limit: Limit, values: Sequence[float]) -> str:
    """The measurements for a limit, as in "p99 12.1, 14.9, 12.4 ms in three processes; the budget is 12 ms"."""
    shown = ", ".join(f"{value:.3g}" for value in values)
    return f"{limit.quantity} {shown} ms in {COUNTED[len(values)]} processes; the budget is {limit.bound:g} ms"

"""The whole protocol: subjects side by side, and one document of what was found."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from edgeft.bench import machine
from edgeft.bench.harness import ceiling, hardware, noise, offline, quality, ratios, server, single, sustained
from edgeft.bench.harness.child import Child
from edgeft.bench.harness.installed import install_bytes
from edgeft.bench.harness.single import Stream
from edgeft.bench.harness.subject import Subject
from edgeft.bench.harness.warm import warm
from edgeft.bench.race import summary
from edgeft.errors import UserError
from edgeft.progress import say

SCHEMA_VERSION = 2
NOWHERE = {"parts_ms": None, "session_mean_ms": None, "operators": None, "work": None}
QUANTILES = (1, 5, *range(10, 100, 10), 95, 99, 99.9)


@dataclass(frozen=True, kw_only=True)
class Plan:
    """How long and how often.

    Attributes:
        seconds: of the single stream of each subject, at least.
        queries: of the single stream of each subject and of each rate, at least.
        rounds: how often all processes are started anew.
        scenarios: further ones: `offline`, `server` and `sustained`.
        server_seconds: of each rate.
        sustained_seconds: of the sustained run.
        bound_ms: that p99 of the server scenario is not to exceed; None: three times the first subject's in the
            single stream.
        streams: queries of the server scenario that may be answered at once.
        stream_alone: nothing beside the single stream.
        drop_points: accuracy that a subject may lose against the first and still be called faster.
        tokens: of every text, where they were made for that; None: they are as they are.
        seed: of arrivals and resampling.
    """

    seconds: float = 10.0
    queries: int = single.LEAST_QUERIES
    rounds: int = 8
    scenarios: tuple[str, ...] = ("offline", "server")
    server_seconds: float = 2.0
    sustained_seconds: float = 60.0
    bound_ms: float | None = None
    streams: int = 1
    stream_alone: bool = False
    drop_points: float = 1.0
    tokens: int | None = None
    seed: int = 0


def measured(
    subjects: Sequence[Subject], texts: Sequence[Any], plan: Plan, labels: Sequence[str] | None = None
) -> dict[str, Any]:
    """Measure subjects side by side.

    Args:
        subjects: the first is the one that others are compared with.
        texts: real texts, or questions with contexts.
        plan: how long.
        labels: the true label of each text; None: accuracy isn't measured.

    Returns:
        The document of docs/bench.md.

    Raises:
        UserError: nothing to ask, no round, no time, one round of several subjects, or a subject that can't be opened.
    """
    for name in ("rounds", "seconds"):
        if getattr(plan, name) <= 0:
            raise UserError(f"bench: --{name} {getattr(plan, name):g}: nothing would be measured; give more than 0")
    if len(subjects) > 1 and plan.rounds < 2:
        raise UserError(f"bench: {plan.rounds} round of several subjects: their ratio wants two or more")
    before, ticks, kernel = _physical(), noise.ticks(), noise.kernel_ms()
    streams = single.stream(subjects, texts, plan.seconds, plan.rounds, plan.queries)
    served = any(one.kind == "http" for one in subjects)
    heard = noise.judged(kernel, noise.kernel_ms(), ticks, noise.ticks(), served)
    after = _physical()
    bound = plan.bound_ms or server.BOUND_TIMES * summary(streams[subjects[0].name].samples_ms).p99_ms
    found = [
        {**_named(one), **_of_stream(streams[one.name]), **_alone(one, texts, plan, labels, streams[one.name], bound)}
        for one in subjects
    ]
    peak = _ceilings(found)
    return {
        "schema_version": SCHEMA_VERSION,
        "plan": {**asdict(plan), "scenarios": list(plan.scenarios)},
        "texts": len(texts),
        "texts_sha256": hashlib.sha256(repr(list(texts)).encode()).hexdigest(),
        "machine": {**machine.describe(), "caches": hardware.caches(), "clock": hardware.clock(), "peaks": peak},
        "noise": heard.as_dict(),
        "degrees": {"before": before["degrees"], "after": after["degrees"]},
        "joules": hardware.spent(before["joules"], after["joules"]),
        "subjects": found,
        "ratios": compared(streams, found, plan, heard.seen),
    }


def _physical() -> dict[str, Any]:
    return {"degrees": hardware.degrees(), "joules": hardware.joules()}


def _named(subject: Subject) -> dict[str, Any]:
    return {"name": subject.name, "kind": subject.kind, "threads": subject.options.get("threads")}


def _of_stream(stream: Stream) -> dict[str, Any]:
    times = stream.samples_ms
    settled = sum(one.settled for one in stream.warm)
    quantiles = dict(zip(map(str, QUANTILES), np.percentile(times, QUANTILES).tolist(), strict=True))
    start = {name: float(np.median([one[name] for one in stream.started])) for name in stream.started[0]}
    return {
        "single_stream": {**summary(times).as_dict(), "quantiles_ms": quantiles, "settled_rounds": settled},
        "cold_start": {**start, "runs": len(stream.started)},
    }


def _alone(
    subject: Subject, texts: Sequence[Any], plan: Plan, labels: Sequence[str] | None, stream: Stream, bound_ms: float
) -> dict[str, Any]:
    """What is measured of one subject after the other."""
    if plan.stream_alone:
        return {"facts": {}, "peak_rss_bytes": None, "where": NOWHERE}
    say(f"bench: {subject.name}")
    found: dict[str, Any] = {}
    with Child(subject, texts) as child:
        paced = warm(child)
        found |= child.request("facts")  # before scenarios that need more memory
        if "sustained" in plan.scenarios:
            found["sustained"] = sustained.sustained(child, paced.median_ms, plan.sustained_seconds).as_dict()
        if "offline" in plan.scenarios:
            found["offline_texts_per_s"] = offline.throughput(child, plan.server_seconds)
        if "server" in plan.scenarios:
            limits = bound_ms, plan.server_seconds, plan.queries
            found["server"] = server.capacity(
                child, summary(stream.samples_ms), *limits, plan.seed, plan.streams
            ).as_dict()
        if labels is not None:
            found["quality"] = quality.judged(child, labels)
        found["where"] = child.request("where")
    if subject.kind == "artifact":
        found["facts"]["install_bytes"] = install_bytes()
        found["replay"] = quality.replayed(Path(subject.place))
    return found


def _ceilings(found: Sequence[dict[str, Any]]) -> dict[str, Any] | None:
    """Give each subject whose work is known its `ceiling`.

    Returns:
        What the machine reaches; None where nobody's work is known, or it can't be measured.
    """
    known = [one for one in found if one["where"]["work"]]
    if not known:
        return None
    peak = ceiling.peaks(known[0]["threads"])
    if peak is None:
        say("bench: what the machine reaches could not be measured; no ceiling")
        return None
    for one in known:
        one["ceiling"] = ceiling.ceiling(one["where"]["work"], peak)
    return peak


def compared(
    streams: Mapping[str, Stream], found: Sequence[Mapping[str, Any]], plan: Plan, seen: Sequence[str]
) -> dict[str, Any]:
    """Name to ratio of its latency to the first one's, and what may be said of it."""
    first, *others = streams
    qualities = {one["name"]: one.get("quality") for one in found}
    odd = {one["name"] for one in found if not one.get("replay", {"passed": True})["passed"]}
    made = {}
    for name in others:
        ratio = ratios.ratio(streams[name], streams[first], plan.seed)
        lost = dropped(qualities[first], qualities[name])
        said = verdict(ratio, lost, plan.drop_points, seen)
        if said == "faster" and name in odd:
            said = "not a win: it doesn't answer as recorded"
        made[name] = {**ratio.as_dict(), "drop_points": lost, "verdict": said}
    return made


def dropped(first: Mapping[str, float] | None, other: Mapping[str, float] | None) -> float | None:
    """Points of accuracy that the other loses; None where one of them wasn't measured."""
    return 100 * (first["accuracy"] - other["accuracy"]) if first and other else None


def verdict(ratio: Any, lost: float | None, allowed: float, seen: Sequence[str]) -> str:
    """What may be said of a subject beside the first one."""
    if seen:
        return f"too noisy to compare: {'; '.join(seen)}"
    if ratio.low <= 1 <= ratio.high:
        return "no difference seen"
    if ratio.low > 1:
        return "slower"
    if lost is not None and lost > allowed:
        return f"not a win: {lost:.1f} points less accuracy, {allowed:g} allowed"
    return "faster"

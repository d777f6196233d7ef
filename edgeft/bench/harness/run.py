"""The whole protocol: measures subjects side by side and returns one document."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from edgeft import artifact
from edgeft.bench import machine
from edgeft.bench.harness import ceiling, quality, ratios
from edgeft.bench.harness.conditions import hardware, noise
from edgeft.bench.harness.conditions.installed import install_bytes
from edgeft.bench.harness.scenarios import offline, server, single, sustained
from edgeft.bench.harness.scenarios.single import Stream
from edgeft.bench.harness.scenarios.warm import warm_up
from edgeft.bench.harness.subjects.child import Child
from edgeft.bench.harness.subjects.subject import Subject
from edgeft.bench.race import Ratio, summary
from edgeft.errors import UserError
from edgeft.progress import say

SCHEMA_VERSION = 2
NOWHERE = {"parts_ms": None, "session_mean_ms": None, "operators": None, "work": None}
REMEMBERED = 256  # texts in the process whose memory is measured
UNKNOWN: dict[str, Any] = {"drop_points": None, "drop_interval": None}
QUANTILES = (1, 5, *range(10, 100, 10), 95, 99, 99.9)


@dataclass(frozen=True, kw_only=True)
class Plan:
    """How long and how often.

    Attributes:
        seconds: of the single stream of each subject, at least.
        queries: of the single stream of each subject and of each rate, at least.
        rounds: how often all processes are started anew, each beginning at another text.
        scenarios: further ones: `offline`, `server` and `sustained`.
        server_seconds: of each rate.
        sustained_seconds: of the sustained run.
        bound_ms: that p99 of the server scenario is not to exceed; None: three times the first subject's in the
            single stream.
        streams: queries of the server scenario that may be answered at once.
        stream_alone: nothing beside the single stream.
        drop_points: accuracy that a subject may lose against the first and still be reported as faster.
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


@dataclass(frozen=True, kw_only=True)
class TrueLabels:
    """The true labels, in the order in which texts are asked.

    Attributes:
        labels: of each text.
        places: of each among the texts given.
    """

    labels: list[str]
    indices: list[int]


def measure_side_by_side(
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
    for name in ("rounds", "seconds", "streams", "bound_ms"):
        if (value := getattr(plan, name)) is not None and value <= 0:
            raise UserError(f"bench: --{name.replace('_', '-')} {value:g}: nothing could be measured; give more than 0")
    if len(subjects) > 1 and plan.rounds < 2:
        raise UserError(f"bench: {plan.rounds} round of several subjects: their ratio needs two or more")
    order = np.random.default_rng(plan.seed).permutation(len(texts)).tolist()  # a part of a sorted file as the whole
    mixed = [texts[index] for index in order]
    right = None if labels is None else TrueLabels(labels=[labels[index] for index in order], indices=order)
    if right is not None:
        for subject in subjects:
            quality.check(subject, mixed, right.labels)
    known = describe_conditions(subjects, texts, plan)
    monitor = noise.NoiseMonitor(any(subject.served_here for subject in subjects))
    streams = single.measure_streams(subjects, mixed, plan.seconds, plan.rounds, plan.queries)
    heard, first = monitor.read_noise(), streams[subjects[0].name]
    bound = plan.bound_ms or server.BOUND_TIMES * summary(first.samples_ms).p99_ms
    results = [
        {
            **_describe_subject(subject),
            **_summarize_stream(subject, streams[subject.name]),
            **_measure_alone(subject, mixed, plan, right, streams[subject.name], bound),
        }
        for subject in subjects
    ]
    peak = _add_ceilings(results)
    return {
        **known,
        "machine": {**known["machine"], "clock": hardware.clock(), "peaks": peak},
        "noise": {**heard.as_dict(), "rounds": noise.describe_rounds(first.noise, first.repeated)},
        "subjects": results,
        "ratios": compare_with_first(streams, results, plan),
    }


def describe_conditions(subjects: Sequence[Subject], texts: Sequence[Any], plan: Plan) -> dict[str, Any]:
    """The part of the document that is known before anything is measured."""
    return {
        "schema_version": SCHEMA_VERSION,
        "plan": {**asdict(plan), "scenarios": list(plan.scenarios)},
        "texts": len(texts),
        "texts_sha256": hashlib.sha256(repr(list(texts)).encode()).hexdigest(),
        "machine": {**machine.describe(), "caches": hardware.caches()},
        "subjects": [_describe_subject(subject) for subject in subjects],
    }


def _describe_subject(subject: Subject) -> dict[str, Any]:
    return {"name": subject.name, "kind": subject.kind, "threads": subject.options.get("threads")}


def _summarize_stream(subject: Subject, stream: Stream) -> dict[str, Any]:
    times = stream.samples_ms
    settled = sum(warm.settled for warm in stream.warm)
    quantiles = dict(zip(map(str, QUANTILES), np.percentile(times, QUANTILES).tolist(), strict=True))
    start = {name: float(np.median([run[name] for run in stream.started])) for name in stream.started[0]}
    return {
        "single_stream": {
            **summary(times).as_dict(),
            "texts": len(stream.texts),
            "quantiles_ms": quantiles,
            "settled_rounds": settled,
        },
        "cold_start": None if subject.kind == "http" else {**start, "runs": len(stream.started)},
    }


def _measure_alone(
    subject: Subject, texts: Sequence[Any], plan: Plan, right: TrueLabels | None, stream: Stream, bound_ms: float
) -> dict[str, Any]:
    """Measure what needs no turns: facts, further scenarios, quality and replay."""
    if plan.stream_alone:
        return {"facts": {}, "peak_rss_bytes": None, "noise": None, "where": NOWHERE}
    say(f"bench: {subject.name}")
    result, monitor = _facts(subject, texts), noise.NoiseMonitor(subject.served_here)
    with Child(subject, texts) as child:
        paced = warm_up(child)
        if "sustained" in plan.scenarios:
            result["sustained"] = sustained.measure_sustained(child, paced.median_ms, plan.sustained_seconds).as_dict()
        if "offline" in plan.scenarios:
            result["offline_texts_per_s"] = offline.measure_throughput(child, plan.server_seconds)
        if "server" in plan.scenarios:
            limits = bound_ms, plan.server_seconds, plan.queries
            result["server"] = server.find_capacity(
                child, summary(stream.samples_ms), *limits, plan.seed, plan.streams
            ).as_dict()
        result["noise"] = monitor.read_noise().as_dict() if plan.scenarios else None
        if right is not None:
            result["quality"] = quality.measure_quality(child, right.labels, right.indices)
        result["where"] = child.request("where")
    if subject.kind == "artifact" and (Path(subject.place) / artifact.GOLDEN).is_file():
        result["replay"] = quality.replay_artifact(Path(subject.place))
    return result


def _facts(subject: Subject, texts: Sequence[Any]) -> dict[str, Any]:
    """What a subject says of itself, and the peak memory of a process that holds and has answered some texts."""
    with Child(subject, texts[:REMEMBERED]) as child:
        warm_up(child)
        answer = child.request("facts")
    if subject.kind == "http":
        return {**answer, "peak_rss_bytes": None}
    install = {"install_bytes": install_bytes()} if subject.kind == "artifact" else {}
    return {**answer, "facts": {**answer["facts"], **install}}


def _add_ceilings(results: Sequence[dict[str, Any]]) -> dict[str, Any] | None:
    """Give each subject whose work is known its `ceiling`.

    Returns:
        What the machine reaches; None where nobody's work is known, or it can't be measured.
    """
    known = [result for result in results if result["where"]["work"]]
    if not known:
        return None
    peak = ceiling.measure_peaks(known[0]["threads"])
    if peak is None:
        say("bench: what the machine reaches could not be measured; no ceiling")
        return None
    for result in known:
        result["ceiling"] = ceiling.ceiling(result["where"]["work"], peak)
    return peak


def compare_with_first(
    streams: Mapping[str, Stream], results: Sequence[Mapping[str, Any]], plan: Plan
) -> dict[str, Any]:
    """Compare each further subject with the first: ratio of latencies, loss of accuracy and verdict by name."""
    first, *others = streams
    qualities = {result["name"]: result.get("quality") for result in results}
    odd = {result["name"] for result in results if not result.get("replay", {"passed": True})["passed"]}
    comparisons = {}
    for name in others:
        ratio = ratios.ratio(streams[name], streams[first], plan.seed)
        both = qualities[first], qualities[name]
        lost = quality.accuracy_drop(both[0], both[1]) if both[0] and both[1] else UNKNOWN
        said = choose_verdict(ratio, lost["drop_points"], plan.drop_points)
        if said == "faster" and name in odd:
            said = "not a win: it doesn't answer as recorded"
        if said == "slower" and first in odd:
            said = "slower, but the first doesn't answer as recorded"
        comparisons[name] = {**ratio.as_dict(), "margin": ratio.margin, **lost, "verdict": said}
    return comparisons


def choose_verdict(ratio: Ratio, lost: float | None, allowed: float) -> str:
    """The verdict on a subject beside the first one; noise has already widened the ratio's interval."""
    if ratio.low <= 1 <= ratio.high:
        quiet = ratio.low * ratio.margin, ratio.high / ratio.margin
        if quiet[0] <= 1 <= quiet[1]:
            return "no difference seen"
        return f"not reported as {'faster' if quiet[1] < 1 else 'slower'}: noise can explain it"
    if ratio.low > 1:
        if lost is not None and -lost > allowed:
            return f"slower, but the first has {-lost:.1f} points less accuracy, {allowed:g} allowed"
        return "slower"
    if lost is not None and lost > allowed:
        return f"not a win: {lost:.1f} points less accuracy, {allowed:g} allowed"
    return "faster"

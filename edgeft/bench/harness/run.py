"""The whole protocol: subjects side by side, and one document of what was found."""

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
from edgeft.bench.harness.scenarios.warm import warm
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
    """In the order in which texts are asked.

    Attributes:
        labels: of each text.
        places: of each among the texts given.
    """

    labels: list[str]
    places: list[int]


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
    for name in ("rounds", "seconds", "streams", "bound_ms"):
        if (value := getattr(plan, name)) is not None and value <= 0:
            raise UserError(f"bench: --{name.replace('_', '-')} {value:g}: nothing could be measured; give more than 0")
    if len(subjects) > 1 and plan.rounds < 2:
        raise UserError(f"bench: {plan.rounds} round of several subjects: their ratio wants two or more")
    places = np.random.default_rng(plan.seed).permutation(len(texts)).tolist()  # a part of a sorted file as the whole
    mixed = [texts[place] for place in places]
    right = None if labels is None else TrueLabels(labels=[labels[place] for place in places], places=places)
    if right is not None:
        for one in subjects:
            quality.check(one, mixed, right.labels)
    known = beginning(subjects, texts, plan)
    listening = noise.Listening(any(one.served_here for one in subjects))
    streams = single.stream(subjects, mixed, plan.seconds, plan.rounds, plan.queries)
    heard, first = listening.heard(), streams[subjects[0].name]
    bound = plan.bound_ms or server.BOUND_TIMES * summary(first.samples_ms).p99_ms
    found = [
        {
            **_named(one),
            **_of_stream(one, streams[one.name]),
            **_alone(one, mixed, plan, right, streams[one.name], bound),
        }
        for one in subjects
    ]
    peak = _ceilings(found)
    return {
        **known,
        "machine": {**known["machine"], "clock": hardware.clock(), "peaks": peak},
        "noise": {**heard.as_dict(), "rounds": noise.describe_rounds(first.noise, first.repeated)},
        "subjects": found,
        "ratios": compared(streams, found, plan),
    }


def beginning(subjects: Sequence[Subject], texts: Sequence[Any], plan: Plan) -> dict[str, Any]:
    """What the document says before anything is measured."""
    return {
        "schema_version": SCHEMA_VERSION,
        "plan": {**asdict(plan), "scenarios": list(plan.scenarios)},
        "texts": len(texts),
        "texts_sha256": hashlib.sha256(repr(list(texts)).encode()).hexdigest(),
        "machine": {**machine.describe(), "caches": hardware.caches()},
        "subjects": [_named(one) for one in subjects],
    }


def _named(subject: Subject) -> dict[str, Any]:
    return {"name": subject.name, "kind": subject.kind, "threads": subject.options.get("threads")}


def _of_stream(subject: Subject, stream: Stream) -> dict[str, Any]:
    times = stream.samples_ms
    settled = sum(one.settled for one in stream.warm)
    quantiles = dict(zip(map(str, QUANTILES), np.percentile(times, QUANTILES).tolist(), strict=True))
    start = {name: float(np.median([one[name] for one in stream.started])) for name in stream.started[0]}
    return {
        "single_stream": {
            **summary(times).as_dict(),
            "texts": len(stream.texts),
            "quantiles_ms": quantiles,
            "settled_rounds": settled,
        },
        "cold_start": None if subject.kind == "http" else {**start, "runs": len(stream.started)},
    }


def _alone(
    subject: Subject, texts: Sequence[Any], plan: Plan, right: TrueLabels | None, stream: Stream, bound_ms: float
) -> dict[str, Any]:
    """What is measured of one subject after the other."""
    if plan.stream_alone:
        return {"facts": {}, "peak_rss_bytes": None, "noise": None, "where": NOWHERE}
    say(f"bench: {subject.name}")
    found, listening = _facts(subject, texts), noise.Listening(subject.served_here)
    with Child(subject, texts) as child:
        paced = warm(child)
        if "sustained" in plan.scenarios:
            found["sustained"] = sustained.sustained(child, paced.median_ms, plan.sustained_seconds).as_dict()
        if "offline" in plan.scenarios:
            found["offline_texts_per_s"] = offline.throughput(child, plan.server_seconds)
        if "server" in plan.scenarios:
            limits = bound_ms, plan.server_seconds, plan.queries
            found["server"] = server.capacity(
                child, summary(stream.samples_ms), *limits, plan.seed, plan.streams
            ).as_dict()
        found["noise"] = listening.heard().as_dict() if plan.scenarios else None
        if right is not None:
            found["quality"] = quality.judged(child, right.labels, right.places)
        found["where"] = child.request("where")
    if subject.kind == "artifact" and (Path(subject.place) / artifact.GOLDEN).is_file():
        found["replay"] = quality.replayed(Path(subject.place))
    return found


def _facts(subject: Subject, texts: Sequence[Any]) -> dict[str, Any]:
    """What a subject says of itself, and the peak memory of a process that holds and has answered some texts."""
    with Child(subject, texts[:REMEMBERED]) as child:
        warm(child)
        found = child.request("facts")
    if subject.kind == "http":
        return {**found, "peak_rss_bytes": None}
    own = {"install_bytes": install_bytes()} if subject.kind == "artifact" else {}
    return {**found, "facts": {**found["facts"], **own}}


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


def compared(streams: Mapping[str, Stream], found: Sequence[Mapping[str, Any]], plan: Plan) -> dict[str, Any]:
    """Name to ratio of its latency to the first one's, and what may be said of it."""
    first, *others = streams
    qualities = {one["name"]: one.get("quality") for one in found}
    odd = {one["name"] for one in found if not one.get("replay", {"passed": True})["passed"]}
    made = {}
    for name in others:
        ratio = ratios.ratio(streams[name], streams[first], plan.seed)
        both = qualities[first], qualities[name]
        lost = quality.lost(both[0], both[1]) if both[0] and both[1] else UNKNOWN
        said = verdict(ratio, lost["drop_points"], plan.drop_points)
        if said == "faster" and name in odd:
            said = "not a win: it doesn't answer as recorded"
        if said == "slower" and first in odd:
            said = "slower, but the first doesn't answer as recorded"
        made[name] = {**ratio.as_dict(), "margin": ratio.margin, **lost, "verdict": said}
    return made


def verdict(ratio: Ratio, lost: float | None, allowed: float) -> str:
    """What may be said of a subject beside the first one: noise has widened the interval that decides."""
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

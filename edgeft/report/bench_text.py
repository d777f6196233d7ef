"""A bench document in words: noise, conditions, ratios and machine."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from edgeft.report.race_text import describe_repeats


def describe_disturbances(document: Mapping[str, Any]) -> list[str]:
    """Describe the noise of the single stream, its consequence, and the noise of further scenarios."""
    stream = document["noise"]["seen"]
    lines = (
        [f"noise: {'; '.join(stream)}; these milliseconds don't compare with those of another run"] if stream else []
    )
    alone = {subject["name"]: (subject.get("noise") or {}).get("seen") for subject in document["subjects"]}
    widened = "the ratios' intervals" if document["ratios"] else ""
    rounds = describe_repeats(document["noise"].get("rounds", {}), document["plan"]["rounds"], widened)
    return [
        *lines,
        *filter(None, [rounds]),
        *(f"{name}, beside the single stream: noisy: {'; '.join(seen)}" for name, seen in alone.items() if seen),
    ]


def rate_text(server: Mapping[str, Any], digits: int) -> str:
    """A capacity; if no rate held, "under" the lowest rate that was tried."""
    if server["rate"] is None:
        return f"under {server['loads'][0]['rate']:.{digits}f}"
    return f"{server['rate']:.{digits}f}"


def describe_conditions(document: Mapping[str, Any]) -> str:
    """What the figures depend on, in one line."""
    plan, streams = document["plan"], [subject["single_stream"] for subject in document["subjects"]]
    settled, times = sum(stream["settled_rounds"] for stream in streams), plan["rounds"] * len(streams)
    texts = "texts" if plan["tokens"] is None else f"texts made to have {plan['tokens']} tokens"
    processes = "1 new process" if plan["rounds"] == 1 else f"{plan['rounds']} new processes"
    return (
        f"{streams[0]['queries']} queries each, batch 1, of {streams[0]['texts']} of {document['texts']} {texts}; "
        f"{processes} each, "
        f"warmed up until two windows agreed within 2% ({settled} of {times} did)"
    )


def ratio_text(ratio: Mapping[str, float]) -> str:
    """As in "1.43x [1.40, 1.47]"."""
    return f"{ratio['median']:.2f}x [{ratio['low']:.2f}, {ratio['high']:.2f}]"


def describe_ratio(ratio: Mapping[str, Any]) -> str:
    """A verdict and, if measured, the difference of accuracy, as in "faster; accuracy -0.3 points [-1.1, +0.5]"."""
    verdict: str = ratio["verdict"]
    if ratio["drop_points"] is None:
        return verdict
    low, high = ratio["drop_interval"]
    lost, least, most = (_points(-value) for value in (ratio["drop_points"], high, low))
    return f"{verdict}; accuracy {lost} points [{least}, {most}]"


def _points(value: float) -> str:
    return f"{round(value, 1) + 0.0:+.1f}"  # and no -0.0


def describe_machine(machine: Mapping[str, Any]) -> str:
    """The machine in one line."""
    if not machine:
        return "machine not described"
    sets = " ".join(machine["instruction_sets"]) or "none of the listed instruction sets"
    versions = ", ".join(f"{name} {version}" for name, version in machine["versions"].items())
    return (
        f"{machine['processor']}, {machine['cores']['usable']} of {machine['cores']['logical']} cores, {sets}, "
        f"{machine['memory_bytes'] / 1e9:.1f} GB, {machine['os']}, {versions}"
    )

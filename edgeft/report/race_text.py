"""A race of several models in words: speedup and noise."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any


def describe_speedup(race: Mapping[str, Any]) -> str:
    """Describe the artifact's speed against its teacher's; every page and line uses this text.

    Args:
        race: `ratio` of the teacher's latency to the artifact's, its interval widened by noise.
    """
    ratio = race["ratio"]
    teacher = "its teacher in transformers.pipeline"
    interval = f"{ratio['low']:.1f} to {ratio['high']:.1f}"
    if ratio["low"] > 1:
        return f"{ratio['median']:.1f} times as fast as {teacher} ({interval})"
    word = "slower" if ratio["high"] < 1 else "not reported as faster"
    return f"{word} than {teacher}: {ratio['median']:.2f} times its speed ({ratio['low']:.2f} to {ratio['high']:.2f})"


def describe_noise(race: Mapping[str, Any]) -> str:
    """Describe the noise of a race and how it widened the intervals; empty if quiet.

    Args:
        race: as of `Race.as_dict`; may be empty.
    """
    noise = race.get("noise", {})
    return describe_repeats(noise, noise["rounds"], "the intervals of ratios", noise["seen"]) if noise else ""


def describe_repeats(rounds: Mapping[str, Any], count: int, widened: str, seen: Sequence[str] = ()) -> str:
    """Describe disturbed rounds and their repetition; empty if there were none.

    Args:
        rounds: as of `describe_rounds`.
        count: of the rounds.
        widened: name of what the margin widens; may be empty.
        seen: what disturbed the worst round that counts.
    """
    if not rounds.get("repeated") and not rounds.get("disturbed"):
        return ""
    again = f"noise: {rounds['repeated']} of {count} rounds were measured again because of it"
    if not rounds["disturbed"]:
        return f"{again}, and were quiet then"
    why = f" (at worst: {'; '.join(seen)})" if seen else ""
    wider = f", which widens {widened} by a factor of {rounds['margin']:.2f} at both ends" if widened else ""
    return f"{again}, {rounds['disturbed']} of the rounds used are still noisy{why}{wider}"

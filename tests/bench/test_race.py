"""The race takes turns; its percentiles and ratios are right."""

from __future__ import annotations

import io
import time
from functools import partial

import numpy as np
import pytest
from rich.console import Console

from edgeft import progress
from edgeft.bench import race as module
from edgeft.bench.race import Latency, race, ratio, summary
from edgeft.errors import UserError


def test_contenders_take_turns_on_the_same_text_and_the_first_one_rotates() -> None:
    calls: list[tuple[str, str]] = []
    contenders = {name: lambda text, name=name: calls.append((name, text)) for name in "AB"}
    found = race(contenders, ["x", "y", "z"], queries=4, warmup=1)
    timed = calls[2:]
    assert [name for name, _ in timed] == list("ABBAABBA")
    assert [text for _, text in timed] == list("xxyyzzxx")
    assert {name: latency.queries for name, latency in found.items()} == {"A": 4, "B": 4}
    assert {name for name, _ in calls[:2]} == {"A", "B"}


def test_several_texts_in_a_row_follow_one_that_is_not_timed() -> None:
    calls: list[tuple[str, str]] = []
    contenders = {name: lambda text, name=name: calls.append((name, text)) for name in "AB"}
    found = race(contenders, ["x", "y", "z"], queries=3, warmup=2, in_a_row=2)
    assert "".join(name for name, _ in calls) == "BBBAAA" + "AAABBB" + "BBAA"
    assert "".join(text for name, text in calls if name == "A") == "xyz" + "zxy" + "yz"
    assert {name: latency.queries for name, latency in found.items()} == {"A": 3, "B": 3}


def test_three_contenders_each_go_first_equally_often() -> None:
    calls: list[str] = []

    def note(name: str, _: str) -> None:
        calls.append(name)

    race({name: partial(note, name) for name in "ABC"}, ["x"], queries=3, warmup=0)
    assert "".join(calls) == "ABCBCACAB"


def test_percentiles_by_hand() -> None:
    found = summary([float(value) for value in range(1, 102)])  # 1 .. 101: percentile p is p + 1
    assert (found.p50_ms, found.p90_ms, found.p99_ms) == (51.0, 91.0, 100.0)
    assert (found.mean_ms, found.min_ms, found.queries) == (51.0, 1.0, 101)
    assert found.as_dict() == {
        "queries": 101, "p50_ms": 51.0, "p90_ms": 91.0, "p99_ms": 100.0, "mean_ms": 51.0, "min_ms": 1.0,
    }  # fmt: skip


def test_times_are_milliseconds() -> None:
    found = race({"sleeper": lambda _: time.sleep(0.003)}, ["x"], queries=3, warmup=0)
    assert 3.0 <= found["sleeper"].min_ms < 100.0


def _pair(seed: int, slower: float) -> tuple[Latency, Latency]:
    """Two contenders in the same drifting noise, the first `slower` times as slow."""
    noise = np.random.default_rng(seed)
    drift = 1 + 0.3 * np.sin(np.linspace(0, 6, 200))
    a, b = (drift * noise.lognormal(0, 0.1, 200) for _ in range(2))
    return summary(slower * a), summary(b)


def test_interval_holds_the_truth_for_equal_contenders() -> None:
    found = [ratio(*_pair(seed, 1.0), resamples=400) for seed in range(20)]
    assert sum(each.low <= 1.0 <= each.high for each in found) >= 17
    assert all(each.low <= each.median <= each.high for each in found)


def test_interval_sees_twice_as_slow() -> None:
    found = ratio(*_pair(0, 2.0))
    assert found.low > 1.7
    assert found.low < 2.0 < found.high
    assert found.as_dict() == {"median": found.median, "low": found.low, "high": found.high}


def test_ratio_is_the_same_for_the_same_seed_and_exact_without_noise() -> None:
    assert ratio(*_pair(3, 1.0), seed=5) == ratio(*_pair(3, 1.0), seed=5)
    exact = ratio(summary([4.0] * 10), summary([2.0] * 10))
    assert (exact.median, exact.low, exact.high) == (2.0, 2.0, 2.0)


def test_ratio_of_two_races_is_refused() -> None:
    with pytest.raises(ValueError, match="3 queries against 2"):
        ratio(summary([1.0, 2.0, 3.0]), summary([1.0, 2.0]))


@pytest.mark.parametrize(("texts", "queries"), [([], 5), (["x"], 0)])
def test_nothing_to_time(texts: list[str], queries: int) -> None:
    with pytest.raises(UserError, match="nothing to time"):
        race({"a": len}, texts, queries, warmup=0)


def test_the_live_bar_draws_without_a_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = io.StringIO()
    monkeypatch.setattr(progress, "console", lambda: Console(file=stream, force_terminal=True, width=80))
    monkeypatch.setattr(module, "REFRESH_SECONDS", 0.0)
    with module.QuietBar("latency", 2) as bar:
        assert bar._live is not None
        assert bar._live.live._refresh_thread is None
        bar.advance(2)
    assert "2/2" in stream.getvalue()

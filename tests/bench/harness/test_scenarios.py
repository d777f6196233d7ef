"""The scenarios on subjects whose time is known: turns, warm-up, ratios, tails, capacity."""

from __future__ import annotations

import contextlib
import os
import random
from collections.abc import Callable
from typing import Any, ClassVar, cast

import numpy as np
import pytest

from edgeft.bench.harness import ratios
from edgeft.bench.harness.scenarios import server, single
from edgeft.bench.harness.scenarios.single import Stream, turn_order
from edgeft.bench.harness.scenarios.warm import Warm, warm_up
from edgeft.bench.harness.subjects.child import Child
from edgeft.bench.harness.subjects.subject import Subject
from edgeft.bench.race import summary
from edgeft.errors import UserError

Make = Callable[..., Subject]


def test_turns_are_a_b_b_a() -> None:
    assert [turn_order(["a", "b"], block) for block in range(4)] == [["a", "b"], ["b", "a"], ["b", "a"], ["a", "b"]]
    firsts = [turn_order(["a", "b", "c"], block)[0] for block in range(6)]
    assert sorted(firsts) == ["a", "a", "b", "b", "c", "c"]
    assert turn_order(["a"], 5) == ["a"]


def test_subjects_are_asked_the_same_texts_as_often(subject: Make) -> None:
    both = [subject("waits", "quick", seconds=0.001), subject("waits", "slow", seconds=0.003)]
    found = single.measure_streams(both, ["a", "b", "c"], seconds=0.2, rounds=2, queries=40)
    for one in found.values():
        assert (len(one.rounds), len(one.started), len(one.warm)) == (2, 2, 2)
    sizes = {name: [[len(block) for block in blocks] for blocks in one.rounds] for name, one in found.items()}
    assert sizes["quick"] == sizes["slow"]
    assert sum(map(sum, sizes["quick"])) >= 40
    assert min(map(len, sizes["quick"])) >= single.LEAST_BLOCKS
    assert found["slow"].samples_ms.min() >= 3.0
    assert found["quick"].texts == found["slow"].texts == {0, 1, 2}
    with pytest.raises(UserError, match="nothing to measure: 0 subjects"):
        single.measure_streams([], ["a"], 1.0, 1)


def test_warm_up_ends_when_two_windows_agree(subject: Make) -> None:
    with Child(subject("waits", seconds=0.002), ["a"]) as child:
        found = warm_up(child)
    assert 2 <= found.windows <= 20
    assert found.median_ms >= 2.0


def as_child(fake: object) -> Child:
    """A fake answers what it is asked; that is all of a child that is used."""
    return cast(Child, fake)


class Paced:
    """A child whose windows have given medians."""

    def __init__(self, medians: list[float]) -> None:
        self.medians = iter([medians[0], *medians])

    def request(self, do: str, first: int, count: int) -> dict[str, list[float]]:
        return {"ms": [next(self.medians)] * count}


def test_warm_up_goes_on_until_two_windows_agree_within_2_percent() -> None:
    assert warm_up(as_child(Paced([4.0, 3.0, 2.9, 2.85]))) == Warm(windows=4, settled=True, median_ms=2.85)
    never = warm_up(as_child(Paced([1.0, 2.0] * 10)))
    assert (never.windows, never.settled) == (20, False)


def stream_of(rounds: list[list[list[float]]]) -> Stream:
    return Stream(rounds=[[np.array(block) for block in blocks] for blocks in rounds])


def test_a_ratio_by_hand() -> None:
    a = stream_of([[[2.0, 2.0], [2.0]], [[8.0], [8.0]]])
    b = stream_of([[[1.0, 1.0], [1.0]], [[1.0], [1.0]]])
    found = ratios.ratio(a, b)
    assert found.median == pytest.approx(4.0)  # the geometric mean of 2 and 8
    assert found.low < 2
    assert found.high > 8
    same = ratios.ratio(a, a)
    assert (same.median, same.low, same.high) == (1.0, 1.0, 1.0)


def test_students_quantile() -> None:
    known = {1: 12.7062, 2: 4.3027, 3: 3.1824, 4: 2.7764, 7: 2.3646, 9: 2.2622, 29: 2.0452}
    for freedom, wanted in known.items():
        assert ratios.student_quantile(freedom) == pytest.approx(wanted, rel=0.01)


def test_intervals_of_equal_streams_hold_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """1% between processes, 10% between queries: 95% intervals hold 1 in about 19 of 20, and show 5% in nearly all."""
    monkeypatch.setattr(ratios, "RESAMPLES", 200)
    generator = np.random.default_rng(0)

    def drawn(times: float = 1.0) -> Stream:
        own = generator.normal(np.log(times), 0.01, 8)
        return stream_of([[list(np.exp(mean + generator.normal(0, 0.1, 20))) for _ in range(6)] for mean in own])

    equal = [ratios.ratio(drawn(), drawn()) for _ in range(40)]
    assert sum(found.low <= 1 <= found.high for found in equal) >= 36
    slowed = [ratios.ratio(drawn(1.05), drawn()) for _ in range(20)]
    assert sum(found.low > 1 for found in slowed) >= 16


class Asked:
    """A child that takes a millisecond for everything and remembers what it was asked."""

    started: ClassVar[dict[str, float]] = {}

    def __init__(self) -> None:
        self.firsts: list[int] = []

    def request(self, do: str, first: int, count: int) -> dict[str, list[float]]:
        self.firsts += range(first, first + count)
        return {"ms": [1.0] * count}


def test_rounds_ask_different_texts(monkeypatch: pytest.MonkeyPatch) -> None:
    """4 rounds of 10 queries over 40 texts ask all of them, not the first ten four times."""
    monkeypatch.setattr(single, "Child", lambda subject, texts: contextlib.nullcontext(Asked()))
    one = Subject(name="it", kind="callable", place="", opener="")
    found = single.measure_streams([one], [str(number) for number in range(40)], seconds=0.0, rounds=4, queries=40)[
        "it"
    ]
    assert (len(found.samples_ms), found.texts) == (40, set(range(40)))


def test_subjects_of_one_thread_share_a_core(subject: Make) -> None:
    """Another one in each round; processes of two threads stay where they were."""
    free = os.sched_getaffinity(0)
    for threads, wanted in ((1, 1), (2, len(free))):
        seen = []
        with contextlib.ExitStack() as stack:
            made = [subject("waits", name, seconds=0.0, threads=threads) for name in ("a", "b")]
            children = {one.name: stack.enter_context(Child(one, ["a"])) for one in made}
            for number in range(2):
                single._share_a_core(children, number)
                seen.append({frozenset(os.sched_getaffinity(child.pid)) for child in children.values()})
        assert all(len(cores) == 1 for cores in seen)
        assert {len(cores) for both in seen for cores in both} == {wanted}
        if len(free) > 1 and threads == 1:
            assert seen[0] != seen[1]


def test_before_a_block_another_text_is_asked() -> None:
    child, other = Asked(), Asked()
    settled = Warm(windows=2, settled=True, median_ms=20.0)
    parts = {name: single.Part(begin=0, started={}, warm=settled) for name in "ab"}
    single._take_turns({"a": as_child(child), "b": as_child(other)}, parts, 0.0, 8)
    assert child.firsts[:3] == [-1, 0, 1]  # refreshed by one, then two that are timed


def test_a_stall_shows_in_the_tail_of_the_server_scenario(subject: Make) -> None:
    """50 ms every 2 s at 200 queries a second: ten are due in each stall and wait for it, 2.5% of all; whoever counts
    from the time at which a query was sent sees one in 400.
    """
    with Child(subject("waits", seconds=0.001, stall=0.05, every=2.0), ["a"]) as child:
        stalled = server.measure_load(child, 200.0, 6.0, 100, 0, 1)
    assert stalled.queries == 1200
    assert stalled.p99_ms > 15


def test_a_stall_is_counted_from_the_time_a_query_was_due(subject: Make) -> None:
    """1,000 a second, one stall of 100 ms: about a hundred queries were due in it, and all waited."""
    with Child(subject("waits", seconds=0.0001, stall=0.1, every=0.3), ["a"]) as child:
        times = np.array(child.request("server", rate=1000.0, count=500, seed=1, streams=1)["ms"])
    assert (times > 10).sum() >= 70


def test_one_stream_falls_behind_where_two_would_not(subject: Make) -> None:
    """80 queries a second of 20 ms: the last of 80 is due after 1 s and can't be answered before 1.6."""
    with Child(subject("sleeps", seconds=0.02), ["a"]) as child:
        found = child.request("server", rate=80.0, count=80, seed=0, streams=1)
        assert found["seconds"] >= 1.6
        assert found["late_ms"] > 100
        both = child.request("server", rate=80.0, count=80, seed=0, streams=2)
    assert len(both["ms"]) == 80
    assert min(both["ms"]) >= 20.0


class Queue:
    """A child whose queries take exactly so long, one after the other."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds

    def request(self, do: str, rate: float, count: int, seed: int, streams: int) -> dict[str, Any]:
        draw, at, free, found = random.Random(seed), 0.0, 0.0, []
        for _ in range(count):
            at += draw.expovariate(rate)
            free = max(free, at) + self.seconds
            found.append(1e3 * (free - at))
        return {"ms": found, "seconds": free}


class Stalling(Queue):
    """The first time that it is asked at half of its pace, everything waits a second."""

    def __init__(self, seconds: float) -> None:
        super().__init__(seconds)
        self.stalled = False

    def request(self, do: str, rate: float, count: int, seed: int, streams: int) -> dict[str, Any]:
        found = super().request(do, rate, count, seed, streams)
        if rate * self.seconds > 0.45 and not self.stalled:
            self.stalled = True
            found["ms"] = [1000.0 + ms for ms in found["ms"]]
        return found


def test_capacity_is_the_highest_rate_that_holds() -> None:
    """Queries of 2 ms: with p99 under 20 ms an M/D/1 queue carries about 0.8 of its 500 a second."""
    alone = summary([2.0] * 100)
    found = server.find_capacity(as_child(Queue(0.002)), alone, bound_ms=20.0, seconds=20.0, least=200, seed=0)
    assert found.rate is not None
    assert 350 < found.rate < 480
    assert [load.rate for load in found.loads] == sorted(load.rate for load in found.loads)
    broken = [load.rate for load in found.loads if load.p99_ms > 20]
    assert found.rate < min(broken) < 1.1 * found.rate
    long = server.find_capacity(as_child(Queue(0.002)), alone, bound_ms=1e4, seconds=1.0, least=200, seed=0)
    assert long.rate == 475  # at 500 queues would grow without end, and no short run would show it
    none = server.find_capacity(as_child(Queue(0.002)), alone, bound_ms=1.0, seconds=1.0, least=662, seed=0)
    assert none.rate == 0  # a query by itself takes longer than the bound
    slow = server.find_capacity(
        as_child(Queue(0.05)), summary([50.0] * 100), bound_ms=60.0, seconds=1.0, least=662, seed=0
    )
    assert slow.rate is None  # what might hold, fewer than 11 a second, wasn't asked
    assert all(662 / load.rate <= server.LONGEST_SECONDS for load in none.loads)


def test_brackets() -> None:
    assert server.bracket_rate([1, 2, 3], lambda rate: rate < 3) == (2, 3)
    assert server.bracket_rate([1, 2, 3], lambda rate: False) == (0.0, 1)
    assert server.bracket_rate([1, 2, 3], lambda rate: True) == (3, None)


def test_one_stall_is_no_limit() -> None:
    alone = summary([2.0] * 100)
    plain = server.find_capacity(as_child(Queue(0.002)), alone, bound_ms=20.0, seconds=5.0, least=200, seed=0)
    stalls = server.find_capacity(as_child(Stalling(0.002)), alone, bound_ms=20.0, seconds=5.0, least=200, seed=0)
    assert plain.rate is not None
    assert stalls.rate is not None
    assert stalls.rate >= 0.9 * plain.rate
    assert len({load.rate for load in stalls.loads}) == len(stalls.loads)

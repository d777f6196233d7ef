"""The noise rule under clocks that move: simulated machines, so that every figure here is the same in every run."""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Callable, Iterator
from typing import Any, ClassVar

import numpy as np
import pytest

from edgeft.bench.harness import ratios, run
from edgeft.bench.harness.conditions import noise
from edgeft.bench.harness.conditions.noise import Ticks
from edgeft.bench.harness.scenarios import single
from edgeft.bench.harness.scenarios.single import Stream
from edgeft.bench.harness.scenarios.warm import Warm
from edgeft.bench.harness.subjects.subject import Subject

Clock = Callable[[float], float]  # seconds since the start to how slow the machine is, 1 at its best
ROUNDS, QUERIES, KERNEL_MS, ANSWER_MS = 8, 400, 1.0, 10.0
TEXTS = [str(number) for number in range(50)]


class Machine:
    """Time passes only where something works, at the clock's pace; processes differ by 1%, queries by 10%."""

    def __init__(self, clock: Clock, seed: int) -> None:
        self.clock, self.now, self.generator = clock, 0.0, np.random.default_rng(seed)

    def work(self, ms: float) -> float:
        took = ms * self.clock(self.now)
        self.now += took / 1e3
        return took

    def kernel_ms(self) -> float:
        for _ in range(9):
            took = self.work(20 * KERNEL_MS) / 20
        return took * math.exp(self.generator.normal(0, 0.003))

    def ticks(self) -> Ticks:
        return Ticks(busy=self.now, stolen=0.0, own=self.now, wall=self.now)


class Process:
    """A subject on that machine."""

    started: ClassVar[dict[str, float]] = {}
    pid = 0

    def __init__(self, machine: Machine, subject: Subject) -> None:
        self.machine, self.subject = machine, subject
        self.ms = subject.options["ms"] * math.exp(machine.generator.normal(0, 0.01))

    def request(self, do: str, first: int, count: int) -> dict[str, list[float]]:
        return {
            "ms": [self.machine.work(self.ms * math.exp(self.machine.generator.normal(0, 0.1))) for _ in range(count)]
        }


@pytest.fixture
def race(
    repeats_of_noisy_rounds: None, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., tuple[dict[str, Stream], str, Any]]:
    """Race a subject against one that takes so many times as long; the streams, the verdict and the ratio."""
    monkeypatch.setattr(ratios, "RESAMPLES", 150)

    def call(clock: Clock, times: float, seed: int) -> tuple[dict[str, Stream], str, Any]:
        machine = Machine(clock, seed)

        @contextlib.contextmanager
        def child(subject: Subject, texts: list[str]) -> Iterator[Process]:
            machine.now += 0.3  # to load
            yield Process(machine, subject)

        monkeypatch.setattr(single, "Child", child)
        monkeypatch.setattr(single, "warm_up", lambda one: Warm(windows=2, settled=True, median_ms=ANSWER_MS))
        monkeypatch.setattr(time, "perf_counter", lambda: machine.now)
        monkeypatch.setattr(noise, "measure_kernel_ms", machine.kernel_ms)
        monkeypatch.setattr(noise, "read_ticks", machine.ticks)
        both = [
            Subject(name=name, kind="callable", place="", opener="", options={"ms": ms})
            for name, ms in (("first", ANSWER_MS), ("other", ANSWER_MS * times))
        ]
        streams = single.measure_streams(both, TEXTS, 2.0, ROUNDS, QUERIES)
        ratio = ratios.ratio(streams["other"], streams["first"], seed)
        return streams, run.choose_verdict(ratio, None, 1.0), ratio

    return call


def quiet(now: float) -> float:
    return 1.0


def heating(now: float) -> float:
    """Slower by 80% after a minute, as when a machine gets hot."""
    return 1 + 0.8 * min(1.0, now / 60)


def stepping(now: float) -> float:
    """Another machine of the host comes and goes: slower by 30% in every other 4.7 seconds."""
    return 1.3 if now // 4.7 % 2 else 1.0


def wandering(now: float) -> float:
    """Up and down by 15%, in some seconds and in a minute."""
    return 1 + 0.1 * math.sin(now / 1.3) + 0.05 * math.sin(now / 10)


CLOCKS = (quiet, heating, stepping, wandering)


@pytest.mark.parametrize("clock", CLOCKS)
def test_equal_subjects_get_no_verdict_whatever_the_clock_does(race: Any, clock: Clock) -> None:
    said = [race(clock, 1.0, seed)[1] for seed in range(20)]
    assert sum(one not in ("faster", "slower") for one in said) >= 19, said


def test_a_slowdown_of_5_percent_is_seen_on_a_quiet_machine(race: Any) -> None:
    assert sum(race(quiet, 1.05, seed)[1] == "slower" for seed in range(20)) >= 16


@pytest.mark.parametrize("clock", CLOCKS)
def test_what_is_clear_is_reported_whatever_the_clock_does(race: Any, clock: Clock) -> None:
    for seed in range(5):
        _, said, ratio = race(clock, 1 / 14.8, seed)
        assert said == "faster"
        assert ratio.high < 1 / 8


def test_rounds_in_which_the_clock_moved_are_measured_again(race: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """One step in the third round: its quiet repeat counts, and nothing is left to widen the interval."""
    moments: list[float] = []
    timed = Machine.kernel_ms

    def noted(self: Machine) -> float:
        moments.append(self.now)
        return timed(self)

    monkeypatch.setattr(Machine, "kernel_ms", noted)
    race(quiet, 1 / 14.8, 0)
    step = (moments[4] + moments[5]) / 2  # between the two timings of the third round

    streams, said, ratio = race(lambda now: 1.0 if now < step else 1.14, 1 / 14.8, 0)
    first = streams["first"]
    assert (first.repeated, len(first.rounds), ratio.margin) == (1, ROUNDS, 1.0)
    assert said == "faster"
    medians = [float(np.median(np.concatenate(blocks))) for blocks in first.rounds]
    drift = np.mean(medians[3:]) / np.mean(medians[:2])  # of the whole run; each round that counts held still
    assert drift == pytest.approx(1.14, abs=0.05)


def test_a_clock_that_never_rests_costs_half_as_many_rounds_again_and_widens(race: Any) -> None:
    streams, said, ratio = race(lambda now: 1.04**now, 1 / 14.8, 0)
    assert streams["first"].repeated == ROUNDS / 2
    assert 1.03 < ratio.margin < 1.2
    assert said == "faster"
    assert race(lambda now: 1.04**now, 1.06, 0)[1] == "not reported as slower: noise can explain it"

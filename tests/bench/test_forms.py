"""The one race whose figures are shown, on machines whose clocks are simulated."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from edgeft.bench import forms as module
from edgeft.bench.forms import Form, Race, race_forms
from edgeft.bench.harness.conditions import noise
from edgeft.bench.harness.conditions.noise import Ticks
from edgeft.errors import UserError
from edgeft.report.race_text import describe_noise, describe_speedup

pytestmark = pytest.mark.usefixtures("repeats_of_noisy_rounds")

Clock = Callable[[int], float]  # number of a query to how slow the machine is


class Simulated:
    """Queries take what they take at the clock's pace; the fixed piece of work does, too."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, clock: Clock) -> None:
        self.asked: list[tuple[str, int]] = []
        self.clock, self.generator = clock, np.random.default_rng(0)
        monkeypatch.setattr(noise, "measure_kernel_ms", lambda: self.clock(len(self.asked)))
        monkeypatch.setattr(noise, "read_ticks", lambda: Ticks(busy=0.0, stolen=0.0, own=0.0, wall=0.0))
        monkeypatch.setattr(module, "time_ms", lambda answer, row: answer(row))

    def form(self, name: str, ms: float, share: float = 1.0) -> Form:
        def answer(row: int) -> float:
            self.asked.append((name, row))
            return ms * self.clock(len(self.asked)) * float(np.exp(self.generator.normal(0, 0.1)))

        return Form(answer=answer, share=share)


def steady(query: int) -> float:
    return 1.0


def test_all_forms_are_asked_the_same_rows_in_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    """40 queries of the artifact in turns of 5; the slow form gets a quarter, after another row that isn't timed."""
    machine = Simulated(monkeypatch, steady)
    raced = race_forms(
        {"artifact": machine.form("artifact", 1), "teacher": machine.form("teacher", 20, 0.25)}, 50, 40, 0
    )
    assert {name: raced.latency(name).queries for name in raced.turns} == {"artifact": 40, "teacher": 8}
    assert machine.asked[:8] == [*(("artifact", row) for row in (49, 0, 1, 2, 3, 4)), ("teacher", 49), ("teacher", 0)]
    assert machine.asked[8:10] == [("teacher", 4), ("teacher", 6)]  # who goes first moves on, and its row
    assert (len(raced.noise), raced.repeated) == (4, 0)


def test_the_ratio_is_that_of_the_medians_that_are_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    machine = Simulated(monkeypatch, steady)
    raced = race_forms({"artifact": machine.form("a", 1), "teacher": machine.form("t", 20, 0.25)}, 50, 662, 20)
    ratio, shown = raced.ratio("teacher", "artifact"), raced.as_dict()["forms"]
    assert ratio.median == shown["teacher"]["p50_ms"] / shown["artifact"]["p50_ms"]
    assert ratio.low < 20 < ratio.high
    assert ratio.high / ratio.low < 1.2
    low, high = raced.intervals_ms("artifact")["p99_ms"]
    assert low <= raced.latency("artifact").p99_ms <= high


def drifting(query: int) -> float:
    return 1 + query / 2000  # by some percent in each round: none holds still


def test_equal_forms_are_not_told_apart_by_a_drifting_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of 95% intervals one in 20 may miss 1 on a quiet machine; those that noise has widened hold it."""
    monkeypatch.setattr(module, "RESAMPLES", 200)
    held = {}
    for clock in (steady, drifting):
        machine, held[clock] = Simulated(monkeypatch, clock), 0
        for _ in range(20):
            machine.asked.clear()
            raced = race_forms({"a": machine.form("a", 1), "b": machine.form("b", 1, 0.25)}, 50, 320, 0)
            ratio = raced.ratio("a", "b")
            held[clock] += ratio.low <= 1 <= ratio.high
    assert held[steady] >= 17
    assert held[drifting] == 20
    assert (raced.repeated, raced.margin > 1.05) == (2, True)


def test_noise_widens_what_is_said_and_takes_nothing_back(monkeypatch: pytest.MonkeyPatch) -> None:
    machine = Simulated(monkeypatch, drifting)
    raced = race_forms({"artifact": machine.form("a", 1), "teacher": machine.form("t", 15, 0.25)}, 50, 320, 0)
    said = describe_speedup({"ratio": raced.ratio("teacher", "artifact").as_dict()})
    assert said.startswith("1")
    assert "times as fast as its teacher in transformers.pipeline (" in said
    noisy = describe_noise(raced.as_dict())
    assert noisy.startswith(
        "noise: 2 of 4 rounds were measured again because of it, 4 of the rounds used are still noisy "
    )
    assert noisy.count("a fixed piece of work took") == 1  # the worst of the rounds, not all of them
    assert noisy.endswith(f", which widens the intervals of ratios by a factor of {raced.margin:.2f} at both ends")
    assert describe_noise(Race().as_dict() | {"forms": {}}) == describe_noise({}) == ""


@pytest.mark.parametrize(
    ("ratio", "said"),
    [
        ({"median": 14.8, "low": 12.6, "high": 17.4}, "14.8 times as fast as its teacher in transformers.pipeline ("),
        (
            {"median": 1.1, "low": 0.95, "high": 1.3},
            "not reported as faster than its teacher in transformers.pipeline: ",
        ),
        ({"median": 0.5, "low": 0.4, "high": 0.6}, "slower than its teacher in transformers.pipeline: 0.50 times its "),
    ],
)
def test_the_sentence_follows_from_the_interval(ratio: dict[str, Any], said: str) -> None:
    assert describe_speedup({"ratio": ratio}).startswith(said)


def test_nothing_to_race_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UserError, match="nothing to time: 0 models, 5 texts, 10 queries"):
        race_forms({}, 5, 10, 0)


@pytest.mark.parametrize("share", [0.5, 0.25])
def test_a_share_of_the_queries_meets_every_row(share: float) -> None:
    """Rows differ in length, so that a form that met only the first of each turn would be compared on others."""
    rows, met = 20, {"whole": Counter[int](), "part": Counter[int]()}

    def form(name: str, part: float) -> Form:
        return Form(answer=lambda row: met[name].update([row]), share=part)

    race_forms({"whole": form("whole", 1.0), "part": form("part", share)}, rows, queries=160, warmup=0)
    assert set(met["part"]) == set(range(rows))

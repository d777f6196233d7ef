"""What is said of a machine that wasn't quiet, and what it shows of itself."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from edgeft.bench.harness.conditions import hardware, noise
from edgeft.bench.harness.conditions.noise import Ticks

START = Ticks(busy=100.0, stolen=1.0, own=10.0, wall=50.0)


@pytest.mark.parametrize(
    ("after_ms", "end", "seen", "margin"),
    [
        (1.02, Ticks(busy=110.0, stolen=1.0, own=19.9, wall=60.0), [], 1.0),
        (
            1.05,
            Ticks(busy=110.0, stolen=1.0, own=20.0, wall=60.0),
            ["and 1.050 after (3% allowed)"],
            1.05,
        ),
        (
            1.0,
            Ticks(busy=110.0, stolen=1.3, own=20.0, wall=60.0),
            ["took away 2.9% of the time that processes wanted (2%"],
            1 / (1 - 0.3 / 10.3),
        ),
        (
            1.0,
            Ticks(busy=118.0, stolen=1.0, own=20.0, wall=60.0),
            ["processes kept 0.80 cores busy (0.05 allowed)"],
            1.8,
        ),
    ],
)
def test_what_disturbed_is_named_and_bounded(after_ms: float, end: Ticks, seen: list[str], margin: float) -> None:
    found = noise.assess_noise(1.0, after_ms, START, end)
    assert len(found.seen) == len(seen)
    assert found.margin == pytest.approx(margin)
    for said, wanted in zip(found.seen, seen, strict=True):
        assert wanted in said


def test_the_work_of_a_measured_server_is_no_noise() -> None:
    end = Ticks(busy=118.0, stolen=1.0, own=20.0, wall=60.0)
    found = noise.assess_noise(1.0, 1.0, START, end, served=True)
    assert (found.seen, found.margin) == ([], 1.0)
    assert found.foreign == pytest.approx(0.8)
    assert noise.assess_noise(1.0, 0.5, START, end, served=True).margin == 2.0  # a clock that got faster, by the ratio


def test_own_work_and_that_of_children_is_not_foreign() -> None:
    before = noise.read_ticks()
    with subprocess.Popen([sys.executable, "-c", "while True: pass"]) as child:
        while noise.read_ticks().own - before.own < 0.5:
            noise.measure_kernel_ms()
        living = noise.read_ticks()
        child.kill()
    ended = noise.read_ticks()
    assert living.own - before.own >= 0.5
    assert ended.own >= living.own - 0.02  # an ended child's work is counted with the ended ones


def test_the_kernel_takes_time() -> None:
    assert noise.measure_kernel_ms() > 0


def write(root: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text + "\n")


def test_what_a_machine_shows(tmp_path: Path) -> None:
    cpu = "devices/system/cpu/cpu0/"
    write(
        tmp_path,
        {
            f"{cpu}cache/index0/level": "1",
            f"{cpu}cache/index0/type": "Data",
            f"{cpu}cache/index0/size": "32K",
            f"{cpu}cpufreq/scaling_governor": "powersave",
            f"{cpu}cpufreq/scaling_cur_freq": "1800000",
        },
    )
    assert hardware.caches(tmp_path) == {"L1 data": "32K"}
    assert hardware.clock(tmp_path) == {"governor": "powersave", "now_mhz": 1800.0, "max_mhz": "not measured"}


def test_the_fastest_cores(tmp_path: Path) -> None:
    cpu = "devices/system/cpu/"
    write(tmp_path / "big", {f"{cpu}cpu{core}/cpu_capacity": "1024" if core > 1 else "446" for core in range(4)})
    assert hardware.fastest_cores([0, 1, 2, 3], tmp_path / "big") == [2, 3]
    assert hardware.fastest_cores([0, 1], tmp_path / "big") == [0, 1]
    write(tmp_path / "clock", {f"{cpu}cpu0/cpufreq/cpuinfo_max_freq": "2", f"{cpu}cpu1/cpufreq/cpuinfo_max_freq": "1"})
    assert hardware.fastest_cores([0, 1], tmp_path / "clock") == [0]
    assert hardware.fastest_cores([0, 5], tmp_path / "clock") == [0, 5]


def test_a_machine_that_shows_nothing(tmp_path: Path) -> None:
    assert hardware.caches(tmp_path) == {}
    assert hardware.clock(tmp_path)["governor"] == "not measured"


def moved(drift: float) -> noise.Noise:
    return noise.assess_noise(1.0, 1 + drift, START, Ticks(busy=110.0, stolen=1.0, own=20.0, wall=60.0))


@pytest.mark.usefixtures("repeats_of_noisy_rounds")
def test_a_disturbed_round_is_measured_again_and_the_calmer_one_counts() -> None:
    drifts = {0: [0.0], 1: [0.1, 0.0], 2: [0.2, 0.3], 3: [0.5]}  # two repeats in four rounds: none is left for the last
    left = {number: iter(own) for number, own in drifts.items()}
    done: list[None] = []

    def measure(number: int) -> tuple[float, noise.Noise]:
        drift = next(left[number])
        return drift, moved(drift)

    rounds, repeated = noise.measure_rounds(4, measure, lambda: done.append(None))
    assert ([value for value, _ in rounds], repeated, len(done)) == ([0.0, 0.0, 0.2, 0.5], 2, 4)
    heard = [one for _, one in rounds]
    margin = (1.2 * 1.5) ** 0.25  # of the mean of four logarithms
    assert noise.describe_rounds(heard, 2) == {"repeated": 2, "disturbed": 2, "margin": pytest.approx(margin)}
    assert noise.mean_margin([]) == noise.mean_margin([moved(0.02)]) == 1.0


def test_the_fixed_work_is_timed_on_the_round_s_core() -> None:
    if not hasattr(os, "sched_setaffinity"):
        pytest.skip("this system lets no process choose its core")
    before = os.sched_getaffinity(0)
    with noise.on_core(min(before)):
        assert os.sched_getaffinity(0) == {min(before)}
    assert os.sched_getaffinity(0) == before

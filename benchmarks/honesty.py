"""Whether the bench can be trusted: the same artifact twice, one slowed by 5%, and what the harness itself costs.

    python benchmarks/honesty.py runs/demo/artifact --file reviews.csv --text-column text

Each pair is a measurement of its own. Wanted: the interval of equal ones holds 1.0 in 19 of 20 pairs, and the slowed
one is seen as slower in 16 of 20.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

import edgeft
from edgeft.bench.harness import ratios
from edgeft.bench.harness.conditions import noise
from edgeft.bench.harness.scenarios import single
from edgeft.bench.harness.subjects.child import Child
from edgeft.bench.harness.subjects.subject import Subject
from edgeft.runtime.texts import texts

COST_TURNS, COST_WARM, COST_QUERIES, SLOWDOWN_TURNS = 60, 10, 100, 300


def plain(path: str, threads: int) -> Any:
    """An artifact."""
    return edgeft.load(path, threads=threads)


def slowed(path: str, threads: int, by: float) -> Callable[[Any], Any]:
    """An artifact whose every answer takes so much longer."""
    model: Any = edgeft.load(path, threads=threads)

    def answer(text: Any) -> Any:
        start = time.perf_counter()
        found = model(text)
        end = start + (time.perf_counter() - start) * (1 + by)
        while time.perf_counter() < end:
            pass
        return found

    return answer


def subject(name: str, function: str, **options: Any) -> Subject:
    """A function of this file."""
    whole = {"threads": 1, **options}
    return Subject(name=name, kind="callable", place="", opener=f"{Path(__file__).resolve()}:{function}", options=whole)


def looped(answer: Callable[[Any], Any], asked: list[Any], first: int) -> float:
    """The median milliseconds of some queries in a plain loop of this process, after one that warms its caches."""
    answer(asked[first % len(asked) - 1])
    took = []
    for place in range(first, first + COST_QUERIES):
        start = time.perf_counter_ns()
        answer(asked[place % len(asked)])
        took.append((time.perf_counter_ns() - start) / 1e6)
    return median(took)


def slowdown(path: str, asked: list[Any], by: float) -> str:
    """How much slower the slowed one is in a plain loop, without the bench: in turns, A B B A, on one core."""
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    both, ratios = (plain(path, 1), slowed(path, 1, by)), []
    for turn in range(SLOWDOWN_TURNS):
        order = (0, 1) if turn % 2 else (1, 0)
        took = {which: looped(both[which], asked, turn * COST_QUERIES) for which in order}
        ratios.append(took[1] / took[0])
    warm = ratios[COST_WARM:]
    drawn = np.random.default_rng(0).choice(warm, (1000, len(warm)))  # a bootstrap of the turns
    low, high = np.percentile(np.median(drawn, axis=1), (2.5, 97.5))
    return f"in a plain loop the slowed one takes {median(warm):.4f} times the other ({low:.4f} to {high:.4f})"


def cost(one: Subject, path: str, asked: list[Any]) -> str:
    """The bench's median of an artifact beside that of a loop in this process, in turns on a core, the same texts."""
    model, found = edgeft.load(path, threads=1), []
    with Child(one, asked) as child:
        for process in (0, child.pid):
            os.sched_setaffinity(process, {min(os.sched_getaffinity(0))})
        for turn in range(COST_TURNS):
            first = turn * COST_QUERIES
            here = looped(model, asked, first)
            child.request("ask", first=first - 1, count=1)  # the caches are its own again
            found.append((median(child.request("ask", first=first, count=COST_QUERIES)["ms"]), here))
    ratios = np.array([theirs / plain for theirs, plain in found[COST_WARM:]])
    low, high = np.percentile(ratios, (2.5, 97.5))
    return (
        f"a query of the bench takes {np.median(ratios):.4f} times that of a plain loop "
        f"(turns: {low:.3f} to {high:.3f}; {found[-1][0]:.3f} ms)"
    )


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser()
    parser.add_argument("artifact", type=Path)
    parser.add_argument("--file", type=Path, required=True)
    parser.add_argument("--text-column", default="text")
    parser.add_argument("--pairs", type=int, default=20)
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--rounds", type=int, default=8)
    parser.add_argument("--by", type=float, default=0.05)
    options = parser.parse_args()
    asked, path = list(texts(options.file, options.text_column)), str(options.artifact)
    one = subject("one", "plain", path=path)
    others = {
        "equal": subject("equal", "plain", path=path),
        "slowed": subject("slowed", "slowed", path=path, by=options.by),
    }
    counts = dict.fromkeys(others, 0)
    print("| pair | noise | equal | slowed |\n|---|---|---|---|")
    for pair in range(options.pairs):
        shown, before, kernel = [], noise.read_ticks(), noise.measure_kernel_ms()
        for name, other in others.items():
            found = single.measure_streams([one, other], asked, options.seconds, options.rounds)
            ratio = ratios.ratio(found[other.name], found["one"], seed=pair)
            counts[name] += ratio.low <= 1 <= ratio.high if name == "equal" else ratio.low > 1
            shown.append(f"{ratio.median:.3f} ({ratio.low:.3f} to {ratio.high:.3f})")
        heard = noise.assess_noise(kernel, noise.measure_kernel_ms(), before, noise.read_ticks())
        print(f"| {pair} | {len(heard.seen)} | {' | '.join(shown)} |", flush=True)
    print(f"equal: 1.0 inside {counts['equal']} of {options.pairs}; slowed: seen {counts['slowed']} of {options.pairs}")
    print(cost(one, path, asked))
    print(slowdown(path, asked, options.by))


if __name__ == "__main__":
    main()

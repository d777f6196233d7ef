"""Whether the bench can be trusted: the same artifact twice, one slowed by 5%, and what the harness itself costs.

    python benchmarks/honesty.py runs/demo/artifact --file reviews.csv --text-column text

Each pair is a measurement of its own. Wanted: the interval of equal ones holds 1.0 in 19 of 20 pairs, and the slowed
one is seen as slower in 16 of 20.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import edgeft
from edgeft.bench.harness import noise, ratios, single
from edgeft.bench.harness.child import Child
from edgeft.bench.harness.subject import Subject
from edgeft.runtime.texts import texts


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


def nothing(threads: int) -> Callable[[Any], None]:
    """Answers at once: what is left is the harness."""
    return lambda text: None


def subject(name: str, function: str, **options: Any) -> Subject:
    """A function of this file."""
    whole = {"threads": 1, **options}
    return Subject(name=name, kind="callable", place="", opener=f"{Path(__file__).resolve()}:{function}", options=whole)


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
        shown, before, kernel = [], noise.ticks(), noise.kernel_ms()
        for name, other in others.items():
            found = single.stream([one, other], asked, options.seconds, options.rounds)
            ratio = ratios.ratio(found[other.name], found["one"], seed=pair)
            counts[name] += ratio.low <= 1 <= ratio.high if name == "equal" else ratio.low > 1
            shown.append(f"{ratio.median:.3f} ({ratio.low:.3f} to {ratio.high:.3f})")
        heard = noise.judged(kernel, noise.kernel_ms(), before, noise.ticks())
        print(f"| {pair} | {len(heard.seen)} | {' | '.join(shown)} |", flush=True)
    print(f"equal: 1.0 inside {counts['equal']} of {options.pairs}; slowed: seen {counts['slowed']} of {options.pairs}")
    with Child(subject("nothing", "nothing"), asked) as empty, Child(one, asked) as child:
        costs, takes = (median(made.request("ask", first=0, count=1000)["ms"]) for made in (empty, child))
    print(f"the harness: {1e3 * costs:.2f} us of {1e3 * takes:.0f} us a query, {costs / takes:.3%}")


if __name__ == "__main__":
    main()

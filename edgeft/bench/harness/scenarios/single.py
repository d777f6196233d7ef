"""Single stream: one query after the other, several subjects in turns, each round in fresh processes."""

from __future__ import annotations

import contextlib
import itertools
import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeft.bench.harness.conditions import hardware, noise
from edgeft.bench.harness.conditions.noise import Noise
from edgeft.bench.harness.scenarios.warm import Warm, warm_up
from edgeft.bench.harness.subjects.child import Child
from edgeft.bench.harness.subjects.subject import Subject
from edgeft.errors import UserError
from edgeft.progress import Bar

Times = NDArray[np.float64]
LEAST_QUERIES = 662  # MLPerf inference rules, appendix on sample sizes: a p99 within 1% at 99% confidence wants so many
BLOCK_MS = 40.0  # of the slowest subject between two turns
LEAST_BLOCKS = 4  # of a round


@dataclass(frozen=True, kw_only=True)
class Part:
    """Latencies of a subject in one round.

    Attributes:
        begin: place of the first text.
        started: milliseconds of import, load and first answer.
        warm: how it came to its pace.
        blocks: milliseconds of each query, block by block.
    """

    begin: int
    started: dict[str, float]
    warm: Warm
    blocks: list[Times] = field(default_factory=list)


@dataclass(frozen=True, kw_only=True)
class Stream:
    """Latencies of a subject in all rounds.

    Attributes:
        rounds: milliseconds of each query, one list of blocks for each round; the same shape for all of a comparison.
        started: milliseconds of import, load and first answer, of each round.
        warm: how it came to its pace, of each round.
        texts: which were asked, by their places.
        noise: what disturbed each round, the same for all of a comparison.
        repeated: rounds that were measured again, because something disturbed them; they count once.
    """

    rounds: list[list[Times]] = field(default_factory=list)
    started: list[dict[str, float]] = field(default_factory=list)
    warm: list[Warm] = field(default_factory=list)
    texts: set[int] = field(default_factory=set)
    noise: list[Noise] = field(default_factory=list)
    repeated: int = 0

    @property
    def samples_ms(self) -> Times:
        """All queries, in order."""
        return np.concatenate([block for blocks in self.rounds for block in blocks])

    def add(self, part: Part, heard: Noise, texts: int) -> None:
        """Append a round of so many texts."""
        self.rounds.append(part.blocks)
        self.started.append(part.started)
        self.warm.append(part.warm)
        self.noise.append(heard)
        last = part.begin + sum(map(len, part.blocks))
        self.texts.update(index % texts for index in range(part.begin, last))


def measure_streams(
    subjects: Sequence[Subject], texts: Sequence[Any], seconds: float, rounds: int, queries: int = LEAST_QUERIES
) -> dict[str, Stream]:
    """Ask subjects in turns, A B B A A B ..., the same texts in the same order.

    Args:
        subjects: at least one, of different names.
        texts: real texts, in an order that means nothing; each round begins at another of them.
        seconds: for each subject at least, over all rounds.
        rounds: how often all processes are started anew.
        queries: of each subject at least, over all rounds.

    Returns:
        Name to what was measured.

    Raises:
        UserError: a subject can't be opened, or nothing is asked.
    """
    if not subjects or not texts:
        raise UserError(f"nothing to measure: {len(subjects)} subjects, {len(texts)} texts")
    with Bar("single stream", rounds) as bar:

        def measure(number: int) -> tuple[dict[str, Part], Noise]:
            begin = number * len(texts) // rounds
            return _measure_round(subjects, texts, number, begin, seconds / rounds, -(-queries // rounds))

        counted, repeated = noise.measure_rounds(rounds, measure, bar.advance)
    streams = {subject.name: Stream(repeated=repeated) for subject in subjects}
    for parts, heard in counted:
        for name, stream in streams.items():
            stream.add(parts[name], heard, len(texts))
    return streams


def _measure_round(
    subjects: Sequence[Subject], texts: Sequence[Any], number: int, begin: int, seconds: float, queries: int
) -> tuple[dict[str, Part], Noise]:
    """All subjects in fresh processes: what each took in a round, and what disturbed it.

    Args:
        subjects: to be asked.
        texts: to be asked.
        number: of the round.
        begin: place of the round's first text.
        seconds: for each subject at least.
        queries: of each subject at least.
    """
    named, since = {subject.name: subject for subject in subjects}, noise.read_ticks()
    with contextlib.ExitStack() as stack:
        order = turn_order(list(named), number)  # who is loaded first is no advantage
        children = {name: stack.enter_context(Child(named[name], texts)) for name in order}
        parts = {
            name: Part(begin=begin, started=child.started, warm=warm_up(child)) for name, child in children.items()
        }
        core = _share_a_core(children, number)
        monitor = noise.NoiseMonitor(any(subject.served_here for subject in subjects), since, core)
        _take_turns(children, parts, seconds, queries)
        return parts, monitor.read_noise()


def _share_a_core(children: Mapping[str, Child], number: int) -> int | None:
    """Put subjects of one thread on the same core, another one in each round, where the system lets processes choose.

    Cores differ, above all where others of the host share them, and for longer than a turn: on one of its own each
    subject would be measured with its core.

    Returns:
        The core; None where they are on none together.
    """
    if len(children) == 1 or not hasattr(os, "sched_setaffinity"):
        return None
    if {child.subject.options.get("threads") for child in children.values()} != {1}:
        return None
    cores = hardware.fastest_cores(sorted(os.sched_getaffinity(0)))
    core = cores[number % len(cores)]
    for child in children.values():
        os.sched_setaffinity(child.pid, {core})
    return core


def _take_turns(children: Mapping[str, Child], parts: Mapping[str, Part], seconds: float, queries: int) -> None:
    """Measure blocks in turns until the round has enough seconds and queries."""
    slowest = max(part.warm.median_ms for part in parts.values())
    count = max(1, min(queries // LEAST_BLOCKS, round(BLOCK_MS / slowest)))
    start, alone = time.perf_counter(), len(children) == 1
    for block in itertools.count():
        if block * count >= queries and time.perf_counter() - start >= seconds * len(children):
            return
        for name in turn_order(list(children), block):
            first = parts[name].begin + block * count
            if not alone:  # the caches are its own again, by another text than the next
                children[name].request("ask", first=first - 1, count=1)
            times = children[name].request("ask", first=first, count=count)["ms"]
            parts[name].blocks.append(np.array(times))


def turn_order(names: list[str], block: int) -> list[str]:
    """Order of subjects in a block: A B, B A, A B ...; of three or more, each goes first in turn."""
    first = block // 2 % len(names)
    order = names[first:] + names[:first]
    return order if block % 2 == 0 else order[::-1]

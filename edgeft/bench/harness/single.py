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

from edgeft.bench.harness import hardware
from edgeft.bench.harness.child import Child
from edgeft.bench.harness.subject import Subject
from edgeft.bench.harness.warm import Warm, warm
from edgeft.errors import UserError
from edgeft.progress import Bar

Times = NDArray[np.float64]
LEAST_QUERIES = 662  # MLPerf inference rules, appendix on sample sizes: a p99 within 1% at 99% confidence wants so many
BLOCK_MS = 40.0  # of the slowest subject between two turns
LEAST_BLOCKS = 4  # of a round


@dataclass(frozen=True, kw_only=True)
class Stream:
    """What a subject took.

    Attributes:
        rounds: milliseconds of each query, one list of blocks for each round; the same shape for all of a comparison.
        started: milliseconds of import, load and first answer, of each round.
        warm: how it came to its pace, of each round.
        texts: which were asked, by their places.
    """

    rounds: list[list[Times]] = field(default_factory=list)
    started: list[dict[str, float]] = field(default_factory=list)
    warm: list[Warm] = field(default_factory=list)
    texts: set[int] = field(default_factory=set)

    @property
    def samples_ms(self) -> Times:
        """All queries, in order."""
        return np.concatenate([block for blocks in self.rounds for block in blocks])


def stream(
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
    found = {subject.name: Stream() for subject in subjects}
    named = {subject.name: subject for subject in subjects}
    with Bar("single stream", rounds) as bar:
        for number in range(rounds):
            begin = number * len(texts) // rounds
            with contextlib.ExitStack() as stack:
                order = turn(list(named), number)  # who is loaded first is no advantage
                children = {name: stack.enter_context(Child(named[name], texts)) for name in order}
                for name, child in children.items():
                    found[name].started.append(child.started)
                    found[name].warm.append(warm(child))
                    found[name].rounds.append([])
                _share_a_core(children, number)
                _round(children, found, seconds / rounds, -(-queries // rounds), begin)
            for one in found.values():
                asked = sum(map(len, one.rounds[-1]))
                one.texts.update(place % len(texts) for place in range(begin, begin + asked))
            bar.advance()
    return found


def _share_a_core(children: Mapping[str, Child], number: int) -> None:
    """Put subjects of one thread on the same core, another one in each round, where the system lets processes choose.

    Cores differ, above all where others of the host share them, and for longer than a turn: on one of its own each
    subject would be measured with its core.
    """
    if len(children) == 1 or not hasattr(os, "sched_setaffinity"):
        return
    if {child.subject.options.get("threads") for child in children.values()} == {1}:
        cores = hardware.fastest(sorted(os.sched_getaffinity(0)))
        for child in children.values():
            os.sched_setaffinity(child.pid, {cores[number % len(cores)]})


def _round(
    children: Mapping[str, Child], found: Mapping[str, Stream], seconds: float, queries: int, begin: int
) -> None:
    """Blocks in turns, from text number `begin` on, until the round has enough of both, seconds and queries."""
    slowest = max(found[name].warm[-1].median_ms for name in children)
    count = max(1, min(queries // LEAST_BLOCKS, round(BLOCK_MS / slowest)))
    start, alone = time.perf_counter(), len(children) == 1
    for block in itertools.count():
        if block * count >= queries and time.perf_counter() - start >= seconds * len(children):
            return
        first = begin + block * count
        for name in turn(list(children), block):
            if not alone:  # the caches are its own again, by another text than the next
                children[name].request("ask", first=first - 1, count=1)
            times = children[name].request("ask", first=first, count=count)["ms"]
            found[name].rounds[-1].append(np.array(times))


def turn(names: list[str], block: int) -> list[str]:
    """Who is asked in which order: A B, B A, A B ...; of three or more each begins in turn as well."""
    first = block // 2 % len(names)
    order = names[first:] + names[:first]
    return order if block % 2 == 0 else order[::-1]

"""The race behind all reported latencies: the forms of a model take turns, noisy rounds are measured again."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from edgeft.bench.harness.conditions import noise
from edgeft.bench.harness.conditions.noise import Noise
from edgeft.bench.race import Latency, OwnGarbage, QuietBar, Ratio, Times, summary, time_ms, turn_order
from edgeft.errors import UserError

FP32_GRAPH = "fp32 graph"
IN_A_ROW = 20  # queries of the artifact in a turn: with turns of one query no form would find a warm cache
LEAST_TURNS = 8  # that the bootstrap resamples
ROUNDS = 4  # noise is watched in each separately
RESAMPLES = 1000
QUANTILES = {"p50_ms": 50, "p90_ms": 90, "p99_ms": 99}
PART = 0.5  # of the artifact's queries: share of a form of which only the median is shown
SLOW_PART = 0.25  # likewise, for a form that takes tens of milliseconds

Turns = list[Times]


def graph_name(precision: str) -> str:
    """How the gate table names the graph of a precision."""
    return f"{precision} graph"


@dataclass(frozen=True, kw_only=True)
class Form:
    """One form of a model.

    Attributes:
        answer: answers the row of this index; all of the call is timed, tokenization included.
        share: queries relative to the artifact's, in (0, 1].
    """

    answer: Callable[[int], object]
    share: float = 1.0


@dataclass(frozen=True, kw_only=True)
class Race:
    """What a race of forms measured.

    Attributes:
        turns: milliseconds of each form's queries, turn by turn; all forms have the same number of turns.
        noise: of each round that counts.
        repeated: rounds that were measured again.
    """

    turns: dict[str, Turns] = field(default_factory=dict)
    noise: list[Noise] = field(default_factory=list)
    repeated: int = 0

    def latency(self, name: str) -> Latency:
        """Latency of one form over all turns."""
        return summary(np.concatenate(self.turns[name]))

    def intervals_ms(self, name: str) -> dict[str, list[float]]:
        """The 95% interval of each quantile of a form: a bootstrap of turns, so that a slow moment counts as one."""
        turns = self.turns[name]
        drawn = [
            np.percentile(np.concatenate([turns[turn] for turn in picked]), list(QUANTILES.values()))
            for picked in self._resamples()
        ]
        ends = np.percentile(drawn, (2.5, 97.5), axis=0)  # (2, quantiles)
        return {quantile: ends[:, column].tolist() for column, quantile in enumerate(QUANTILES)}

    def ratio(self, a: str, b: str) -> Ratio:
        """How many times as long `a` takes as `b`: the ratio of the medians that are shown.

        The 95% interval is a bootstrap of turns, resampled jointly for both. It is widened by the largest noise margin
        of all rounds, because a median over all rounds isn't a mean of the rounds' medians.
        """
        first, second = self.turns[a], self.turns[b]
        drawn = [
            np.median(np.concatenate([first[turn] for turn in picked]))
            / np.median(np.concatenate([second[turn] for turn in picked]))
            for picked in self._resamples()
        ]
        low, high = np.percentile(drawn, (2.5, 97.5))
        median = self.latency(a).p50_ms / self.latency(b).p50_ms
        return Ratio(median=median, low=float(low), high=float(high)).widened(self.margin)

    def _resamples(self) -> np.ndarray[Any, np.dtype[np.int64]]:
        count = len(next(iter(self.turns.values())))
        return np.random.default_rng(0).integers(count, size=(RESAMPLES, count))

    @property
    def margin(self) -> float:
        """The factor by which noise could have changed a ratio of this race."""
        return max((noise.margin for noise in self.noise), default=1.0)

    def as_dict(self) -> dict[str, Any]:
        """For JSON: `forms` (queries and quantiles of each) and `noise`."""
        figures = {name: self.latency(name) for name in self.turns}
        forms = {
            name: {"queries": item.queries, "p50_ms": item.p50_ms, "p90_ms": item.p90_ms}
            for name, item in figures.items()
        }
        worst = max(self.noise, key=lambda item: item.margin, default=None)
        rounds = noise.describe_rounds(self.noise, self.repeated)
        return {
            "forms": forms,
            "noise": {"rounds": len(self.noise), **rounds, "margin": self.margin, "seen": worst.seen if worst else []},
        }


def race_forms(forms: Mapping[str, Form], rows: int, queries: int, warmup: int) -> Race:
    """Race forms of a model: the same rows in turns, in rounds that are measured again where something disturbed them.

    In a turn each form answers one row that isn't timed, then its share of `IN_A_ROW` rows. Rows differ in length, so a
    share is spread over the rows of the turn and shifts by one row a turn: every form meets every row. The form that
    goes first also changes with each turn.

    Args:
        forms: by name.
        rows: number of rows to ask; queries cycle through them.
        queries: number for a form whose share is 1.
        warmup: queries of each form before the race.

    Raises:
        UserError: no form, no row or no query.
    """
    if not forms or not rows or queries < 1:
        raise UserError(f"nothing to time: {len(forms)} models, {rows} texts, {queries} queries")
    length = max(1, min(IN_A_ROW, queries // LEAST_TURNS))
    starts = list(range(0, queries, length))
    turns_per_round = math.ceil(len(starts) / ROUNDS)
    rounds = [starts[first : first + turns_per_round] for first in range(0, len(starts), turns_per_round)]
    for form in forms.values():
        for row in range(warmup):
            form.answer(row % rows)
    with QuietBar("race", len(rounds)) as bar, OwnGarbage():

        def measure(number: int) -> tuple[dict[str, Turns], Noise]:
            monitor = noise.NoiseMonitor()
            turns: dict[str, Turns] = {name: [] for name in forms}
            for start in rounds[number]:
                for name in turn_order(list(forms), start // length):
                    turns[name].append(_take_turn(forms[name], rows, start, min(length, queries - start)))
            return turns, monitor.read_noise()

        counted, repeated = noise.measure_rounds(len(rounds), measure, bar.advance)
    all_turns = {name: [turn for turns, _ in counted for turn in turns[name]] for name in forms}
    return Race(turns=all_turns, noise=[heard for _, heard in counted], repeated=repeated)


def _take_turn(form: Form, rows: int, start: int, length: int) -> Times:
    form.answer((start - 1) % rows)  # warms the caches for this form
    return np.array([time_ms(form.answer, (start + offset) % rows) for offset in _offsets(form.share, start, length)])


def _offsets(share: float, start: int, length: int) -> list[int]:
    """Offsets of the rows that a form is asked in a turn."""
    count, turn = max(1, round(share * length)), start // length
    return sorted((index * length // count + turn) % length for index in range(count))


# --------------------------------------------------------------------------------------------------------------- words


def raced_forms(results: Mapping[str, Any]) -> Mapping[str, Mapping[str, Any]]:
    """Each form's latency in the one race of the bench; empty before it, where stages show what they measured alone.

    Args:
        results: of the stages so far, by name.
    """
    race = results["bench"].metrics.get("race", {}) if "bench" in results else {}
    forms: Mapping[str, Mapping[str, Any]] = race.get("forms", {})
    return forms

"""Which precision ships: every rung of the ladder is tried on this machine, and the fastest that holds wins."""

from __future__ import annotations

import difflib
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from edgeft.artifact import Quantization
from edgeft.bench import machine
from edgeft.bench.race import Ratio, race, ratio
from edgeft.errors import GateError, RecipeError
from edgeft.export.bed import CAPTURED, FP32, Bed, gate
from edgeft.export.onnx import graph
from edgeft.export.onnx.files import save
from edgeft.export.quantize.precisions import LADDER, PRECISIONS, Precision, source_of
from edgeft.export.quantize.rounding import BLOCK
from edgeft.progress import say, track
from edgeft.recipe import ExportConfig
from edgeft.runtime import Model
from edgeft.runtime.engine import CPU
from edgeft.runtime.machine import kernels, processor

STRENGTHS = (0.4, 0.5, 0.6, 0.7, 0.8)  # of smoothing
SENSITIVITY_ROWS = 128
PROOF_ROWS = 64
RACE_WARMUP = 20
RACED_AT_ONCE = 3  # beside fp32; all of them would be in memory
TRIAL = "trial.onnx"
PORTABLE_AGREEMENT = 0.98  # of the answers of edgeft's kernels with those of the operators' bodies, on PROOF_ROWS rows


@dataclass(kw_only=True)
class Rung:
    """One precision on this machine.

    Attributes:
        precision: which.
        scheme: what it is, in a line.
        strength: of smoothing.
        float_layers: weights that stay fp32.
        bytes: of the graph.
        latency_ms: median of one input, one thread.
        speedup: over fp32, of one race.
        agreement: share of validation answers as of fp32; None: a rung that lost before anyone asked.
        proved_on: what ran when the answers were seen to be equal, see `prove`.
        reason: why it ships or doesn't.
    """

    precision: Precision
    scheme: str = ""
    strength: float = 0.5
    float_layers: list[str] = field(default_factory=list)
    bytes: int = 0
    latency_ms: float = 0.0
    speedup: Ratio | None = None
    agreement: float | None = None
    proved_on: list[str] = field(default_factory=list)
    reason: str = ""

    @property
    def name(self) -> str:
        """As a recipe names it."""
        return self.precision.name

    @property
    def file(self) -> str:
        """Its graph, in the bed's folder."""
        return f"{self.name}.onnx"

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "precision": self.name,
            "scheme": self.scheme,
            "bytes": self.bytes,
            "latency_ms": self.latency_ms,
            "speedup": self.speedup.as_dict() if self.speedup else None,
            "agreement": self.agreement,
            "smoothing": self.strength,
            "float_layers": self.float_layers,
            "reason": self.reason,
        }


def choose(bed: Bed, found: dict[str, Any]) -> tuple[Quantization, str]:
    """Try the rungs that the recipe allows; their figures go into `found`.

    Args:
        bed: with the captured and the fp32 graph.
        found: gets `rungs`, and the gate's figures of what ships under its name.

    Returns:
        What ships, and its file in the bed's folder.

    Raises:
        GateError: the recipe names a precision that doesn't hold.
    """
    size = (bed.folder / FP32).stat().st_size
    if bed.config.precision == "fp32":
        return Quantization(precision="fp32", scheme="none", fp32_bytes=size, reason="the recipe asks for fp32"), FP32
    ladder = Ladder(bed, size)
    winner = ladder.climb()
    found["rungs"] = [rung.as_dict() for rung in ladder.rungs]
    if winner is None:
        reason = "; ".join(f"{rung.name}: {rung.reason}" for rung in ladder.rungs)
        if bed.config.precision != "auto":
            raise GateError(f"export: {reason}; no artifact was written")
        say(f"export: fp32 ships, because of {reason}")
        return Quantization(precision="fp32", scheme="none", fp32_bytes=size, reason=reason), FP32
    found[winner.name] = {**gate(bed, winner.file, ladder.reference), "speedup": ladder.ratio_of(winner).as_dict()}
    return ladder.quantization(winner, found[winner.name]), winner.file


class Ladder:
    """The rungs of one model.

    Attributes:
        rungs: what was tried, in the order of the ladder.
        reference: what the fp32 graph answers on each split.
    """

    def __init__(self, bed: Bed, fp32_bytes: int) -> None:
        self.bed, self.fp32_bytes = bed, fp32_bytes
        self.reference = bed.asked(FP32)
        rows = bed.task.given(bed.dataset.train)[: bed.config.calibration_rows]
        if not rows:
            raise GateError("export: no training rows to take the ranges of activations from; use --precision fp32")
        windows = [window for own in bed.model(FP32).windows(rows) for window in own]
        self.source = source_of(bed, windows)
        self.rungs: list[Rung] = []
        self._strengths: dict[str, float] = {}

    def climb(self) -> Rung | None:
        """Build and time every rung, then take the fastest that holds; None: none does."""
        self._build()
        self._time(self.rungs)
        waiting = [rung for rung in self.rungs if not self._loses(rung)]
        while waiting:
            rung = self._first(waiting)
            waiting.remove(rung)
            rung.agreement = self._agreement(rung)
            if rung.agreement >= self.bed.config.min_agreement:
                if self._proved(rung):
                    return self._won(rung, waiting)
                continue
            if self._settle(rung) and not self._loses(rung):
                waiting.append(rung)
        return None

    def _build(self) -> None:
        for precision in self._wanted():
            rung = Rung(precision=precision)
            rung.strength = self._strength(precision)
            kept = self.bed.config.float_layers
            if kept:
                check_names(kept, self.source.weights)
                rung.float_layers = list(kept)
            self._write(rung)
            self.rungs.append(rung)

    def _wanted(self) -> list[Precision]:
        if self.bed.config.precision != "auto":
            return [PRECISIONS[self.bed.config.precision]]
        return [one for one in LADDER if one.provider == CPU and one.name != "fp32"]

    def _strength(self, precision: Precision) -> float:
        """How much to smooth for a precision."""
        if not precision.smoothed_as:
            return 0.0
        if self.bed.config.smoothing is not None:
            return self.bed.config.smoothing
        if precision.smoothed_as not in self._strengths:
            self._strengths[precision.smoothed_as] = self._measured_strength(PRECISIONS[precision.smoothed_as])
        return self._strengths[precision.smoothed_as]

    def _measured_strength(self, precision: Precision) -> float:
        """The smoothing after which a graph's numbers are nearest to fp32's.

        On validation rows: what was trained on is answered so surely that it says little about other rows.
        """
        away = {}
        for strength in STRENGTHS:
            save(precision.build(self.source, strength, ()), self.bed.folder / TRIAL)
            away[strength] = self._away(TRIAL)
        return min(away, key=lambda strength: away[strength])

    def _away(self, file: str) -> float:
        """Mean difference of a graph's numbers from fp32's."""
        return float(np.abs(self._raw(file) - self._captured).mean())

    @cached_property
    def _captured(self) -> NDArray[np.float32]:
        return self._raw(CAPTURED)

    def _raw(self, file: str) -> NDArray[np.float32]:
        """Every number that a graph, finished or not, answers to some validation rows; one flat row."""
        model = self.bed.model(file, threads=1)
        found = model.run(model.windows(self.bed.inputs(SENSITIVITY_ROWS)), model.engine.output_names, 1)
        return np.concatenate([array.ravel() for own in found for arrays in own for array in arrays])

    def _write(self, rung: Rung) -> None:
        made = rung.precision.build(self.source, rung.strength, rung.float_layers)
        rung.scheme = scheme_of(rung.precision, made)
        save(made, self.bed.folder / TRIAL)
        del made
        graph.finish(self.bed.folder / TRIAL, self.bed.folder / rung.file, *self.bed.post)
        self.bed.forget(rung.file)
        rung.bytes = (self.bed.folder / rung.file).stat().st_size

    def _time(self, rungs: list[Rung]) -> None:
        """Race rungs against fp32, a few at once."""
        for start in range(0, len(rungs), RACED_AT_ONCE):
            self._race(rungs[start : start + RACED_AT_ONCE])

    def _race(self, rungs: list[Rung]) -> None:
        """One thread, one input at a time, in turns; a function of its own, so that what raced is gone afterwards."""
        contenders = {FP32: self.bed.model(FP32, threads=1)}
        contenders |= {rung.name: self.bed.model(rung.file, threads=1) for rung in rungs}
        times = race(contenders, self.bed.inputs(), self.bed.config.latency_queries, RACE_WARMUP)
        for rung in rungs:
            rung.latency_ms = times[rung.name].p50_ms
            rung.speedup = ratio(times[FP32], times[rung.name])

    def _loses(self, rung: Rung) -> bool:
        problems = objections(self.bed.config, rung.bytes, self.fp32_bytes, self.ratio_of(rung))
        if rung.precision.provider != CPU:  # a race on a processor says nothing of it
            problems = []
        rung.reason = "; ".join(problems)
        return bool(problems)

    def ratio_of(self, rung: Rung) -> Ratio:
        """How many times as fast as fp32 it is."""
        assert rung.speedup is not None
        return rung.speedup

    def _proved(self, rung: Rung) -> bool:
        """Whether it answers alike in every way in which this machine can run it."""
        try:
            rung.proved_on = prove(self.bed, rung.file)
        except GateError as error:
            rung.reason = str(error)
        return bool(rung.proved_on)

    def _first(self, waiting: list[Rung]) -> Rung:
        """The fastest; of those that are as good as equal, the one that comes first on the ladder."""
        bound = max(self.ratio_of(rung).median for rung in waiting) / self.bed.config.min_speedup
        return next(rung for rung in self.rungs if rung in waiting and self.ratio_of(rung).median >= bound)

    def _agreement(self, rung: Rung) -> float:
        before, now = (self.bed.asked_on(file, "validation") for file in (FP32, rung.file))
        return self.bed.task.agreement(before, now)

    def _settle(self, rung: Rung) -> bool:
        """Leave 1, 2, 4, ... of the weights that hurt most in fp32, up to half of them; whether that is enough."""
        wanted = self.bed.config.min_agreement
        rung.reason = f"{rung.agreement:.1%} of the answers agree with fp32, wanted are {wanted:.1%}"
        if self.bed.config.float_layers is not None or not rung.precision.layers:
            return False
        ranked = self._ranked(rung)
        while ranked and 2 * len(rung.float_layers) <= len(ranked) // 2:
            rung.float_layers = ranked[: max(1, 2 * len(rung.float_layers))]
            self._write(rung)
            rung.agreement = self._agreement(rung)
            if rung.agreement >= wanted:
                self._time([rung])
                return True
        rung.reason += f"; {rung.agreement:.1%} with {len(rung.float_layers)} layers in fp32"
        return False

    def _ranked(self, rung: Rung) -> list[str]:
        """Weights by how near to fp32 the graph comes when each alone is left in fp32, the most harmful first."""
        away = {}
        for name in track(self.source.weights, f"{rung.name} sensitivity"):
            save(rung.precision.build(self.source, rung.strength, [name]), self.bed.folder / TRIAL)
            away[name] = self._away(TRIAL)
        return sorted(away, key=lambda name: away[name])

    def _won(self, winner: Rung, waiting: list[Rung]) -> Rung:
        for rung in waiting:
            mine, others = self.ratio_of(rung).median, self.ratio_of(winner).median
            both = f"{mine:.2f} times the speed of fp32, {winner.name} {others:.2f} times"
            tie = mine >= others / self.bed.config.min_speedup
            rung.reason = f"as fast as what comes first: {both}" if tie else f"slower: {both}"
            rung.agreement = self._agreement(rung)
        speedup = self.ratio_of(winner).median
        winner.reason = (
            f"{self.fp32_bytes / winner.bytes:.1f} times smaller and {speedup:.2f} times faster than fp32 here, "
            f"{winner.agreement:.1%} of the answers equal"
        )
        return winner

    def quantization(self, winner: Rung, figures: dict[str, Any]) -> Quantization:
        """What the manifest says of it."""
        task = self.bed.task
        numbers = [task.compared(self.bed.asked_on(file, "validation")) for file in (winner.file, FP32)]
        return Quantization(
            precision=winner.name,
            scheme=winner.scheme,
            smoothing=winner.strength,
            float_layers=winner.float_layers,
            agreement=figures["validation"]["agreement"],
            max_logit_difference=float(np.abs(numbers[0] - numbers[1]).max()),
            fp32_bytes=self.fp32_bytes,
            speedup=self.ratio_of(winner).median,
            proved_on=winner.proved_on,
            reason=winner.reason,
        )


def objections(config: ExportConfig, size: int, fp32_bytes: int, speedup: Ratio) -> list[str]:
    """Why a precision may not ship, both numbers in each line.

    Under `auto` it has to win clearly, the lower bound of the ratio included. Where a recipe names it the race was
    decided before: a tie passes, only a clear loss objects.
    """
    problems = []
    if size >= fp32_bytes:
        problems.append(f"{size} bytes are not fewer than the {fp32_bytes} of fp32")
    auto = config.precision == "auto"
    clear_loss = speedup.median < 1 / config.min_speedup and speedup.high < 1
    if (auto and (speedup.median < config.min_speedup or speedup.low <= 1)) or (not auto and clear_loss):
        wanted = config.min_speedup if auto else 1 / config.min_speedup
        problems.append(
            f"{speedup.median:.2f} times the speed of fp32 ({speedup.low:.2f} to {speedup.high:.2f}), "
            f"wanted is {wanted:.2f}"
        )
    return problems


def scheme_of(precision: Precision, model: onnx.ModelProto) -> str:
    """What a graph of a precision is, in a line, with what it keeps in 4 bits."""
    kinds = {node.op_type for node in model.graph.node}
    packed = {"Int8Weight": "weights", "GatherBlockQuantized": "embeddings"}
    names = " and ".join(name for kind, name in packed.items() if kind in kinds)
    return precision.scheme + (f"; {names} kept in 4 bits, in blocks of {BLOCK}" if names else "")


def check_names(wanted: Collection[str], names: Collection[str]) -> None:
    """Whether the graph has these weights.

    Raises:
        RecipeError: names the first that it hasn't, and the nearest one that it has.
    """
    unknown = next((name for name in wanted if name not in names), None)
    if unknown is not None:
        close = difflib.get_close_matches(unknown, names, n=1, cutoff=0.0)
        hint = f"; the nearest is {close[0]}" if close else ", nor another one that int8 is for"
        raise RecipeError(f"export.float_layers: the graph has no weight {unknown!r}{hint}")


@dataclass(frozen=True)
class Way:
    """One way in which this machine can run a graph.

    Attributes:
        name: what ran, in words.
        model: a graph that runs this way.
    """

    name: str
    model: Model


def ways_of(bed: Bed, file: str) -> list[Way]:
    """The ways in which this machine can run a candidate, the one that it would choose by itself first."""
    own = "edgeft's kernels" if kernels.library() else "onnxruntime's own kernels, as edgeft's don't run here"
    ways = [
        Way(own, bed.model(file)),
        Way("onnxruntime's own kernels, edgeft's switched off", bed.model(file, native=False)),
    ]
    if processor.is_x86():
        exact = bed.model(file, native=False, exact=True)
        ways.append(Way("onnxruntime's exact u8u8 kernels, which it takes on x86 without VNNI", exact))
    return ways


def prove(bed: Bed, file: str) -> list[str]:
    """Ask a candidate some validation rows in every way in which this machine can run it.

    Returns:
        For each way what ran: kernels, platform, processor, engine with its version.

    Raises:
        GateError: another way gives other answers.
    """
    split = bed.dataset.validation.take(range(min(PROOF_ROWS, len(bed.dataset.validation))))
    first, *others = ways_of(bed, file)
    here = bed.task.asked(first.model, split)
    for way in others:
        alike = bed.task.agreement(here, bed.task.asked(way.model, split))
        if alike < min(PORTABLE_AGREEMENT, 1 - 1.5 / len(split)):  # one answer of few may change
            raise GateError(f"export: only {alike:.1%} of {len(split)} answers are the same with {way.name}")
    where = describe_machine(machine.describe())
    return [f"{way.name}: {where}" for way in (first, *others)]


def describe_machine(facts: Mapping[str, Any]) -> str:
    """Platform, processor and engine as one line; what ran elsewhere was not seen.

    Args:
        facts: as `bench.machine.describe` gives them.
    """
    sets = f" ({' '.join(facts['instruction_sets'])})" if facts["instruction_sets"] else ""
    engine = f"onnxruntime {facts['versions'].get('onnxruntime', 'of an unknown version')}"
    return f"{facts['os']} on {facts['architecture']}, {facts['processor']}{sets}, {engine}"

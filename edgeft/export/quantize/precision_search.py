"""Which precision ships: each is tried on this machine, and the fastest that passes every gate wins."""

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
from edgeft.export.candidates import CAPTURED, FP32, ExportCandidates, gate
from edgeft.export.onnx import graph
from edgeft.export.onnx.files import save
from edgeft.export.quantize.precisions import IN_ORDER, PRECISIONS, Precision, source_of
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
class PrecisionTrial:
    """One precision on this machine.

    Attributes:
        precision: which.
        scheme: what it is, in a line.
        strength: of smoothing.
        float_layers: weights that stay fp32.
        bytes: of the graph.
        latency_ms: median of one input, one thread.
        speedup: over fp32, of one race.
        agreement: share of validation answers as of fp32; None: a trial that lost before anyone asked.
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
        """Its graph, in the candidates' folder."""
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


def choose(candidates: ExportCandidates, found: dict[str, Any]) -> tuple[Quantization, str]:
    """Try the precisions that the recipe allows; their figures go into `found`.

    Args:
        candidates: with the captured and the fp32 graph.
        found: gets `rungs`, and the gate's figures of what ships under its name.

    Returns:
        What ships, and its file in the candidates' folder.

    Raises:
        GateError: the recipe names a precision that doesn't hold.
    """
    size = (candidates.folder / FP32).stat().st_size
    if candidates.config.precision == "fp32":
        return Quantization(precision="fp32", scheme="none", fp32_bytes=size, reason="the recipe asks for fp32"), FP32
    search = PrecisionSearch(candidates, size)
    winner = search.run()
    found["rungs"] = [trial.as_dict() for trial in search.trials]
    if winner is None:
        reason = "; ".join(f"{trial.name}: {trial.reason}" for trial in search.trials)
        if candidates.config.precision != "auto":
            raise GateError(f"export: {reason}; no artifact was written")
        say(f"export: fp32 ships, because of {reason}")
        return Quantization(precision="fp32", scheme="none", fp32_bytes=size, reason=reason), FP32
    found[winner.name] = {
        **gate(candidates, winner.file, search.reference),
        "speedup": search.ratio_of(winner).as_dict(),
    }
    return search.quantization(winner, found[winner.name]), winner.file


class PrecisionSearch:
    """The trials of one model.

    Attributes:
        trials: what was tried, in the order of `precisions.IN_ORDER`.
        reference: what the fp32 graph answers on each split.
    """

    def __init__(self, candidates: ExportCandidates, fp32_bytes: int) -> None:
        self.candidates, self.fp32_bytes = candidates, fp32_bytes
        self.reference = candidates.asked(FP32)
        rows = candidates.task.artifact_inputs(candidates.dataset.train)[: candidates.config.calibration_rows]
        if not rows:
            raise GateError("export: no training rows to take the ranges of activations from; use --precision fp32")
        windows = [window for own in candidates.model(FP32).windows(rows) for window in own]
        self.source = source_of(candidates, windows)
        self.trials: list[PrecisionTrial] = []
        self._strengths: dict[str, float] = {}

    def run(self) -> PrecisionTrial | None:
        """Build and time every trial, then take the fastest that holds; None: none does."""
        self._build()
        self._time_trials(self.trials)
        waiting = [trial for trial in self.trials if not self._is_refused(trial)]
        while waiting:
            trial = self._first(waiting)
            waiting.remove(trial)
            trial.agreement = self._agreement(trial)
            if trial.agreement >= self.candidates.config.min_agreement:
                if self._passes_proof(trial):
                    return self._describe_winner(trial, waiting)
                continue
            if self._keep_layers_in_float(trial) and not self._is_refused(trial):
                waiting.append(trial)
        return None

    def _build(self) -> None:
        for precision in self._precisions_to_try():
            trial = PrecisionTrial(precision=precision)
            trial.strength = self._strength(precision)
            kept = self.candidates.config.float_layers
            if kept:
                check_names(kept, self.source.weights)
                trial.float_layers = list(kept)
            self._write(trial)
            self.trials.append(trial)

    def _precisions_to_try(self) -> list[Precision]:
        if self.candidates.config.precision != "auto":
            return [PRECISIONS[self.candidates.config.precision]]
        return [one for one in IN_ORDER if one.provider == CPU and one.name != "fp32"]

    def _strength(self, precision: Precision) -> float:
        """How much to smooth for a precision."""
        if not precision.smoothed_as:
            return 0.0
        if self.candidates.config.smoothing is not None:
            return self.candidates.config.smoothing
        if precision.smoothed_as not in self._strengths:
            self._strengths[precision.smoothed_as] = self._measured_strength(PRECISIONS[precision.smoothed_as])
        return self._strengths[precision.smoothed_as]

    def _measured_strength(self, precision: Precision) -> float:
        """The smoothing after which a graph's numbers are nearest to fp32's.

        On validation rows: what was trained on is answered so surely that it says little about other rows.
        """
        away = {}
        for strength in STRENGTHS:
            save(precision.build(self.source, strength, ()), self.candidates.folder / TRIAL)
            away[strength] = self._mean_difference(TRIAL)
        return min(away, key=lambda strength: away[strength])

    def _mean_difference(self, file: str) -> float:
        """Mean difference of a graph's numbers from fp32's."""
        return float(np.abs(self._raw_outputs(file) - self._captured).mean())

    @cached_property
    def _captured(self) -> NDArray[np.float32]:
        return self._raw_outputs(CAPTURED)

    def _raw_outputs(self, file: str) -> NDArray[np.float32]:
        """Every number that a graph, finished or not, answers to some validation rows; one flat row."""
        model = self.candidates.model(file, threads=1)
        found = model.run(model.windows(self.candidates.inputs(SENSITIVITY_ROWS)), model.engine.output_names, 1)
        return np.concatenate([array.ravel() for own in found for arrays in own for array in arrays])

    def _write(self, trial: PrecisionTrial) -> None:
        made = trial.precision.build(self.source, trial.strength, trial.float_layers)
        trial.scheme = scheme_of(trial.precision, made)
        save(made, self.candidates.folder / TRIAL)
        del made
        graph.finish(self.candidates.folder / TRIAL, self.candidates.folder / trial.file, *self.candidates.post)
        self.candidates.forget(trial.file)
        trial.bytes = (self.candidates.folder / trial.file).stat().st_size

    def _time_trials(self, trials: list[PrecisionTrial]) -> None:
        """Race trials against fp32, a few at once."""
        for start in range(0, len(trials), RACED_AT_ONCE):
            self._race(trials[start : start + RACED_AT_ONCE])

    def _race(self, trials: list[PrecisionTrial]) -> None:
        """One thread, one input at a time, in turns; a function of its own, so that what raced is gone afterwards."""
        contenders = {FP32: self.candidates.model(FP32, threads=1)}
        contenders |= {trial.name: self.candidates.model(trial.file, threads=1) for trial in trials}
        times = race(contenders, self.candidates.inputs(), self.candidates.config.latency_queries, RACE_WARMUP)
        for trial in trials:
            trial.latency_ms = times[trial.name].p50_ms
            trial.speedup = ratio(times[FP32], times[trial.name])

    def _is_refused(self, trial: PrecisionTrial) -> bool:
        problems = objections(self.candidates.config, trial.bytes, self.fp32_bytes, self.ratio_of(trial))
        if trial.precision.provider != CPU:  # a race on a processor says nothing of it
            problems = []
        trial.reason = "; ".join(problems)
        return bool(problems)

    def ratio_of(self, trial: PrecisionTrial) -> Ratio:
        """How many times as fast as fp32 it is."""
        assert trial.speedup is not None
        return trial.speedup

    def _passes_proof(self, trial: PrecisionTrial) -> bool:
        """Whether it answers alike in every way in which this machine can run it."""
        try:
            trial.proved_on = prove(self.candidates, trial.file)
        except GateError as error:
            trial.reason = str(error)
        return bool(trial.proved_on)

    def _first(self, waiting: list[PrecisionTrial]) -> PrecisionTrial:
        """The fastest; of those that are as good as equal, the one that is tried first."""
        bound = max(self.ratio_of(trial).median for trial in waiting) / self.candidates.config.min_speedup
        return next(trial for trial in self.trials if trial in waiting and self.ratio_of(trial).median >= bound)

    def _agreement(self, trial: PrecisionTrial) -> float:
        before, now = (self.candidates.asked_on(file, "validation") for file in (FP32, trial.file))
        return self.candidates.task.agreement(before, now)

    def _keep_layers_in_float(self, trial: PrecisionTrial) -> bool:
        """Leave 1, 2, 4, ... of the weights that hurt most in fp32, up to half of them; whether that is enough."""
        wanted = self.candidates.config.min_agreement
        trial.reason = f"{trial.agreement:.1%} of the answers agree with fp32, wanted are {wanted:.1%}"
        if self.candidates.config.float_layers is not None or not trial.precision.layers:
            return False
        ranked = self._ranked(trial)
        while ranked and 2 * len(trial.float_layers) <= len(ranked) // 2:
            trial.float_layers = ranked[: max(1, 2 * len(trial.float_layers))]
            self._write(trial)
            trial.agreement = self._agreement(trial)
            if trial.agreement >= wanted:
                self._time_trials([trial])
                return True
        trial.reason += f"; {trial.agreement:.1%} with {len(trial.float_layers)} layers in fp32"
        return False

    def _ranked(self, trial: PrecisionTrial) -> list[str]:
        """Weights by how near to fp32 the graph comes when each alone is left in fp32, the most harmful first."""
        away = {}
        for name in track(self.source.weights, f"{trial.name} sensitivity"):
            save(trial.precision.build(self.source, trial.strength, [name]), self.candidates.folder / TRIAL)
            away[name] = self._mean_difference(TRIAL)
        return sorted(away, key=lambda name: away[name])

    def _describe_winner(self, winner: PrecisionTrial, waiting: list[PrecisionTrial]) -> PrecisionTrial:
        for trial in waiting:
            mine, others = self.ratio_of(trial).median, self.ratio_of(winner).median
            both = f"{mine:.2f} times the speed of fp32, {winner.name} {others:.2f} times"
            tie = mine >= others / self.candidates.config.min_speedup
            trial.reason = f"as fast as what comes first: {both}" if tie else f"slower: {both}"
            trial.agreement = self._agreement(trial)
        speedup = self.ratio_of(winner).median
        winner.reason = (
            f"{self.fp32_bytes / winner.bytes:.1f} times smaller and {speedup:.2f} times faster than fp32 here, "
            f"{winner.agreement:.1%} of the answers equal"
        )
        return winner

    def quantization(self, winner: PrecisionTrial, figures: dict[str, Any]) -> Quantization:
        """What the manifest says of it."""
        task = self.candidates.task
        numbers = [task.logits_to_compare(self.candidates.asked_on(file, "validation")) for file in (winner.file, FP32)]
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


def ways_of(candidates: ExportCandidates, file: str) -> list[Way]:
    """The ways in which this machine can run a candidate, the one that it would choose by itself first."""
    own = "edgeft's kernels" if kernels.library() else "onnxruntime's own kernels, as edgeft's don't run here"
    ways = [
        Way(own, candidates.model(file)),
        Way("onnxruntime's own kernels, edgeft's switched off", candidates.model(file, native=False)),
    ]
    if processor.is_x86():
        exact = candidates.model(file, native=False, exact=True)
        ways.append(Way("onnxruntime's exact u8u8 kernels, which it takes on x86 without VNNI", exact))
    return ways


def prove(candidates: ExportCandidates, file: str) -> list[str]:
    """Ask a candidate some validation rows in every way in which this machine can run it.

    Returns:
        For each way what ran: kernels, platform, processor, engine with its version.

    Raises:
        GateError: another way gives other answers.
    """
    split = candidates.dataset.validation.take(range(min(PROOF_ROWS, len(candidates.dataset.validation))))
    first, *others = ways_of(candidates, file)
    here = candidates.task.predict_artifact(first.model, split)
    for way in others:
        alike = candidates.task.agreement(here, candidates.task.predict_artifact(way.model, split))
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

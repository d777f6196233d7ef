"""Advice on model size, method and lengths, each by a rule of thumb whose arithmetic is shown.

Sources besides those of `edgeft.pipeline.advise.sizes` and `edgeft.train.defaults`: large encoders are unstable on
small sets (Devlin et al. 2019, section 4.1); LoRA learns less and forgets less than full fine-tuning (Biderman et al.
2024). The machines' operations in a second are our own estimate: MiniLM on two busy cores of a cloud machine trained at
17 GFLOP/s a core.
"""

from __future__ import annotations

import importlib.util
import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

from edgeft import tasks
from edgeft.bench import machine
from edgeft.data.profile.lengths import STEPS, WORDS
from edgeft.data.profile.recommendations import FEW_OF_LABEL
from edgeft.pipeline.advise.sizes import OPERATIONS, Method, Size, family, read_table
from edgeft.report import facts
from edgeft.runtime.machine.memory import memory_bytes
from edgeft.train import defaults
from edgeft.train.defaults import BATCH, GENERATION_EPOCHS, MAX_EPOCHS, MIN_EPOCHS, TARGET_STEPS

SCHEMA_VERSION = 1
USABLE = 0.7  # share of the memory that training may use
CORE_FLOPS = 20e9  # operations of a CPU core in a second of fp32 training
GPU_FLOPS = 20e12  # and a GPU in bfloat16
CPU_HOURS, GPU_HOURS = 2.0, 8.0  # that training the teacher may take
LARGE_ROWS = 2_500  # training rows from which a large encoder is stable enough
FULL_ROWS = 2_000  # training rows from which all weights may be trained
FULL_PARAMETERS = 500e6
TOKENS_PER_WORD = 4 / 3
TRAIN_SHARE = 0.8


@dataclass(frozen=True, kw_only=True)
class Problem:
    """The rows to learn from.

    Attributes:
        task: its tag.
        rows: training rows.
        tokens: 95th percentile of a text's tokens.
        max_length: if measured; None: derived from `tokens`.
        labels: number of labels; 0 if the task has none.
        rarest: training rows of the rarest label; None if unknown.
        english: False if the texts are in other or several languages.
    """

    task: str
    rows: int
    tokens: float
    max_length: int | None = None
    labels: int = 0
    rarest: int | None = None
    english: bool = True


@dataclass(frozen=True, kw_only=True)
class Machine:
    """The machine that trains.

    Attributes:
        cores: CPU cores that this process may use.
        memory_bytes: of the machine.
        gpu: name of the GPU; None without one.
        gpu_bytes: its memory.
    """

    cores: int
    memory_bytes: int
    gpu: str | None = None
    gpu_bytes: int = 0

    @property
    def training_bytes(self) -> int:
        """Memory of the device that trains."""
        return self.gpu_bytes if self.gpu else self.memory_bytes

    @property
    def flops(self) -> float:
        """Operations in a second of training."""
        return GPU_FLOPS if self.gpu else CORE_FLOPS * self.cores

    @property
    def hours(self) -> float:
        """Hours that training may take."""
        return GPU_HOURS if self.gpu else CPU_HOURS


def this_machine() -> Machine:
    """Cores, memory and GPU of this machine; the GPU only if torch is installed and sees one."""
    cpu = Machine(cores=machine.cores()["usable"], memory_bytes=memory_bytes())
    if importlib.util.find_spec("torch") is None:
        return cpu
    import torch

    if not torch.cuda.is_available():
        return cpu
    gpu = torch.cuda.get_device_properties(0)
    return Machine(cores=cpu.cores, memory_bytes=cpu.memory_bytes, gpu=str(gpu.name), gpu_bytes=int(gpu.total_memory))


# -------------------------------------------------------------------------------------------------------------- lengths


def max_length(problem: Problem) -> int:
    """The measured length, else the smallest common one that holds 95% of the texts."""
    if problem.max_length:
        return problem.max_length
    return next((step for step in STEPS if step >= problem.tokens), STEPS[-1])


def epochs(problem: Problem) -> int:
    """Epochs for about a thousand steps, within bounds."""
    return defaults.choose_epochs(problem.task, problem.rows)


# ----------------------------------------------------------------------------------------------------------- candidates


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """One size trained by one method.

    Attributes:
        size: the class.
        method: how it trains.
        batch: rows of one forward pass, the largest that fits.
        memory_bytes: memory of training.
        seconds: duration of training.
        fits: whether the memory is enough.
        problem: why it isn't advised; empty if it can be.
    """

    size: Size
    method: Method
    batch: int
    memory_bytes: float
    seconds: float
    fits: bool
    problem: str


def list_candidates(problem: Problem, device: Machine) -> list[Candidate]:
    """Each size with its best method, the smallest first."""
    return [_candidate(size, problem, device) for size in read_table().sizes[family(problem.task)]]


def _candidate(size: Size, problem: Problem, device: Machine) -> Candidate:
    """A size with the first method that fits, else with the most frugal one."""
    methods: list[Method] = ["lora", "qlora"]
    if problem.rows >= FULL_ROWS and size.parameters <= FULL_PARAMETERS:
        methods.insert(0, "full")
    tried = [_train_by(size, method, problem, device) for method in methods]
    return next((candidate for candidate in tried if candidate.fits), tried[-1])


def _train_by(size: Size, method: Method, problem: Problem, device: Machine) -> Candidate:
    length, room = max_length(problem), USABLE * device.training_bytes
    batches = [BATCH >> halving for halving in range(5)]
    needed = {batch: size.memory_bytes(method, batch, length, bool(device.gpu)) for batch in batches}
    batch = next((batch for batch in batches if needed[batch] <= room), 1)
    tokens = problem.rows * min(length, problem.tokens) * epochs(problem)
    seconds = size.operations(method, tokens) / device.flops
    why = ""
    if needed[batch] > room:
        why = f"needs {facts.size(needed[batch])}, {facts.size(room)} may be used"
    elif seconds > device.hours * 3600:
        why = f"takes {duration(seconds)}, more than {device.hours:.0f} h"
    elif size.name == "large" and family(problem.task) == "encoder" and problem.rows < LARGE_ROWS:
        why = f"unstable on fewer than {LARGE_ROWS:,} rows"
    return Candidate(
        size=size,
        method=method,
        batch=batch,
        memory_bytes=needed[batch],
        seconds=seconds,
        fits=needed[batch] <= room,
        problem=why,
    )


def duration(seconds: float) -> str:
    """A duration in words, as in "40 s", "12 min", "3.4 h"."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:,.1f} h"


# ----------------------------------------------------------------------------------------------------------- the advice


def advise(problem: Problem, device: Machine) -> dict[str, Any]:
    """Advise on size, method and options to start with.

    Returns:
        `schema_version`, `problem`, `machine`, `sizes` (each class with memory, time and the reason against it),
        `advice` (`option`, `value`, `why`) and `notes`.
    """
    candidates = list_candidates(problem, device)
    possible = [candidate for candidate in candidates if not candidate.problem]
    chosen = possible[-1] if possible else candidates[0]
    return {
        "schema_version": SCHEMA_VERSION,
        "problem": asdict(problem),
        "machine": asdict(device) | {"flops": device.flops},
        "sizes": [_row(candidate, candidate is chosen) for candidate in candidates],
        "advice": list(_advice(chosen, problem, device)),
        "notes": list(_notes(chosen, problem)),
    }


def _row(candidate: Candidate, chosen: bool) -> dict[str, Any]:
    return {
        "size": candidate.size.name,
        "span": candidate.size.span,
        "example": candidate.size.model,
        "others": candidate.size.others,
        "parameters": int(candidate.size.parameters),
        "method": candidate.method,
        "memory_bytes": int(candidate.memory_bytes),
        "seconds": round(candidate.seconds),
        "chosen": chosen,
        "problem": candidate.problem,
    }


def _advice(chosen: Candidate, problem: Problem, device: Machine) -> Iterator[dict[str, Any]]:
    yield _set("finetune.model", _model(chosen.size, problem), _why_size(chosen, problem, device))
    yield _set("finetune.method", chosen.method, _why_method(chosen, problem))
    yield _set("finetune.max_length", max_length(problem), f"95% of the texts have up to {problem.tokens:.0f} tokens")
    times = epochs(problem)
    steps = math.ceil(problem.rows / BATCH)
    why = f"{problem.rows:,} rows / {BATCH} = {steps:,} steps an epoch; {times} give {times * steps:,}"
    goal = (
        f"about {TARGET_STEPS:,} are wanted, within {MIN_EPOCHS} to {MAX_EPOCHS} epochs; early stopping ends it sooner"
    )
    if "generation" in problem.task:
        goal = f"more than {GENERATION_EPOCHS} epochs learn texts by heart"
    yield _set("finetune.epochs", times, f"{why}; {goal}")
    if chosen.batch < BATCH:
        why = f"{BATCH} rows at once don't fit; {BATCH // chosen.batch} passes make one step of {BATCH}"
        yield _set("finetune.batch_size", chosen.batch, why)
        yield _set("finetune.gradient_accumulation", BATCH // chosen.batch, why)


def _set(option: str, value: Any, why: str) -> dict[str, Any]:
    return {"option": option, "value": value, "why": why}


def _model(size: Size, problem: Problem) -> str:
    many = not problem.english and family(problem.task) == "encoder"
    multilingual = read_table().multilingual
    return multilingual.get(size.name, multilingual["base"]) if many else size.model


def _why_size(chosen: Candidate, problem: Problem, device: Machine) -> str:
    body, tokens = chosen.size.body, problem.rows * min(max_length(problem), problem.tokens) * epochs(problem)
    what = device.gpu or f"{device.cores} core{'s' if device.cores > 1 else ''}"
    return (
        f"{chosen.size.name} ({chosen.size.span}): the largest that trains here within {device.hours:.0f} h; "
        f"{OPERATIONS[chosen.method]} x {body / 1e6:,.1f}M parameters x {tokens / 1e6:,.2f}M tokens / "
        f"{device.flops / 1e9:,.0f} GFLOP/s ({what}) = {duration(chosen.seconds)}"
    )


def _why_method(chosen: Candidate, problem: Problem) -> str:
    parameters, needed = f"{chosen.size.parameters / 1e6:,.1f}M", facts.size(chosen.memory_bytes)
    few = "training all weights doesn't fit"
    if problem.rows < FULL_ROWS:
        few = f"below {FULL_ROWS:,} rows few weights should move"
    elif chosen.size.parameters > FULL_PARAMETERS:
        few = "of a model so large few weights need to move"
    reasons = {
        "full": f"16 bytes x {parameters} parameters and activations = {needed}, which fits",
        "lora": f"{few}; 4 bytes x {parameters} parameters, matrices and activations = {needed}",
        "qlora": f"fp32 weights don't fit; 0.55 bytes x {parameters} parameters, matrices and activations = {needed}",
    }
    return reasons[chosen.method]


def _notes(chosen: Candidate, problem: Problem) -> Iterator[str]:
    if not tasks.known(problem.task).can_ship:
        yield f"{problem.task} ends with the trained model (--until finetune); no artifact is made of it"
    if chosen.problem:
        yield f"even the smallest class {chosen.problem}; take a machine with a GPU or more memory"
    if problem.rarest is not None and problem.rarest < FEW_OF_LABEL:
        yield f"the rarest label has {problem.rarest:,} training rows; below {FEW_OF_LABEL} add rows, or augment"
    elif problem.labels and problem.rarest is None and problem.rows / problem.labels < FEW_OF_LABEL:
        rows_per_label = problem.rows / problem.labels
        yield f"{rows_per_label:.0f} training rows a label; below {FEW_OF_LABEL} add rows, or augment"
    if problem.tokens > STEPS[-1]:
        yield f"95% of the texts reach {problem.tokens:,.0f} tokens; split them, or take a model that reads as many"
    if not problem.english:
        yield "the texts are not all English: the example reads many languages, and its embeddings are larger"
    yield "rules of thumb, good to a factor of two; `edgeft pipeline` measures, and its student is smaller than this"


def problem_of(profile: dict[str, Any]) -> Problem:
    """The problem that a profile of the rows describes.

    Args:
        profile: as `edgeft.data.profile.profile` makes it.
    """
    part = next(iter(profile["lengths"]["parts"].values()))
    words = profile["lengths"]["unit"] == WORDS
    tokens = part["percentiles"]["p95"] * (TOKENS_PER_WORD if words else 1)
    split = profile["splits"]
    counts = [count["train"] for count in split.get("labels", {}).values()]
    shares = profile["languages"].get("shares", {})
    return Problem(
        task=profile["task"],
        rows=max(1, split.get("rows", {}).get("train") or round(TRAIN_SHARE * profile["rows"]["total"])),
        tokens=tokens,
        max_length=None if words else profile["lengths"]["max_length"],
        labels=len(counts),
        rarest=min(counts, default=None) if not tasks.find_form(profile["kind"]).labels_tokens else None,
        english=not shares or shares.get("en", 0.0) >= 0.9,
    )

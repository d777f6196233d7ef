"""Out of memory: one line that says which settings to lower, and to what."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Literal

import torch

from edgeft.errors import TrainingError
from edgeft.recipe import FinetuneConfig, TrainingConfig
from edgeft.train.defaults import SHORTEST
from edgeft.train.loop import recompute

# Messages of torch's CPU allocators, which raise plain RuntimeErrors.
CPU_MESSAGES = ("not enough memory", "can't allocate memory")
Work = Literal["step", "load", "set up", "earlier rows", "merge"]
WHEN: dict[Work, str] = {
    "step": "at step {step}",
    "load": "while loading the model",
    "set up": "while setting up the training",
    "earlier rows": "while EWC went through the earlier rows",
    "merge": "while merging the adapter",
}
LIGHTER = {"full": "method lora or qlora", "lora": "method qlora", "dora": "method qlora", "rslora": "method qlora"}


def is_exhausted(error: BaseException) -> bool:
    """Whether an error says that memory ran out, on a GPU or a CPU."""
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or (
        isinstance(error, RuntimeError) and any(message in str(error) for message in CPU_MESSAGES)
    )


def list_remedies(config: TrainingConfig, device: torch.device, work: Work = "step") -> list[str]:
    """Settings that need less memory, the mildest change first, with their numbers.

    Args:
        config: of the training.
        device: where it trains.
        work: what ran out of memory.
    """
    remedies: list[str] = []
    half, rows = config.batch_size // 2, config.batch_size * config.gradient_accumulation
    if half and work == "step":
        accumulation = 2 * config.gradient_accumulation
        remedies.append(
            f"batch_size {half} (now {config.batch_size}) with gradient_accumulation {accumulation} "
            f"(now {config.gradient_accumulation}), {half * accumulation} rows a step (now {rows})"
        )
    if not isinstance(config, FinetuneConfig):
        return [*remedies, "a teacher fine-tuned with a smaller max_length"]
    if work == "earlier rows":
        share = config.rehearsal_fraction or 0.0
        instead = f" with a larger rehearsal_fraction (now {share:g})" if share < 1 else ""
        remedies.append(f"ewc_weight 0{instead}")
    if work in ("step", "earlier rows"):
        if work == "step" and not recompute.is_enabled(config, device):
            remedies.append("gradient_checkpointing true")
        if config.max_length > SHORTEST:
            remedies.append(f"max_length {max(SHORTEST, config.max_length // 2)} (now {config.max_length})")
    # A merge holds the entire model in fp32 in the CPU's memory, with every method.
    loads_less = work == "load" and device.type != "cpu" and config.method in LIGHTER
    if loads_less or (work in ("step", "set up", "earlier rows") and config.method in LIGHTER):
        remedies.append(f"{'method qlora' if loads_less else LIGHTER[config.method]} (now {config.method})")
    return [*remedies, "a smaller model"] if work in ("load", "set up") or not remedies else remedies


@contextlib.contextmanager
def explain_exhausted_memory(
    config: TrainingConfig, device: torch.device, work: Work = "step", step: int = 0
) -> Iterator[None]:
    """Turn an out-of-memory error into one line.

    Args:
        config: of the training.
        device: where it trains.
        work: what runs inside.
        step: of the training, if `work` is a step.

    Raises:
        TrainingError: memory ran out; the message says what to lower, and to what.
    """
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if not is_exhausted(error):
            raise
        raise TrainingError(
            f"out of memory on {device.type} {WHEN[work].format(step=step)}; "
            f"try {'; or '.join(list_remedies(config, device, work))}"
        ) from error

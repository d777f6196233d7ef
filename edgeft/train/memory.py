"""Memory that runs out: one line with the settings to lower, and to what."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import torch

from edgeft.errors import TrainingError
from edgeft.recipe import FinetuneConfig, TrainingConfig

# What torch's allocators on a CPU say: RuntimeErrors without a class of their own.
CPU_MESSAGES = ("not enough memory", "can't allocate memory")
LIGHTER = {"full": "method lora or qlora", "lora": "method qlora", "dora": "method qlora", "rslora": "method qlora"}


def is_exhausted(error: BaseException) -> bool:
    """Whether an error says that memory ran out, on a GPU or a CPU."""
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or (
        isinstance(error, RuntimeError) and any(message in str(error) for message in CPU_MESSAGES)
    )


def remedies(config: TrainingConfig) -> list[str]:
    """What needs less memory, the mildest first; each with its numbers."""
    found: list[str] = []
    half, rows = config.batch_size // 2, config.batch_size * config.gradient_accumulation
    if half:
        accumulation = 2 * config.gradient_accumulation
        found.append(
            f"batch_size {half} (now {config.batch_size}) with gradient_accumulation {accumulation} "
            f"(now {config.gradient_accumulation}), {half * accumulation} rows a step (now {rows})"
        )
    if isinstance(config, FinetuneConfig):
        found.append(f"max_length {max(4, config.max_length // 2)} (now {config.max_length})")
        if config.method in LIGHTER:
            found.append(f"{LIGHTER[config.method]} (now {config.method})")
    else:
        found.append("a teacher fine-tuned with a smaller max_length")
    return found


@contextlib.contextmanager
def explained(config: TrainingConfig, device: torch.device, step: int) -> Iterator[None]:
    """Turn memory that runs out into one line.

    Raises:
        TrainingError: names what to lower, and to what.
    """
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if not is_exhausted(error):
            raise
        raise TrainingError(
            f"out of memory on {device.type} at step {step}; what needs less: {'; or '.join(remedies(config))}"
        ) from error

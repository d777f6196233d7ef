"""The machine as far as a choice by timing rests on it."""

from __future__ import annotations

import platform
from typing import Any

from edgeft.runtime.machine import processor, threads


def identity() -> dict[str, Any]:
    """What makes timings of two machines differ, and stays the same from run to run on one of them.

    Returns:
        `processor`, `architecture`, `instruction_sets` and `cores` (usable ones). No clock speed: it moves.
    """
    return {
        "processor": processor_name(),
        "architecture": platform.machine(),
        "instruction_sets": sorted(processor.instruction_sets()),
        "cores": threads.usable_cores(),
    }


def processor_name() -> str:
    """As the kernel has it; empty where nobody says."""
    name = processor.cpuinfo(processor.CPUINFO, "model name", "Model", "Hardware") or platform.processor()
    return " ".join(name.split())

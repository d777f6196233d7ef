"""The machine that measures, without anything that names it or its user."""

from __future__ import annotations

import importlib.metadata
import os
import platform
from pathlib import Path
from typing import Any

from edgeft.runtime.machine import threads
from edgeft.runtime.machine.memory import memory_bytes
from edgeft.runtime.machine.processor import CPUINFO, cpuinfo, instruction_sets


def describe() -> dict[str, Any]:
    """What decides a latency here.

    Returns:
        `processor`, `architecture`, `cores` (see `cores`), `instruction_sets`, `memory_bytes` (what this process may
        use), `os`, and `versions` of Python, numpy and onnxruntime.
    """
    return {
        "processor": processor(CPUINFO),
        "architecture": platform.machine(),
        "cores": cores(),
        "instruction_sets": instruction_sets(),
        "memory_bytes": memory_bytes(),
        "os": f"{platform.system()} {platform.release()}",
        "versions": _versions(),
    }


def processor(path: Path) -> str:
    """The processor's name as the kernel has it, else the architecture."""
    name = cpuinfo(path, "model name", "Model", "Hardware") or platform.processor() or platform.machine()
    return " ".join(name.split())


def cores() -> dict[str, Any]:
    """`logical` cores of the machine, `affinity` and `quota` (in cores) of this process, and how many are `usable`."""
    logical = os.cpu_count() or 1
    return {
        "logical": logical,
        "affinity": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else logical,
        "quota": threads.container_share(),
        "usable": threads.usable_cores(),
    }


def _versions() -> dict[str, str]:
    versions = {"python": platform.python_version()}
    for package, names in {"numpy": ("numpy",), "onnxruntime": ("onnxruntime", "onnxruntime-gpu")}.items():
        for name in names:
            try:
                versions.setdefault(package, importlib.metadata.version(name))
            except importlib.metadata.PackageNotFoundError:
                continue
    return versions

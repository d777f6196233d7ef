"""The machine that measures, without anything that names it or its user."""

from __future__ import annotations

import importlib.metadata
import os
import platform
from pathlib import Path
from typing import Any

import psutil

from edgeft.runtime import threads

CGROUP = Path("/sys/fs/cgroup")
CPUINFO = Path("/proc/cpuinfo")
MEMORY_LIMITS = ("memory.max", "memory/memory.limit_in_bytes")  # cgroup v2 and v1

# As the kernel writes them in /proc/cpuinfo -> as people say.
INSTRUCTION_SETS = {
    "avx2": "avx2",
    "avx512f": "avx512f",
    "avx512_vnni": "avx512_vnni",
    "avx_vnni": "avx_vnni",
    "amx_int8": "amx_int8",
    "asimd": "neon",
    "asimddp": "dotprod",
    "i8mm": "i8mm",
}


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
        "instruction_sets": instruction_sets(CPUINFO),
        "memory_bytes": memory_bytes(),
        "os": f"{platform.system()} {platform.release()}",
        "versions": _versions(),
    }


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def _cpuinfo(path: Path, *keys: str) -> str:
    """The first value in /proc/cpuinfo under one of these keys."""
    for line in _read(path).splitlines():
        key, _, value = line.partition(":")
        if key.strip() in keys and value.strip():
            return value.strip()
    return ""


def processor(cpuinfo: Path) -> str:
    """The processor's name as the kernel has it, else the architecture."""
    name = _cpuinfo(cpuinfo, "model name", "Model", "Hardware") or platform.processor() or platform.machine()
    return " ".join(name.split())


def instruction_sets(cpuinfo: Path) -> list[str]:
    """The instruction sets that int8 and fp32 kernels look for, of those this processor has."""
    flags = set(_cpuinfo(cpuinfo, "flags", "Features").split())
    return [name for flag, name in INSTRUCTION_SETS.items() if flag in flags]


def cores() -> dict[str, Any]:
    """`logical` cores of the machine, `affinity` and `quota` (in cores) of this process, and how many are `usable`."""
    logical = os.cpu_count() or 1
    return {
        "logical": logical,
        "affinity": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else logical,
        "quota": threads.container_share(),
        "usable": threads.usable_cores(),
    }


def memory_bytes(cgroup: Path = CGROUP) -> int:
    """Bytes of memory this process may use: the machine's, or its container's where that is less."""
    limits = [psutil.virtual_memory().total]
    for file in MEMORY_LIMITS:
        text = _read(cgroup / file).strip()
        if text.isdigit() and int(text) > 0:
            limits.append(int(text))
    return min(limits)


def _versions() -> dict[str, str]:
    found = {"python": platform.python_version()}
    for package, names in {"numpy": ("numpy",), "onnxruntime": ("onnxruntime", "onnxruntime-gpu")}.items():
        for name in names:
            try:
                found.setdefault(package, importlib.metadata.version(name))
            except importlib.metadata.PackageNotFoundError:
                continue
    return found

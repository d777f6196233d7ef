"""What this processor can do, as far as the kernel says it."""

from __future__ import annotations

import functools
import platform
from pathlib import Path

CPUINFO = Path("/proc/cpuinfo")

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


def cpuinfo(path: Path, *keys: str) -> str:
    """The first value in /proc/cpuinfo under one of these keys; nothing where there is none."""
    try:
        with path.open(encoding="utf-8", errors="replace") as lines:
            for line in lines:
                key, _, value = line.partition(":")
                if key.strip() in keys and value.strip():
                    return value.strip()
    except OSError:
        pass
    return ""


def instruction_sets(path: Path = CPUINFO) -> list[str]:
    """The instruction sets that int8 and fp32 kernels look for, of those this processor has."""
    flags = set(cpuinfo(path, "flags", "Features").split())
    return [name for flag, name in INSTRUCTION_SETS.items() if flag in flags]


def is_x86() -> bool:
    """Whether this is a processor of Intel's or AMD's kind."""
    return platform.machine().lower() in ("x86_64", "amd64", "i386", "i686")


@functools.cache
def saturates() -> bool:
    """Whether onnxruntime's u8s8 products may overflow their 16 bits: on x86 without VNNI, or where nobody knows."""
    return is_x86() and not any("vnni" in name for name in instruction_sets())

"""What this processor can do: as it says itself, as the system says, or as numpy does."""

from __future__ import annotations

import functools
import platform
from pathlib import Path

import numpy as np

from edgeft.runtime.machine.built import call_library

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
# Of `cpu_features` in native/platform.h.
CPUID_BITS = {2: "avx2", 4: "avx512f", 8: "avx512_vnni", 16: "avx_vnni", 32: "amx_int8"}
# numpy's names, those of its releases before 2.4 included. Each AVX512_ one from CLX on holds VNNI.
AVX512 = ("avx2", "avx512f")
NUMPY_SETS = {
    "AVX2": ("avx2",),
    "X86_V3": ("avx2",),
    "AVX512F": AVX512,
    "AVX512_SKX": AVX512,
    "X86_V4": AVX512,
    "AVX512_CLX": (*AVX512, "avx512_vnni"),
    "AVX512_ICL": (*AVX512, "avx512_vnni"),
    "AVX512_SPR": (*AVX512, "avx512_vnni"),
    "ASIMD": ("neon",),
    "NEON": ("neon",),
    "ASIMDDP": ("dotprod",),
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


def instruction_sets(path: Path | None = None) -> list[str]:
    """The instruction sets that int8 and fp32 kernels look for, of those this processor has.

    Asked are the processor itself through the library that edgeft was built with, then Linux, then numpy, which knows
    fewer names. The first that knows anything is believed.

    Args:
        path: a file like /proc/cpuinfo, which is then the only one that is asked.
    """
    if path:
        return sets_by_cpuinfo(path)
    return sets_by_cpuid() or sets_by_cpuinfo(CPUINFO) or sets_by_numpy()


def sets_by_cpuinfo(path: Path) -> list[str]:
    """As Linux says."""
    flags = set(cpuinfo(path, "flags", "Features").split())
    return [name for flag, name in INSTRUCTION_SETS.items() if flag in flags]


def sets_by_cpuid(features: int | None = None) -> list[str]:
    """As an x86 processor says, of what the system lets programs use; none where the library wasn't built.

    Args:
        features: bits as `edgeft_cpu_features` of native/processor.c returns them; None: those of this processor.
    """
    bits = call_library("edgeft_cpu_features") if features is None else features
    return [name for bit, name in CPUID_BITS.items() if bits & bit]


def sets_by_numpy() -> list[str]:
    """As numpy says, which knows only those sets that it has code for."""
    simd = np.show_config(mode="dicts").get("SIMD Extensions", {})
    known = [*simd.get("baseline", []), *simd.get("found", [])]
    sets = {name for group in known for name in NUMPY_SETS.get(group, ())}
    return [name for name in INSTRUCTION_SETS.values() if name in sets]


def is_x86() -> bool:
    """Whether this is a processor of Intel's or AMD's kind."""
    return platform.machine().lower() in ("x86_64", "amd64", "i386", "i686")


@functools.cache
def saturates() -> bool:
    """Whether onnxruntime's u8s8 products may overflow their 16 bits: on x86 without VNNI, or where nobody knows."""
    return is_x86() and not any("vnni" in name for name in instruction_sets())

"""How much memory this process may use, and giving back what it freed."""

from __future__ import annotations

import contextlib
import ctypes
import os
from pathlib import Path

CGROUP = Path("/sys/fs/cgroup")
MEMORY_LIMITS = ("memory.max", "memory/memory.limit_in_bytes")  # cgroup v2 and v1


def memory_bytes(cgroup: Path = CGROUP) -> int:
    """Bytes of memory this process may use: the machine's, or its container's where that is less."""
    limits = [_physical_bytes()]
    for name in MEMORY_LIMITS:
        with contextlib.suppress(OSError, ValueError):
            limits.append(int((cgroup / name).read_text(encoding="ascii")))  # "max" where there is no limit
    return min(limit for limit in limits if limit > 0)


def _physical_bytes() -> int:
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):  # Windows
        import psutil  # only here: it takes a twentieth of the time in which an artifact is loaded

        return int(psutil.virtual_memory().total)


def give_back() -> None:
    """Let the C library give freed memory back to the system, where it is one that keeps it otherwise (glibc)."""
    with contextlib.suppress(OSError, AttributeError, TypeError):
        ctypes.CDLL(None).malloc_trim(0)

"""How much memory this process took at most."""

from __future__ import annotations

import sys
from pathlib import Path

import psutil

CLEAR, STATUS = Path("/proc/self/clear_refs"), Path("/proc/self/status")


class PeakMemory:
    """The largest resident size of this process since `__init__`, in bytes (Linux; elsewhere since its start)."""

    def __init__(self) -> None:
        try:
            CLEAR.write_text("5")
        except OSError:
            return

    def bytes(self) -> int:
        """The peak so far."""
        return _peak_by_linux() or _peak_by_windows() or _peak_by_unix() or int(psutil.Process().memory_info().rss)


def _peak_by_linux() -> int:
    try:
        lines = STATUS.read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM")), 0)


def _peak_by_windows() -> int:
    return int(getattr(psutil.Process().memory_info(), "peak_wset", 0))


def _peak_by_unix() -> int:
    try:
        import resource  # absent on Windows
    except ImportError:
        return 0
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024  # macOS counts bytes, the others kilobytes

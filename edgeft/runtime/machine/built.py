"""The C library that installing edgeft builds where there is a compiler: the kernels, and what the processor has."""

from __future__ import annotations

import ctypes
import importlib.util
from pathlib import Path


def library_file() -> Path | None:
    """Where it is; None where it wasn't built."""
    spec = importlib.util.find_spec("edgeft.runtime._kernels")
    return Path(spec.origin) if spec and spec.origin else None


def call_library(function: str) -> int:
    """What a function without arguments says; 0 where there is no such library or function."""
    file = library_file()
    try:
        return int(ctypes.CDLL(str(file))[function]()) if file else 0
    except (OSError, AttributeError):
        return 0

"""edgeft's own kernels: where they are, and whether this processor can run them."""

from __future__ import annotations

import ctypes
import functools
import importlib.util
from pathlib import Path


@functools.cache
def library() -> Path | None:
    """The library of operators for onnxruntime; None where it wasn't built or the processor lacks AVX-512 VNNI."""
    spec = importlib.util.find_spec("edgeft.runtime._kernels")
    if spec is None or spec.origin is None:
        return None
    try:
        supported = bool(ctypes.CDLL(spec.origin).edgeft_supported())
    except (OSError, AttributeError):
        return None
    return Path(spec.origin) if supported else None

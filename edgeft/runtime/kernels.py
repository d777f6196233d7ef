"""edgeft's own kernels: where they are, and whether this processor can run them."""

from __future__ import annotations

import ctypes
import functools
import importlib.util
from pathlib import Path

from edgeft.runtime import processor


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


def describe() -> str:
    """Whose kernels run int8 here, and why not edgeft's."""
    if library():
        return "edgeft's own"
    if not any(name.startswith("avx512") and "vnni" in name for name in processor.instruction_sets()):
        return "onnxruntime's; edgeft's are for x86-64 with AVX-512 VNNI"
    return "onnxruntime's; edgeft's are faster here, but weren't built: installing edgeft needs a C compiler for them"

"""edgeft's own kernels: where they are, and whether this processor can run them."""

from __future__ import annotations

import functools
from pathlib import Path

from edgeft.runtime.machine import processor
from edgeft.runtime.machine.built import call_library, library_file


@functools.cache
def library() -> Path | None:
    """The library of operators for onnxruntime; None where it wasn't built or the processor lacks AVX-512 VNNI."""
    return library_file() if call_library("edgeft_supported") else None


def describe() -> str:
    """Whose kernels run int8 here, and why not edgeft's."""
    if library():
        return "edgeft's own"
    if not any(name.startswith("avx512") and "vnni" in name for name in processor.instruction_sets()):
        return "onnxruntime's; edgeft's are for x86-64 with AVX-512 VNNI"
    return "onnxruntime's; edgeft's are faster here, but weren't built: installing edgeft needs a C compiler for them"

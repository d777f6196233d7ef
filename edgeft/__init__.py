"""edgeft: from a pre-trained transformer and a labelled file to a small model for modest hardware."""

from __future__ import annotations

from typing import TYPE_CHECKING

from edgeft.version import __version__

if TYPE_CHECKING:
    from edgeft.runtime import Model, load

__all__ = ["Model", "__version__", "load"]


def __getattr__(name: str) -> object:
    """`edgeft.load` and `edgeft.Model` are imported on first use, so that `edgeft --help` stays light."""
    if name in ("load", "Model"):
        from edgeft import runtime

        return getattr(runtime, name)
    raise AttributeError(f"module 'edgeft' has no attribute {name!r}")

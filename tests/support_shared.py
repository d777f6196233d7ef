"""What one of the processes of the tests builds, and all of them read."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from filelock import FileLock

_base: Path | None = None


def begin(factory: pytest.TempPathFactory, is_worker: bool) -> None:
    """Say where: in the session's own temporary folder, which the workers of xdist have in common."""
    global _base  # helpers of the tests are no fixtures, and ask for it
    temporary = factory.getbasetemp()
    _base = (temporary.parent if is_worker else temporary) / "shared"
    _base.mkdir(exist_ok=True)


def built(name: str, build: Callable[[Path], object]) -> Path:
    """A folder of the session, built by whoever needs it first while the others wait; nobody changes it afterwards."""
    assert _base is not None
    folder, unfinished = _base / name, _base / f"{name}.unfinished"
    with FileLock(_base / f"{name}.lock"):
        if not folder.exists():
            unfinished.mkdir(parents=True, exist_ok=True)
            build(unfinished)
            unfinished.rename(folder)
    return folder

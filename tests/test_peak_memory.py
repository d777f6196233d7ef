"""The most memory that a process took, on each system in its own unit."""

from __future__ import annotations

import resource
import sys
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest

from edgeft import peak_memory
from edgeft.peak_memory import PeakMemory


def test_a_peak_is_seen_and_counts_bytes() -> None:
    memory = PeakMemory()
    before = psutil.Process().memory_info().rss
    block = bytearray(b"x") * 60_000_000
    assert len(block) == 60_000_000
    del block
    assert memory.bytes() >= before + 50_000_000


@pytest.mark.parametrize(("system", "expected"), [("darwin", 300_000_000), ("freebsd", 307_200_000_000)])
def test_ru_maxrss_is_bytes_on_macos_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, system: str, expected: int
) -> None:
    monkeypatch.setattr(peak_memory, "STATUS", tmp_path / "none")
    monkeypatch.setattr(resource, "getrusage", lambda _: SimpleNamespace(ru_maxrss=300_000_000))
    monkeypatch.setattr(sys, "platform", system)
    assert PeakMemory().bytes() == expected


def test_windows_has_a_peak_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(peak_memory, "STATUS", tmp_path / "none")
    monkeypatch.setitem(sys.modules, "resource", None)  # its import fails, as on Windows
    monkeypatch.setattr(psutil.Process, "memory_info", lambda _: SimpleNamespace(rss=5, peak_wset=7))
    assert PeakMemory().bytes() == 7
    monkeypatch.setattr(psutil.Process, "memory_info", lambda _: SimpleNamespace(rss=5))
    assert PeakMemory().bytes() == 5

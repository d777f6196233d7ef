"""What the processor can do is known on every system: from itself, from Linux, or from numpy."""

from __future__ import annotations

import ctypes
import platform
from pathlib import Path

import numpy as np
import pytest

from edgeft.runtime.machine import built, processor

VNNI = 1 | 2 | 4 | 8  # bits of edgeft_cpu_features
on_linux_x86 = pytest.mark.skipif(
    not processor.CPUINFO.exists() or not processor.is_x86(), reason="only Linux on x86 says the same in two ways"
)


@pytest.fixture
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As on Windows: x86, and no /proc/cpuinfo."""
    monkeypatch.setattr(processor, "CPUINFO", tmp_path / "none")
    monkeypatch.setattr(platform, "machine", lambda: "AMD64")


def bits(monkeypatch: pytest.MonkeyPatch, value: int) -> None:
    monkeypatch.setattr(processor, "call_library", lambda _: value)


@on_linux_x86
@pytest.mark.skipif(not built.call_library("edgeft_cpu_features"), reason="the library wasn't built")
def test_the_processor_says_what_linux_says() -> None:
    assert processor.sets_by_cpuid() == processor.sets_by_cpuinfo(processor.CPUINFO)


@pytest.mark.usefixtures("elsewhere")
@pytest.mark.parametrize(
    ("features", "sets", "exact"),
    [
        (VNNI, ["avx2", "avx512f", "avx512_vnni"], False),
        (1 | 2 | 16, ["avx2", "avx_vnni"], False),
        (1 | 2, ["avx2"], True),
    ],
)
def test_vnni_is_seen_without_cpuinfo(
    monkeypatch: pytest.MonkeyPatch, features: int, sets: list[str], exact: bool
) -> None:
    bits(monkeypatch, features)
    assert processor.instruction_sets() == sets
    assert processor.saturates.__wrapped__() is exact


@pytest.mark.usefixtures("elsewhere")
@pytest.mark.parametrize(
    ("baseline", "found", "sets"),
    [
        (["X86_V2"], ["X86_V3"], ["avx2"]),
        (["X86_V2"], ["X86_V3", "X86_V4", "AVX512_ICL"], ["avx2", "avx512f", "avx512_vnni"]),
        (["SSE", "SSE2", "SSE3"], ["AVX2", "AVX512F", "AVX512_CLX"], ["avx2", "avx512f", "avx512_vnni"]),
        (["NEON", "ASIMD"], ["ASIMDDP"], ["neon", "dotprod"]),
    ],
)
def test_numpy_is_asked_where_nobody_else_knows(
    monkeypatch: pytest.MonkeyPatch, baseline: list[str], found: list[str], sets: list[str]
) -> None:
    bits(monkeypatch, 0)
    config = {"SIMD Extensions": {"baseline": baseline, "found": found, "not found": ["AVX512_SPR"]}}
    monkeypatch.setattr(np, "show_config", lambda mode: config)
    assert processor.instruction_sets() == sets


@on_linux_x86
def test_numpy_names_a_set_that_linux_names_too() -> None:
    known = processor.sets_by_numpy()
    assert known
    assert set(known) <= set(processor.sets_by_cpuinfo(processor.CPUINFO))


def test_a_library_of_an_older_edgeft_knows_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(built, "library_file", lambda: Path(ctypes.__file__).with_name("none.so"))
    assert built.call_library("edgeft_cpu_features") == 0
    if platform.system() == "Linux":
        monkeypatch.setattr(built, "library_file", lambda: Path("libc.so.6"))
        assert built.call_library("edgeft_cpu_features") == 0


def test_each_bit_is_the_one_that_c_sets() -> None:
    header = (Path(built.__file__).parents[1] / "native" / "platform.h").read_text(encoding="utf-8")
    for bit, name in processor.CPUID_BITS.items():
        assert f"CPU_{name.upper()} = {bit}," in header

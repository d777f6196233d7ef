"""The machine is described by what decides a latency, and by nothing that names it."""

from __future__ import annotations

import getpass
import json
import platform
from pathlib import Path

import pytest

from edgeft.bench import machine
from edgeft.runtime.machine import memory, processor


def test_describes_without_naming() -> None:
    found = machine.describe()
    assert set(found) == {
        "processor", "architecture", "cores", "instruction_sets", "memory_bytes", "os", "versions",
    }  # fmt: skip
    assert {"python", "numpy", "onnxruntime"} <= set(found["versions"])
    assert 1 <= found["cores"]["usable"] <= found["cores"]["logical"]
    assert found["memory_bytes"] > 1e6
    text = json.dumps(found)
    assert str(Path.home()) not in text or str(Path.home()) == "/"
    for secret in (platform.node(), getpass.getuser()):
        assert f'"{secret}"' not in text


@pytest.mark.parametrize(
    ("cpuinfo", "name", "sets"),
    [
        ("model name\t: AMD  EPYC\nflags\t: fpu avx2 avx512_vnni\n", "AMD EPYC", ["avx2", "avx512_vnni"]),
        ("model name : X\nflags : avx2 avx_vnni amx_int8\n", "X", ["avx2", "avx_vnni", "amx_int8"]),
        ("processor : 0\nFeatures : fp asimd asimddp\nModel : Some Board\n", "Some Board", ["neon", "dotprod"]),
    ],
)
def test_reads_the_processor(tmp_path: Path, cpuinfo: str, name: str, sets: list[str]) -> None:
    file = tmp_path / "cpuinfo"
    file.write_text(cpuinfo)
    assert machine.processor(file) == name
    assert processor.instruction_sets(file) == sets


def test_a_machine_without_cpuinfo_still_has_a_name(tmp_path: Path) -> None:
    assert machine.processor(tmp_path / "none")
    assert processor.instruction_sets(tmp_path / "none") == []


@pytest.mark.parametrize("file", ["memory.max", "memory/memory.limit_in_bytes"])
def test_memory_limit_of_the_container(tmp_path: Path, file: str) -> None:
    whole = memory.memory_bytes(tmp_path)
    (tmp_path / file).parent.mkdir(exist_ok=True)
    (tmp_path / file).write_text("64000000\n")
    assert memory.memory_bytes(tmp_path) == 64_000_000
    for unlimited in ("max", "9223372036854771712"):
        (tmp_path / file).write_text(unlimited)
        assert memory.memory_bytes(tmp_path) == whole

"""The kernels' own tests once more, with the C sources built under the address and undefined-behaviour sanitizers.

Plain C stands for the instructions (tests/runtime/emulated), so that any processor runs these kernels; one that has
the instructions runs them, too.
"""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from edgeft.runtime.machine import processor

ROOT = Path(__file__).parents[2]
LOG = ROOT / "build" / "asan.log"
SOURCES = sorted((ROOT / "edgeft" / "runtime" / "native").glob("*.c"))
FLAGS = ("-O1", "-g", "-std=c11", "-Wno-psabi", "-fno-omit-frame-pointer", "-fPIC", "-shared")
SANITIZERS = ("-fsanitize=address,undefined", "-fno-sanitize-recover=undefined")
EMULATED = ("-DEDGEFT_EMULATED", "-DKERNEL=", f"-I{ROOT / 'tests' / 'runtime' / 'emulated'}")
COMPILER = shutil.which("gcc")

# Reads 16 floats of a row that has 5, which a library without a sanitizer does in silence.
OVERRUN = """
import ctypes, sys
libc, kernels = ctypes.CDLL(None), ctypes.CDLL(sys.argv[1])
libc.malloc.restype = ctypes.c_void_p
row, rest = libc.malloc(20), [ctypes.c_void_p(libc.malloc(256)) for _ in range(4)]
kernels.quantize_rows(ctypes.c_void_p(row), *rest, ctypes.c_size_t(1), ctypes.c_size_t(16))
print("nothing happened")
"""


def preloaded() -> str | None:
    """The libraries that have to be loaded first; None where gcc hasn't any.

    That of C++ is one: without it the sanitizer aborts at onnxruntime's first exception, for it looked for the function
    that throws before there was one.
    """
    if COMPILER is None or platform.system() != "Linux":
        return None
    paths = []
    for name in ("libasan.so", "libstdc++.so.6"):
        command = [COMPILER, f"-print-file-name={name}"]
        paths.append(subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip())
    return ":".join(paths) if all(Path(path).is_absolute() and Path(path).exists() for path in paths) else None


PRELOADED = preloaded()
pytestmark = pytest.mark.skipif(PRELOADED is None, reason="needs Linux, gcc and its libasan")
has_instructions = "avx512_vnni" in processor.instruction_sets()


def build(folder: Path, flags: tuple[str, ...]) -> Path:
    assert COMPILER is not None
    library = folder / "_kernels.abi3.so"
    command = [COMPILER, *FLAGS, *SANITIZERS, *flags, *map(str, SOURCES), "-o", str(library), "-lm"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return library


def run_sanitized(arguments: list[str], kernels: Path) -> subprocess.CompletedProcess[str]:
    environment = {
        **os.environ,
        "LD_PRELOAD": str(PRELOADED),
        "ASAN_OPTIONS": "detect_leaks=0",  # Python and onnxruntime hold memory to the end
        "UBSAN_OPTIONS": "print_stacktrace=1",
        "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "tests")]),
        "EDGEFT_KERNELS": str(kernels.parent),
    }
    command = [sys.executable, *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=300, check=False, cwd=ROOT, env=environment)


@pytest.fixture(scope="module")
def emulated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(tmp_path_factory.mktemp("emulated"), EMULATED)


def test_the_kernels_tests_pass_under_the_sanitizers(emulated: Path) -> None:
    check_kernels(emulated, "plain C for the instructions")


@pytest.mark.skipif(not has_instructions, reason="this processor lacks AVX-512 VNNI")
def test_they_pass_with_this_processors_instructions(tmp_path: Path) -> None:
    check_kernels(build(tmp_path, ()), "this processor's instructions")


def check_kernels(library: Path, title: str) -> None:
    tests = str(ROOT / "tests" / "runtime" / "test_kernels.py")
    done = run_sanitized(["-m", "pytest", "-p", "support_kernels", "-p", "no:cacheprovider", "-qs", tests], library)
    LOG.parent.mkdir(exist_ok=True)
    with LOG.open("a", encoding="utf-8") as log:
        log.write(f"{title}: exit code {done.returncode}\n{done.stdout}\n{done.stderr}\n")
    assert done.returncode == 0, (done.stdout + done.stderr)[-4000:]
    assert " skipped" not in done.stdout, done.stdout[-2000:]
    assert "runtime error" not in done.stderr
    assert "AddressSanitizer" not in done.stderr


def test_the_sanitizer_sees_what_these_kernels_do(emulated: Path) -> None:
    done = run_sanitized(["-c", OVERRUN, str(emulated)], emulated)
    assert done.returncode != 0
    assert "heap-buffer-overflow" in done.stderr
    assert "quantize_rows" in done.stderr
    assert "nothing happened" not in done.stdout

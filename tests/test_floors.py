"""The device's rooms work on a machine without the training libraries."""

from __future__ import annotations

import subprocess
import sys

import pytest

BLOCKED = ("torch", "transformers", "datasets", "peft", "accelerate", "sklearn", "onnx", "optimum", "pyarrow", "pandas")
FLOOR_0 = ("errors", "progress", "tasks", "terminal", "recipe", "stage", "artifact")
ROOMS = (
    "edgeft",
    *(f"edgeft.{name}" for name in FLOOR_0),
    "edgeft.runtime",
    "edgeft.serve",
    "edgeft.bench",
    "edgeft.cli",
)

PROGRAM = """
import importlib, sys

class Block:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in BLOCKED:
            raise ModuleNotFoundError(f"{name} is blocked", name=name)

BLOCKED = sys.argv[2].split(",")
sys.meta_path.insert(0, Block())
for name in sys.argv[1].split(","):
    importlib.import_module(name)
"""


def imported(modules: tuple[str, ...], blocked: tuple[str, ...]) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", PROGRAM, ",".join(modules), ",".join(blocked)]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)


@pytest.mark.parametrize("room", ROOMS)
def test_a_room_imports_without_the_training_libraries_and_in_silence(room: str) -> None:
    done = imported((room,), BLOCKED)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_the_first_floor_up_needs_neither_engine_nor_server() -> None:
    modules = ("edgeft", *(f"edgeft.{name}" for name in FLOOR_0))
    done = imported(modules, (*BLOCKED, "onnxruntime", "litestar", "uvicorn", "tokenizers"))
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("package", ["litestar", "uvicorn"])
def test_the_server_without_its_extra_says_which_one(package: str) -> None:
    done = imported(("edgeft.serve",), (package,))
    assert done.returncode == 1
    assert f"{package} is not installed and is needed to serve over HTTP: pip install 'edgeft[serve]'" in done.stderr


ELSEWHERE = """
import builtins, importlib, pkgutil, sys

usual = builtins.__import__

def portable(name, globals=None, *rest):
    asks = (globals or {}).get("__name__", "")
    if name in ABSENT and asks.split(".")[0] == "edgeft":
        raise ModuleNotFoundError(f"{asks} needs {name}, which Windows lacks", name=name)
    return usual(name, globals, *rest)

ABSENT = sys.argv[2].split(",")
builtins.__import__ = portable
for room in sys.argv[1].split(","):
    module = importlib.import_module(room)
    for inner in pkgutil.walk_packages(getattr(module, "__path__", ()), f"{room}."):
        if inner.name not in ("edgeft.bench.harness.subjects.device", "edgeft.runtime._kernels"):  # a program
            importlib.import_module(inner.name)
    print(room, sum(name.startswith("edgeft") for name in sys.modules))
"""


def imported_without(rooms: tuple[str, ...], absent: tuple[str, ...]) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", ELSEWHERE, ",".join(rooms), ",".join(absent)]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)


def test_what_windows_lacks_is_never_needed_to_import() -> None:
    rooms = tuple(room for room in ROOMS if room != "edgeft")
    done = imported_without(rooms, ("fcntl", "resource", "pwd", "grp", "termios", "posix"))
    assert done.returncode == 0, done.stderr
    assert int(done.stdout.split()[-1]) > 80
    assert "edgeft.peak_memory needs psutil" in imported_without(("edgeft.stage",), ("psutil",)).stderr


def test_the_block_blocks() -> None:
    assert "torch is blocked" in imported(("torch",), BLOCKED).stderr

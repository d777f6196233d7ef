"""The command line in processes that start at once: forked from a server that has imported the libraries.

A process of its own that imports torch and transformers takes some seconds before its first line. What is tested is
seldom that start: kills, signals, exit codes and several processes of one training are the same in a forked process.
"""

from __future__ import annotations

import contextlib
import gc
import multiprocessing
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from support_quick import shortcuts

LIBRARIES = (
    "torch.distributed",
    "transformers",
    "accelerate",
    "peft",
    "onnxruntime",
    "onnxscript",
    "sklearn",
    "optuna",
)
STREAMS = ("stdin", "stdout", "stderr")
WAIT_SECONDS = 240.0

_SERVER = multiprocessing.get_context("forkserver")
_SERVER.set_forkserver_preload(list(LIBRARIES))


class Forked:
    """A command of edgeft in a process of its own; a context manager that leaves no process behind.

    Args:
        arguments: of the command line.
        cwd: its working folder; None: this process'.
        stdin: what it reads.
        environment: variables beside those of this process.
    """

    def __init__(
        self,
        *arguments: object,
        cwd: Path | None = None,
        stdin: str | None = None,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self._folder = tempfile.TemporaryDirectory()
        for name in STREAMS:
            self._stream(name).write_text((stdin or "") if name == "stdin" else "", encoding="utf-8")
        self._process = _SERVER.Process(
            target=_run_command,
            args=(
                list(map(str, arguments)),
                self._folder.name,
                str(cwd or Path.cwd()),
                {**os.environ, **(environment or {})},
            ),
        )
        self._process.start()

    def __enter__(self) -> Forked:
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()
        self._process.join()
        self._folder.cleanup()

    def _stream(self, name: str) -> Path:
        return Path(self._folder.name) / name

    @property
    def pid(self) -> int:
        """Of the process."""
        assert self._process.pid is not None
        return self._process.pid

    @property
    def stdout(self) -> str:
        """What it has printed so far."""
        return self._stream("stdout").read_text(encoding="utf-8")

    @property
    def stderr(self) -> str:
        """What it has said so far."""
        return self._stream("stderr").read_text(encoding="utf-8")

    def poll(self) -> int | None:
        """The exit code, negative after a signal; None while it runs."""
        return self._process.exitcode

    def wait(self, seconds: float = WAIT_SECONDS) -> int:
        """The exit code, once it has ended.

        Raises:
            subprocess.TimeoutExpired: it still runs after so many seconds.
        """
        self._process.join(seconds)
        code = self.poll()
        if code is None:
            raise subprocess.TimeoutExpired("edgeft", seconds)
        return code

    def send_signal(self, number: signal.Signals) -> None:
        """Send a signal, if it still runs."""
        if self.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, number)

    def kill(self) -> None:
        """End it as `kill -9` does."""
        self.send_signal(signal.SIGKILL)

    def wait_until(self, holds: Callable[[], bool]) -> None:
        """Wait for something that it does; it must not end before."""
        deadline = time.monotonic() + WAIT_SECONDS
        while not holds():
            assert self.poll() is None, self.stderr[-3000:]
            assert time.monotonic() < deadline, self.stderr[-3000:]
            time.sleep(0.01)


def _end_with_the_tests() -> None:
    """Wait for the process of the tests to end, however that happens, and end then."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os.kill(os.getpid(), signal.SIGKILL)


def _run_command(arguments: list[str], folder: str, cwd: str, environment: dict[str, str]) -> None:
    threading.Thread(target=_end_with_the_tests, daemon=True).start()
    for number, name in enumerate(STREAMS):
        stream = os.open(Path(folder) / name, os.O_RDWR | (os.O_APPEND if number else 0))
        os.dup2(stream, number)
        os.close(stream)
    sys.stdin = open(0, encoding="utf-8", closefd=False)  # noqa: SIM115  multiprocessing has put /dev/null there
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(cwd)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    for target, name, value in shortcuts():
        setattr(target, name, value)
    gc.freeze()
    sys.argv = ["edgeft", *arguments]
    from edgeft.cli import main

    main()


def edgeft(
    *arguments: object, cwd: Path | None = None, timeout: float = 600, stdin: str | None = None
) -> subprocess.CompletedProcess[str]:
    """Run a command to its end."""
    with Forked(*arguments, cwd=cwd, stdin=stdin) as process:
        code = process.wait(timeout)
        return subprocess.CompletedProcess(["edgeft", *map(str, arguments)], code, process.stdout, process.stderr)


@contextlib.contextmanager
def together(*arguments: object, count: int = 2) -> Iterator[list[Forked]]:
    """A command in several processes that know of each other, as torchrun starts them; the first has rank 0."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    known = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "WORLD_SIZE": str(count), "LOCAL_WORLD_SIZE": str(count)}
    with contextlib.ExitStack() as stack:
        yield [
            stack.enter_context(Forked(*arguments, environment={**known, "RANK": str(rank), "LOCAL_RANK": str(rank)}))
            for rank in range(count)
        ]

"""What runs on a device: sent over ssh as source, it needs Python and edgeft's `[cpu]` there, and leaves nothing.

Standard input has a line of JSON (what to do), a tar archive of so many bytes, and then stays open: when it ends, the
other side is gone and the measurement stops. Standard output is one JSON object a line: `say`, `refused` or `result`.
"""

from __future__ import annotations

import contextlib
import importlib.metadata
import io
import json
import os
import shutil
import signal
import subprocess
import sys
import tarfile
import tempfile
import threading
from typing import Any

LEAST_PYTHON = (3, 11)
ENDING = [getattr(signal, name) for name in ("SIGTERM", "SIGHUP", "SIGINT") if hasattr(signal, name)]
SPARE = 50_000_000  # bytes beside what is copied


def tell(**line: object) -> None:
    """One line for the other side."""
    print(json.dumps(line), flush=True)


def missing(request: dict[str, Any]) -> str | None:
    """What the device lacks, in words; nothing: it can measure."""
    if sys.version_info < LEAST_PYTHON:
        return "Python {}.{} there, 3.11 or newer is needed".format(*sys.version_info[:2])
    if not hasattr(os, "fork"):
        return f"{sys.platform} there; what cleans up behind a measurement needs Linux or macOS"
    absent = []
    for package in request["packages"]:
        names = package.split("|")
        if not any(installed(name) for name in names):
            absent.append(names[0])
    if absent:
        return "{} not installed there; pip install 'edgeft[cpu]'".format(" and ".join(absent))
    if installed("edgeft") != request["version"]:
        return "edgeft {} there, {} here; install the same".format(installed("edgeft"), request["version"])
    free, needed = shutil.disk_usage(tempfile.gettempdir()).free, 2 * request["bytes"] + SPARE
    if free < needed:
        return f"{free / 1e6:.0f} MB free in {tempfile.gettempdir()} there, {needed / 1e6:.0f} MB needed"
    return None


def installed(name: str) -> str | None:
    """The version of a package, None where it isn't there."""
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def start_watchdog(folder: str) -> int:
    """Fork a watchdog that kills registered process groups and removes the folder once this process has ended.

    Returns:
        The write end of a pipe; each line registers a process group.
    """
    reads, writes = os.pipe()
    if os.fork():
        os.close(reads)
        return writes
    os.setsid()
    os.close(writes)
    received = b""
    while piece := os.read(reads, 1 << 10):
        received += piece
    for group in received.split():
        with contextlib.suppress(OSError):
            os.killpg(int(group), signal.SIGKILL)
    shutil.rmtree(folder, ignore_errors=True)
    os._exit(0)


def measured(request: dict[str, Any], folder: str, guard: int) -> None:
    """Run the command in the folder and tell what it says; its JSON document at the end."""
    words = [sys.executable, "-c", "import edgeft.cli; edgeft.cli.main()", *request["words"]]
    # No signal between the child's start and the moment at which the guard knows of it.
    signal.pthread_sigmask(signal.SIG_BLOCK, ENDING)
    child = subprocess.Popen(
        words,
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        stdin=subprocess.DEVNULL,
        start_new_session=True,
        env={**os.environ, "TMPDIR": folder},
    )
    os.write(guard, b"%d\n" % child.pid)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, ENDING)

    def gone() -> None:
        while os.read(0, 1 << 16):  # not through a buffer, whose lock the end of this process would want
            pass
        stop()

    def stop(*_: object) -> None:
        with contextlib.suppress(OSError):
            os.killpg(child.pid, signal.SIGKILL)

    for number in ENDING:
        signal.signal(number, stop)
    threading.Thread(target=gone, daemon=True).start()
    last = [""]

    def progress() -> None:
        assert child.stderr is not None
        for line in child.stderr:
            last[0] = line.decode(errors="replace").rstrip()
            with contextlib.suppress(OSError):
                tell(say=last[0])

    reader = threading.Thread(target=progress)
    reader.start()
    assert child.stdout is not None
    said = child.stdout.read().decode()
    reader.join()
    code = child.wait()
    if code < 0:
        why = ": out of memory?" if -code == signal.SIGKILL else ""
        tell(refused=f"signal {-code} ended the measurement there{why}")
    elif code:
        tell(refused=last[0] or f"bench ended with exit code {code}")
    else:
        tell(result=json.loads(said.strip().splitlines()[-1]))


def main() -> None:
    """Do what standard input says."""
    request = json.loads(sys.stdin.buffer.readline())
    lacks = missing(request)
    if lacks:
        tell(refused=lacks)
        return
    for number in ENDING:
        signal.signal(number, lambda *_: sys.exit(1))
    tell(ready=True)
    folder = tempfile.mkdtemp(prefix="edgeft-bench-")
    guard = start_watchdog(folder)
    try:
        packed = sys.stdin.buffer.read(request["bytes"])
        if len(packed) == request["bytes"]:
            with tarfile.open(fileobj=io.BytesIO(packed)) as archive:
                if hasattr(tarfile, "data_filter"):  # not in Python 3.11.2
                    archive.extraction_filter = tarfile.data_filter
                archive.extractall(folder)
            del packed
            measured(request, folder, guard)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


main()

"""Measuring on another machine over ssh: the artifact goes there, the document comes back, nothing stays."""

from __future__ import annotations

import contextlib
import io
import json
import os
import selectors
import subprocess
import tarfile
import tempfile
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any
from urllib.parse import urlsplit

from edgeft.errors import EdgeftError, UserError
from edgeft.progress import say
from edgeft.version import __version__

HARNESS = Path(__file__).parent / "device.py"
PACKAGES = ("edgeft", "numpy", "onnxruntime|onnxruntime-gpu", "tokenizers")  # any of those with a bar between them
SSH = ("ssh", "-o", "BatchMode=yes", "-o", "ConnectTimeout=15", "-o", "ServerAliveInterval=15")
SILENT_SECONDS, CLEANING_SECONDS = 1800.0, 20.0


@dataclass(frozen=True, kw_only=True)
class Target:
    """A machine.

    Attributes:
        host: name or address.
        user: there; None: as ssh's configuration says.
        port: of its sshd; None likewise.
        python: the interpreter there.
        options: further ones of ssh, as in ("-i", "key").
    """

    host: str
    user: str | None = None
    port: int | None = None
    python: str = "python3"
    options: tuple[str, ...] = ()

    @property
    def command(self) -> list[str]:
        """Of ssh, up to what is run there: the harness comes first on standard input, so many bytes."""
        port = ["-p", str(self.port)] if self.port else []
        place = f"{self.user}@{self.host}" if self.user else self.host
        return [*SSH, *self.options, *port, "--", place]


def target(text: str, python: str, options: Sequence[str] = ()) -> Target:
    """As in ssh://user@host:port.

    Raises:
        UserError: it is no such address.
    """
    parts = urlsplit(text)
    try:
        host, port = parts.hostname, parts.port
    except ValueError:
        host, port = None, None
    if parts.password is not None:
        raise UserError("--target: ssh asks for no password here; use a key, and leave the password out")
    if parts.scheme != "ssh" or not host or parts.path not in ("", "/"):
        raise UserError(f"--target {text}: expected ssh://user@host or ssh://user@host:port")
    return Target(host=host, user=parts.username, port=port, python=python, options=tuple(options))


def packed(files: dict[str, Path]) -> bytes:
    """A tar archive of files and folders under other names."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", dereference=True) as archive:
        for name, path in files.items():
            archive.add(path, arcname=name)
    return buffer.getvalue()


def measured(there: Target, words: Sequence[str], files: dict[str, Path]) -> dict[str, Any]:
    """Run `edgeft WORDS` on a machine, beside the files, and bring its JSON document back.

    Args:
        there: the machine.
        words: of the command line, with `--json`; they name the files as `files` does.
        files: name there to path here.

    Raises:
        EdgeftError: the machine can't be reached, lacks something, or the measurement failed; one line says which.
    """
    archive, harness = packed(files), HARNESS.read_bytes()
    starter = f"import sys; exec(compile(sys.stdin.buffer.read({len(harness)}), 'edgeft', 'exec'))"
    request = {"words": [*words], "bytes": len(archive), "packages": PACKAGES, "version": __version__}
    with _process([*there.command, f'{there.python} -c "{starter}"']) as (process, heard):
        _send(process, harness + json.dumps(request).encode() + b"\n")
        for line in _lines(process, there):
            if "say" in line:
                say(f"{there.host}: {line['say']}")
            elif "ready" in line:
                threading.Thread(target=_send, args=(process, archive), daemon=True).start()
            elif "refused" in line:
                raise EdgeftError(f"{there.host}: {line['refused']}")
            elif "result" in line:
                found: dict[str, Any] = line["result"]
                return found
        raise EdgeftError(f"{there.host}: {_reason(process, heard, there)}")


@contextlib.contextmanager
def _process(command: Sequence[str]) -> Iterator[tuple[subprocess.Popen[bytes], IO[bytes]]]:
    """ssh, ended in any case, and the file of what it says beside the answers, which no pipe could hold up."""
    with tempfile.TemporaryFile() as heard:
        try:
            process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=heard)
        except FileNotFoundError:
            raise UserError("--target: there is no ssh on this machine") from None
        with process:
            try:
                yield process, heard
            finally:
                _close(process)


def _close(process: subprocess.Popen[bytes]) -> None:
    """The end of its standard input tells the other side to clean up; ssh ends when that has."""
    assert process.stdin is not None
    with contextlib.suppress(BrokenPipeError):
        process.stdin.close()
    try:
        process.wait(CLEANING_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()


def _send(process: subprocess.Popen[bytes], data: bytes) -> None:
    assert process.stdin is not None
    with contextlib.suppress(BrokenPipeError):
        process.stdin.write(data)
        process.stdin.flush()


def _lines(process: subprocess.Popen[bytes], there: Target) -> Iterator[dict[str, Any]]:
    """The JSON objects that it says; what a login shell prints isn't one."""
    assert process.stdout is not None
    source, rest = process.stdout.fileno(), b""
    with selectors.DefaultSelector() as ready:
        ready.register(source, selectors.EVENT_READ)
        while ready.select(SILENT_SECONDS):
            if not (piece := os.read(source, 1 << 16)):  # not through a buffer, which `select` doesn't see
                return
            *lines, rest = (rest + piece).split(b"\n")
            for line in lines:
                with contextlib.suppress(ValueError):
                    found = json.loads(line)
                    if isinstance(found, dict):
                        yield found
    raise EdgeftError(f"{there.host}: silent for {SILENT_SECONDS:g} s")


def _reason(process: subprocess.Popen[bytes], heard: IO[bytes], there: Target) -> str:
    """Why ssh ended, in one line."""
    code = process.wait()
    heard.seek(0)
    said = heard.read().decode(errors="replace").strip().splitlines()
    if code == 127:
        return f"no {there.python} there; name one with --target-python"
    last = said[-1].strip() if said else f"ssh ended with exit code {code}"
    return last if code == 255 else f"the harness ended with exit code {code}: {last}"

"""Measuring on another machine over ssh: the artifact goes there, the document comes back, nothing stays."""

from __future__ import annotations

import contextlib
import io
import json
import os
import queue
import subprocess
import tarfile
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from rich.console import Console

from edgeft.errors import EdgeftError, UserError
from edgeft.progress import say
from edgeft.report import bench_report, terminal
from edgeft.version import __version__

HARNESS = Path(__file__).parent / "device.py"
PACKAGES = ("edgeft", "numpy", "onnxruntime|onnxruntime-gpu", "tokenizers")  # any of those with a bar between them
SSH = ("ssh", "-o", "BatchMode=yes", "-o", "ConnectTimeout=15", "-o", "ServerAliveInterval=15")
SILENT_SECONDS, CLEANING_SECONDS = 1800.0, 20.0
# Of what another machine may say: a document has some 100 kB, a measurement of an hour some thousand lines.
LINE_BYTES, ALL_BYTES, LINES = 16_000_000, 64_000_000, 100_000
SAID_BYTES = 1 << 16  # of what ssh says beside it, from its end
SHOWN = 500  # characters of a line that is shown
NESTING = 100  # lists and objects in each other
TOO_DEEP = f"an answer nests deeper than {NESTING} levels, which no measurement does"


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
        """The ssh command, up to the remote program."""
        port = ["-p", str(self.port)] if self.port else []
        address = f"{self.user}@{self.host}" if self.user else self.host
        return [*SSH, *self.options, *port, "--", address]


def parse_target(text: str, python: str, options: Sequence[str] = ()) -> Target:
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


def pack_files(files: dict[str, Path]) -> bytes:
    """A tar archive of files and folders under other names."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", dereference=True) as archive:
        for name, path in files.items():
            archive.add(path, arcname=name)
    return buffer.getvalue()


def measure_remotely(machine: Target, words: Sequence[str], files: dict[str, Path]) -> dict[str, Any]:
    """Run `edgeft WORDS` on a machine, beside the files, and bring its JSON document back.

    Args:
        machine: the machine.
        words: of the command line, with `--json`; they name the files as `files` does.
        files: name there to path here.

    Raises:
        EdgeftError: the machine can't be reached, lacks something, or the measurement failed; one line says which.
    """
    archive, harness = pack_files(files), HARNESS.read_bytes()
    starter = f"import sys; exec(compile(sys.stdin.buffer.read({len(harness)}), 'edgeft', 'exec'))"
    request = {"words": [*words], "bytes": len(archive), "packages": PACKAGES, "version": __version__}
    with _process([*machine.command, f'{machine.python} -c "{starter}"']) as (process, heard):
        _send(process, harness + json.dumps(request).encode() + b"\n")
        for line in _lines(process, machine):
            if "say" in line:
                say(f"{machine.host}: {shorten(line['say'])}")
            elif "ready" in line:
                threading.Thread(target=_send, args=(process, archive), daemon=True).start()
            elif "refused" in line:
                raise EdgeftError(f"{machine.host}: {shorten(line['refused'])}")
            elif "result" in line:
                return _document(line["result"], machine)
        raise EdgeftError(f"{machine.host}: {_reason(process, heard, machine)}")


@contextlib.contextmanager
def _process(command: Sequence[str]) -> Iterator[tuple[subprocess.Popen[bytes], ErrorOutput]]:
    """Run ssh, ended in any case, with its error output."""
    try:
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    except FileNotFoundError:
        raise UserError("--target: there is no ssh on this machine") from None
    with process:
        try:
            yield process, ErrorOutput(process)
        finally:
            _close(process)


class ErrorOutput:
    """The last lines of a process's standard error, read as they come so that no pipe fills up."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        assert process.stderr is not None
        self._end = bytearray()
        self._thread = threading.Thread(target=self._read, args=(process.stderr.fileno(),), daemon=True)
        self._thread.start()

    def _read(self, source: int) -> None:
        with contextlib.suppress(OSError):  # closed, for the measurement is over
            while piece := os.read(source, 1 << 16):
                self._end += piece
                del self._end[:-SAID_BYTES]

    def lines(self) -> list[str]:
        """Its last ones, of a process that has ended."""
        self._thread.join(CLEANING_SECONDS)
        return self._end.decode(errors="replace").strip().splitlines()


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


def shorten(said: object) -> str:
    """Shorten text from another machine to one line of bounded length."""
    line = " ".join(str(said).split())
    return line if len(line) <= SHOWN else f"{line[:SHOWN]}... ({len(line):,} characters)"


def _document(result: object, machine: Target) -> dict[str, Any]:
    """A measurement, where it can be shown as one.

    Raises:
        EdgeftError: it is something else.
    """
    if not isinstance(result, dict):
        raise EdgeftError(f"{machine.host}: its document is no object: {shorten(result)}")
    try:
        terminal.show(bench_report.report(result), Console(file=io.StringIO(), width=200))
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
        raise EdgeftError(
            f"{machine.host}: its document is no measurement: {type(error).__name__}: {shorten(error)}"
        ) from None
    return result


def _lines(process: subprocess.Popen[bytes], machine: Target) -> Iterator[dict[str, Any]]:
    """The JSON objects that it says; what a login shell prints isn't one.

    Raises:
        EdgeftError: it is silent for too long, or says more than any measurement does.
    """
    assert process.stdout is not None
    pieces: queue.Queue[bytes] = queue.Queue(maxsize=4)  # a thread reads: `select` takes no pipe on Windows
    threading.Thread(target=_read_pieces, args=(process.stdout.fileno(), pieces), daemon=True).start()
    rest, heard, count = b"", 0, 0
    while piece := _next_piece(pieces, machine):
        *lines, rest = (rest + piece).split(b"\n")
        heard, count = heard + len(piece), count + len(lines)
        for limit, unit, is_over in (
            (LINE_BYTES, "bytes in one line", max(map(len, [rest, *lines])) > LINE_BYTES),
            (ALL_BYTES, "bytes", heard > ALL_BYTES),
            (LINES, "lines", count > LINES),
        ):
            if is_over:
                process.kill()  # its other end would wait for someone to read
                raise EdgeftError(f"{machine.host}: says more than {limit:,} {unit}, which no measurement does")
        yield from filter(None, (_object(line, machine) for line in lines))


def _read_pieces(source: int, pieces: queue.Queue[bytes]) -> None:
    """Put output on the queue as it comes; empty bytes at the end."""
    piece = b"-"
    while piece:
        try:
            piece = os.read(source, 1 << 16)
        except OSError:  # closed, for the measurement is over
            piece = b""
        pieces.put(piece)


def _next_piece(pieces: queue.Queue[bytes], machine: Target) -> bytes:
    try:
        return pieces.get(timeout=SILENT_SECONDS)
    except queue.Empty:
        raise EdgeftError(f"{machine.host}: silent for {SILENT_SECONDS:g} s") from None


def _object(line: bytes, machine: Target) -> dict[str, Any] | None:
    """The JSON object of a line, None where it is none.

    Raises:
        EdgeftError: it is one that nests too deep.
    """
    try:
        answer = json.loads(line)
    except ValueError:
        return None
    except RecursionError:
        raise EdgeftError(f"{machine.host}: {TOO_DEEP}") from None
    if _nests_deeper(answer, NESTING):
        raise EdgeftError(f"{machine.host}: {TOO_DEEP}")
    return answer if isinstance(answer, dict) else None


def _nests_deeper(value: object, levels: int) -> bool:
    """Whether lists and objects nest deeper than `levels`; without recursion."""
    inside = [value]
    for _ in range(levels + 1):
        held = [
            element.values() if isinstance(element, dict) else element
            for element in inside
            if isinstance(element, dict | list)
        ]
        inside = [item for items in held for item in items]
    return bool(inside)


def _reason(process: subprocess.Popen[bytes], heard: ErrorOutput, machine: Target) -> str:
    """Why ssh ended, in one line."""
    code = process.wait()
    said = heard.lines()
    if code == 127:
        return f"no {machine.python} there; name one with --target-python"
    last = shorten(said[-1]) if said else f"ssh ended with exit code {code}"
    return last if code == 255 else f"the harness ended with exit code {code}: {last}"

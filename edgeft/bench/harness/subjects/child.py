"""The process of a subject, seen from the one that measures."""

from __future__ import annotations

import contextlib
import json
import subprocess
import tempfile
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from edgeft.bench.harness.subjects.subject import Subject
from edgeft.errors import EdgeftError, UserError

WORKER = Path(__file__).parent / "worker.py"
OPEN_SECONDS, ASK_SECONDS = 600.0, 3600.0


class Child:
    """A subject in a fresh process; a context manager that never leaves the process behind.

    Args:
        subject: what is opened.
        texts: what it is asked.

    Attributes:
        started: milliseconds of import, load and first answer.

    Raises:
        UserError: it can't be opened; the message is its own.
    """

    def __init__(self, subject: Subject, texts: Sequence[Any]) -> None:
        self.subject = subject
        self._said = tempfile.TemporaryFile()  # noqa: SIM115  closed in `close`
        self._process = subprocess.Popen(
            [subject.python, str(WORKER)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._said
        )
        opening = {"opener": subject.opener, "options": subject.options, "imports": subject.imports}
        try:
            self.started: dict[str, float] = self._request({**opening, "texts": list(texts)}, OPEN_SECONDS)
        except EdgeftError as error:
            self.close()
            raise UserError(str(error)) from None

    def __enter__(self) -> Child:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def pid(self) -> int:
        """Of the process."""
        return self._process.pid

    def close(self) -> None:
        """End the process."""
        self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout, self._said):
            with contextlib.suppress(BrokenPipeError):  # what it was told last and never read
                if pipe:
                    pipe.close()

    def request(self, do: str, within: float = ASK_SECONDS, **options: Any) -> dict[str, Any]:
        """Have it do something and wait for the answer.

        Raises:
            EdgeftError: it failed, ended, or took longer than `within` seconds.
        """
        return self._request({"do": do, **options}, within)

    def _request(self, message: dict[str, Any], within: float) -> dict[str, Any]:
        stdin, stdout = self._process.stdin, self._process.stdout
        assert stdin is not None
        assert stdout is not None
        try:
            stdin.write(json.dumps(message).encode() + b"\n")
            stdin.flush()
        except BrokenPipeError:
            raise EdgeftError(self._ended()) from None
        late = threading.Event()
        timer = threading.Timer(within, self._end_late, (late,))  # a pipe can't be waited for on Windows
        timer.start()
        try:
            line = stdout.readline()
        finally:
            timer.cancel()
        if late.is_set():
            raise EdgeftError(f"{self.subject.name}: no answer within {within:g} s")
        if not line:
            raise EdgeftError(self._ended())
        answer: dict[str, Any] = json.loads(line)
        if "error" in answer:
            raise EdgeftError(f"{self.subject.name}: {answer['error']}")
        return answer

    def _end_late(self, late: threading.Event) -> None:
        late.set()
        self._process.kill()

    def _ended(self) -> str:
        code = self._process.wait()
        self._said.seek(0)
        last = (self._said.read().decode(errors="replace").strip().splitlines() or ["no message"])[-1]
        return f"{self.subject.name}: its process ended with exit code {code}: {last}"

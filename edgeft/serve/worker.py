"""Inference threads behind a bounded queue: every job gets an answer or an error, and health is reported."""

from __future__ import annotations

import threading
import time
import traceback
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path
from queue import SimpleQueue
from typing import Any

from edgeft.terminal.printing import say

UNHEALTHY_FAILURES = 3  # failures in a row

Job = Callable[[], Any]


class OverloadedError(Exception):
    """The queue is full."""


class InferenceError(Exception):
    """A job failed; the message names the kind and the place, never the foreign message, which could quote a text."""


class Worker:
    """Threads behind a bounded queue.

    They are daemons, so that an inference that never returns can't keep the process from ending.

    Args:
        threads: jobs that run at the same time.
        max_waiting: jobs queued or running.
        stuck_seconds: a job that runs longer makes the worker unhealthy.
    """

    def __init__(self, threads: int, max_waiting: int, stuck_seconds: float) -> None:
        self._jobs: SimpleQueue[tuple[Future[Any], Job] | None] = SimpleQueue()
        self._slots = threading.BoundedSemaphore(max_waiting)
        self._stuck_seconds = stuck_seconds
        self._failures = 0
        self._started: dict[int, float] = {}  # thread id -> when its job began
        self._threads = [
            threading.Thread(target=self._run, name=f"inference-{number}", daemon=True) for number in range(threads)
        ]

    def start(self) -> None:
        """Start the threads."""
        for thread in self._threads:
            thread.start()

    def stop(self, seconds: float) -> bool:
        """Let the queued jobs finish, for at most `seconds`; return whether all threads ended."""
        for _ in self._threads:
            self._jobs.put(None)
        deadline = time.monotonic() + seconds
        for thread in self._threads:
            thread.join(max(0.0, deadline - time.monotonic()))
        return not any(thread.is_alive() for thread in self._threads)

    def submit(self, job: Job) -> Future[Any]:
        """Queue a job. A cancelled one keeps its slot until a thread passes it by, which bounds the queue's memory.

        Raises:
            OverloadedError: no slot is free.
        """
        if not self._slots.acquire(blocking=False):
            raise OverloadedError
        future: Future[Any] = Future()
        self._jobs.put((future, job))
        return future

    def problem(self) -> str | None:
        """Why the worker is not healthy, None where it is."""
        if self._failures >= UNHEALTHY_FAILURES:
            return f"the last {self._failures} inferences failed"
        oldest = min(list(self._started.values()), default=None)
        seconds = time.monotonic() - oldest if oldest is not None else 0.0
        return f"an inference has been running for {seconds:.0f} s" if seconds > self._stuck_seconds else None

    def _run(self) -> None:
        while (item := self._jobs.get()) is not None:
            future, job = item
            try:
                if future.set_running_or_notify_cancel():
                    self._answer(future, job)
            finally:
                self._slots.release()
            del item, future, job  # a waiting thread keeps no text alive

    def _answer(self, future: Future[Any], job: Job) -> None:
        self._started[threading.get_ident()] = time.monotonic()
        try:
            answer = job()
        except BaseException as error:  # noqa: BLE001  whatever it is, the request must hear of it
            self._failures += 1
            message = f"inference failed: {place(error)}"
            say(f"serve: {message}")
            future.set_exception(InferenceError(message))
        else:
            self._failures = 0
            future.set_result(answer)
        finally:
            del self._started[threading.get_ident()]


def place(error: BaseException) -> str:
    """The kind of an error and where it was raised, as in "ValueError at engine.py:41"; never its message."""
    frame = traceback.extract_tb(error.__traceback__)[-1]
    return f"{type(error).__name__} at {Path(frame.filename).name}:{frame.lineno}"

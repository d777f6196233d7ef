from __future__ import annotations

import functools
import re
import threading
import time
from concurrent.futures import CancelledError, wait

import pytest

from edgeft.serve.worker import UNHEALTHY_FAILURES, InferenceError, OverloadedError, Worker


def started(threads: int = 1, max_waiting: int = 4, stuck_seconds: float = 60) -> Worker:
    worker = Worker(threads, max_waiting, stuck_seconds)
    worker.start()
    return worker


def failing() -> None:
    raise ValueError("the quoted text of a request")


def until_free(worker: Worker) -> None:
    """Slots come back just after the answer."""
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        try:
            worker.submit(lambda: None).result(30)
            return
        except OverloadedError:
            time.sleep(0.01)
    raise AssertionError("no slot came back")


def test_answers_in_order_of_submission() -> None:
    worker = started()
    futures = [worker.submit(functools.partial(int, number)) for number in range(4)]
    assert [future.result(30) for future in futures] == [0, 1, 2, 3]
    assert worker.stop(5)


def test_the_queue_is_bounded_and_slots_come_back() -> None:
    worker, gate = started(max_waiting=3), threading.Event()
    futures = [worker.submit(gate.wait) for _ in range(3)]
    with pytest.raises(OverloadedError):
        worker.submit(gate.wait)
    gate.set()
    wait(futures, 5)
    until_free(worker)
    assert worker.stop(5)


def test_a_cancelled_job_never_runs_and_keeps_its_slot_until_passed_by() -> None:
    worker, gate, ran = started(max_waiting=2), threading.Event(), threading.Event()
    first, second = worker.submit(gate.wait), worker.submit(ran.set)
    assert second.cancel()
    with pytest.raises(OverloadedError):
        worker.submit(gate.wait)
    gate.set()
    first.result(30)
    until_free(worker)
    with pytest.raises(CancelledError):
        second.result(30)
    assert not ran.is_set()
    worker.stop(5)


def test_a_failed_job_tells_kind_and_place_but_not_the_message(capsys: pytest.CaptureFixture[str]) -> None:
    worker = started()
    error = worker.submit(failing).exception(30)
    assert isinstance(error, InferenceError)
    assert str(error).startswith("inference failed: ValueError at test_serve_worker.py:")
    assert "quoted" not in str(error) + capsys.readouterr().err
    worker.stop(5)


def test_even_system_exit_fails_its_job_and_not_the_thread() -> None:
    worker = started()
    assert isinstance(worker.submit(lambda: exit(3)).exception(30), InferenceError)
    assert worker.submit(lambda: "alive").result(30) == "alive"
    worker.stop(5)


def test_health_falls_after_failures_in_a_row_and_recovers() -> None:
    worker = started()
    for _ in range(UNHEALTHY_FAILURES - 1):
        worker.submit(failing).exception(30)
    assert worker.problem() is None
    worker.submit(failing).exception(30)
    assert worker.problem() == f"the last {UNHEALTHY_FAILURES} inferences failed"
    worker.submit(lambda: None).result(30)
    assert worker.problem() is None
    worker.stop(5)


def test_a_stuck_job_makes_the_worker_unhealthy_and_stop_does_not_wait_for_it() -> None:
    worker, gate = started(stuck_seconds=0.05), threading.Event()
    worker.submit(gate.wait)
    time.sleep(0.15)
    assert re.fullmatch(r"an inference has been running for \d+ s", worker.problem() or "")
    assert not worker.stop(0.05)
    gate.set()


def test_stop_finishes_what_is_queued() -> None:
    worker = started()
    futures = [worker.submit(lambda: time.sleep(0.02)) for _ in range(4)]
    assert worker.stop(5)
    assert all(future.done() for future in futures)

"""One subject in a process of its own, asked in JSON lines: `python worker.py`, run with any Python.

The standard library is all that this file needs, so that a subject may live in an environment without edgeft. The first
line says what to open, each further one what to do; every answer is one line.
"""

from __future__ import annotations

import gc
import importlib
import importlib.util
import json
import os
import random
import sys
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

Answer = Callable[[Any], Any]


def open_subject(opener: str, options: dict[str, Any]) -> Answer:
    """Call an opener, "module:function" or "path/to/file.py:function"; it returns a function that answers one text.

    Of its attributes `many` (a list of texts at once), `labelled` (an answer to a label and its probability) and
    `facts` are read where it has them.
    """
    module_path, _, name = opener.rpartition(":")
    if module_path.endswith(".py"):
        spec = importlib.util.spec_from_file_location(Path(module_path).stem, module_path)
        if spec is None or spec.loader is None:
            raise FileNotFoundError(module_path)
        module = importlib.util.module_from_spec(spec)
        sys.path.insert(0, str(Path(module_path).parent))
        sys.modules[spec.name] = module
        spec.loader.exec_module(module)
    else:
        module = importlib.import_module(module_path)
    answer: Answer = getattr(module, name)(**options)
    return answer


class Worker:
    """A subject and its texts, in the measured process.

    Args:
        answer: the subject.
        texts: real texts, or whatever else it is asked; queries cycle through them.
    """

    def __init__(self, answer: Answer, texts: Sequence[Any]) -> None:
        self.answer = answer
        self.texts = texts
        gc.collect()
        gc.freeze()  # what was loaded is not scanned again inside of a query

    def ask(self, first: int, count: int) -> dict[str, Any]:
        """Single stream: one query after the other, from text number `first` on; `ms` of each."""
        return {"ms": [self._one(index) for index in range(first, first + count)]}

    def _one(self, index: int) -> float:
        text = self.texts[index % len(self.texts)]
        start = time.perf_counter_ns()
        self.answer(text)
        return (time.perf_counter_ns() - start) / 1e6

    def offline(self, batch: int, seconds: float) -> dict[str, Any]:
        """All texts are there: calls of `batch` texts for so long; texts answered, and seconds taken.

        No text where it can't take several at once.
        """
        many = getattr(self.answer, "many", None)
        if many is None and batch > 1:
            return {"texts": 0, "seconds": 0.0}
        many = many or self._first
        done, start = 0, time.perf_counter()
        while (elapsed := time.perf_counter() - start) < seconds or not done:
            many([self.texts[index % len(self.texts)] for index in range(done, done + batch)])
            done += batch
        return {"texts": done, "seconds": elapsed}

    def _first(self, texts: Sequence[Any]) -> None:
        self.answer(texts[0])

    def server(self, rate: float, count: int, seed: int, streams: int) -> dict[str, Any]:
        """Open loop: queries arrive as a Poisson process, whatever still waits; `ms` of each from its scheduled time.

        A query that waits for a free stream waits in its latency, too. `late_ms` is how long the last one waited.
        """
        draw = random.Random(seed)
        due, at = [], 0.0
        for _ in range(count):
            at += draw.expovariate(rate)
            due.append(at)
        times_ms, indices, lock = [0.0] * count, iter(range(count)), threading.Lock()
        waited = [0.0]
        failed: list[Exception] = []
        start = time.perf_counter()

        def stream() -> None:
            while True:
                with lock:
                    index = next(indices, None)
                if index is None:
                    return
                sleep_until(start + due[index])
                begun = time.perf_counter()
                try:
                    self.answer(self.texts[index % len(self.texts)])
                except Exception as error:  # noqa: BLE001  raised again where all streams have ended
                    failed.append(error)
                    return
                times_ms[index] = 1e3 * (time.perf_counter() - start - due[index])
                waited[0] = begun - start - due[index]

        threads = [threading.Thread(target=stream) for _ in range(streams - 1)]
        for thread in threads:
            thread.start()
        stream()
        for thread in threads:
            thread.join()
        if failed:
            raise failed[0]
        return {"ms": times_ms, "late_ms": 1e3 * waited[0], "seconds": time.perf_counter() - start}

    def answers(self, first: int, count: int) -> dict[str, Any]:
        """Label and probability of each of some texts; none where the subject has no labels."""
        labelled = getattr(self.answer, "labelled", None)
        if labelled is None:
            return {"answers": None}
        return {"answers": [labelled(self.answer(text)) for text in self.texts[first : first + count]]}

    def where(self) -> dict[str, Any]:
        """Where the time of an answer goes: medians of its parts, operators and work; None for what is unknown."""
        parts, profile = (getattr(self.answer, name, None) for name in ("parts", "profile"))
        if parts is None or profile is None:
            return {"parts_ms": None, "session_mean_ms": None, "operators": None, "work": None}
        texts = self.texts[:PROFILED]
        taken = [parts(text) for text in texts]
        medians = {name: sorted(times[name] for times in taken)[len(taken) // 2] for name in taken[0]}
        mean = sum(times["session"] for times in taken) / len(taken)  # as the work of a text is one
        return {"parts_ms": medians, "session_mean_ms": mean, **profile(texts)}

    def facts(self) -> dict[str, Any]:
        """The subject's facts and the peak resident size of this process."""
        peak = peak_rss_bytes()  # before anything is read for the facts
        facts: dict[str, Any] = getattr(self.answer, "facts", dict)()
        return {"facts": facts, "peak_rss_bytes": peak}


PROFILED = 200  # texts
SPIN_SECONDS = 0.0005  # before its time a query is waited for awake: a sleep ends too late


def sleep_until(moment: float) -> None:
    """Sleep until `perf_counter` reaches a moment [s]."""
    while (left := moment - time.perf_counter()) > 0:
        time.sleep(max(0.0, left - SPIN_SECONDS))  # of 0: awake, but other threads may run


def peak_rss_bytes() -> int:
    """Peak resident size of this process in bytes; 0 where the system doesn't report it."""
    try:
        status = Path("/proc/self/status").read_text(encoding="utf-8")
    except OSError:
        return _peak_elsewhere()
    return next((int(line.split()[1]) * 1024 for line in status.splitlines() if line.startswith("VmHWM")), 0)


def _peak_elsewhere() -> int:
    """As macOS says it, in bytes; the standard library has nothing for Windows."""
    try:
        import resource
    except ImportError:
        return 0
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def start_worker(request: dict[str, Any]) -> tuple[Worker, dict[str, Any]]:
    """Open the subject and ask it once."""
    start = time.perf_counter()
    for name in request.get("imports", ()):
        importlib.import_module(name)
    imported = time.perf_counter()
    answer = open_subject(request["opener"], request["options"])
    loaded = time.perf_counter()
    answer(request["texts"][0])
    answered = time.perf_counter()
    times = {"import_ms": imported - start, "load_ms": loaded - imported, "first_answer_ms": answered - loaded}
    return Worker(answer, request["texts"]), {name: 1e3 * value for name, value in times.items()}


def describe_error(error: Exception) -> str:
    """One line for an error; errors that aren't edgeft's are prefixed with their class."""
    said = " ".join(str(error).split())[:300]
    return said if type(error).__module__ == "edgeft.errors" else f"{type(error).__name__}: {said}"


def main() -> None:
    """Answer lines of standard input until it ends."""
    out = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # what libraries print is no answer
    sys.path.pop(0)  # this file's folder, whose names would hide others
    worker: Worker | None = None
    for line in sys.stdin:
        request = json.loads(line)
        try:
            if worker is None:
                worker, reply = start_worker(request)
            else:
                reply = getattr(worker, request.pop("do"))(**request)
        except Exception as error:  # noqa: BLE001  whatever a subject raises is the parent's to say
            reply = {"error": describe_error(error)}
        print(json.dumps(reply), file=out, flush=True)


if __name__ == "__main__":
    main()

"""Several processes on one study."""

from __future__ import annotations

import contextlib
import dataclasses
import multiprocessing
import os
import pickle
import time
from collections.abc import Iterator, Sequence
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import optuna
import torch

from edgeft.errors import TrainingError
from edgeft.progress import Bar, say
from edgeft.search.engine import Search
from edgeft.search.worker import main

WORKERS = "workers"
POLL_S = 1.0


def work_together(search: Search[Any], workers: int, study: optuna.Study) -> None:
    """Start workers on one study and wait for them.

    Raises:
        TrainingError: a worker ended in an error, and trials are missing.
    """
    logs = search.folder / WORKERS
    logs.mkdir(exist_ok=True)
    context = multiprocessing.get_context("spawn")  # CUDA can't be used in a forked process
    shared = pickle.dumps(dataclasses.replace(search, parent=os.getpid()))
    threads = max(1, torch.get_num_threads() // workers)
    started = [context.Process(target=main, args=(shared, threads, logs)) for _ in range(workers)]
    with _end_with_us(started):
        _wait(started, search, study)
    failed = [process.pid for process in started if process.exitcode]
    if failed and _count_finished(study) < search.trials:
        raise TrainingError(f"{_read_last_line(logs / f'{failed[0]}.log')}; the same command goes on")


@contextlib.contextmanager
def _end_with_us(processes: Sequence[BaseProcess]) -> Iterator[None]:
    try:
        for process in processes:
            process.start()
        yield
    finally:
        for process in processes:
            if process.is_alive():
                process.terminate()
            process.join()


def _wait(processes: Sequence[BaseProcess], search: Search[Any], study: optuna.Study) -> None:
    """A bar over the trials of all workers."""
    say(f"{search.command}: {len(processes)} workers, their lines in {search.folder / WORKERS}")
    with Bar(search.command, search.trials) as bar:
        alive = True
        while alive:
            alive = any(process.is_alive() for process in processes)
            bar.advance(_count_finished(study) - bar.done)
            if best := search.describe_best(study):
                bar.show(best)
            time.sleep(POLL_S if alive else 0)


def _count_finished(study: optuna.Study) -> int:
    return sum(trial.state.is_finished() for trial in study.get_trials(deepcopy=False))


def _read_last_line(log: Path) -> str:
    lines = log.read_text(encoding="utf-8").strip().splitlines() if log.exists() else []
    return f"a worker ended: {lines[-1] if lines else 'killed before its first line'} ({log})"

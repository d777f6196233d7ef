"""The short measurement of the pipeline, in one process; `edgeft.bench.harness` is the long one."""

from __future__ import annotations

import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from itertools import cycle, islice
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from edgeft import artifact
from edgeft.bench import machine
from edgeft.bench.race import Latency, race
from edgeft.errors import ArtifactError, EdgeftError, UserError
from edgeft.files import open_regular
from edgeft.listed_files import describe_problem
from edgeft.progress import track
from edgeft.recipe import BenchConfig
from edgeft.runtime import Model, load
from edgeft.runtime.machine.threads import usable_cores

SCHEMA_VERSION = 1
COLD_RUNS = 3
COLD_SECONDS = 600.0
MIN_BATCHES = 5


def measure(
    path: Path,
    texts: Sequence[Any],
    config: BenchConfig,
    labels: Sequence[str] | None = None,
    raced: Latency | None = None,
) -> dict[str, Any]:
    """Measure one artifact.

    Args:
        path: the artifact folder.
        texts: real texts, or questions with their contexts; the queries cycle through them.
        config: queries, warm-up, threads, batch size.
        labels: the true label of each text; None: accuracy is not measured.
        raced: its latency in a race with other models; None: it is measured here, alone.

    Returns:
        A document of plain values: `latency` (tokenization counted, batch 1), `throughput_texts_per_s`, `cold_start`,
        `size`, `quality` where labels are given, and what they depend on: `threads`, `batch_size`, `texts`, `machine`.

    Raises:
        UserError: no texts, or labels that don't fit them.
        ArtifactError: the artifact can't be loaded.
    """
    model = load(path, threads=config.threads)
    _check_labels(model, texts, labels)
    _check_asked(model, texts)
    latency = raced or race({model.name: model}, texts, config.queries, config.warmup)[model.name]
    figures = _figures(model, latency, texts, config, labels)
    return {"schema_version": SCHEMA_VERSION, "artifact": model.name, **figures, "machine": machine.describe()}


def _figures(
    model: Model, latency: Latency, texts: Sequence[Any], config: BenchConfig, labels: Sequence[str] | None
) -> dict[str, Any]:
    figures: dict[str, Any] = {
        "task": model.manifest.task,
        "precision": model.manifest.quantization.precision,
        "threads": config.threads,
        "batch_size": config.batch_size,
        "texts": _lengths(model, texts),
        "latency": latency.as_dict(),
        "by_threads_ms": by_threads(model.folder, texts, config, latency.p50_ms),
        "throughput_texts_per_s": throughput(model, texts, config),
        "cold_start": cold_start(model.folder, texts[0], config.threads),
        "size": _sizes(model),
    }
    if labels is not None:
        figures["quality"] = {"accuracy": accuracy(model, texts, labels), "rows": len(texts)}
    return figures


def names_of(paths: Sequence[Path]) -> list[str]:
    """The shortest ends of the paths that tell them apart; the same path twice is numbered."""
    parts = [path.resolve().parts for path in paths]
    depth = next(d for d in range(1, 1000) if len({p[-d:] for p in parts}) == len(set(parts)))
    names = ["/".join(p[-depth:]) for p in parts]
    return [
        f"{name} ({names[:index].count(name) + 1})" if name in names[:index] else name
        for index, name in enumerate(names)
    ]


def _check_asked(model: Model, texts: Sequence[Any]) -> None:
    """Refuse what the artifact can't be asked, before anything is timed.

    Raises:
        UserError: names the first one.
    """
    model.windows(texts[:1])


def _check_labels(model: Model, texts: Sequence[Any], labels: Sequence[str] | None) -> None:
    """Refuse labels that can't be the texts' own.

    Raises:
        UserError: another number than the texts, or a name that the artifact doesn't know.
    """
    if labels is None:
        return
    if len(labels) != len(texts):
        raise UserError(f"{len(texts)} texts but {len(labels)} labels: one label for each text")
    unknown = sorted(set(labels) - set(model.labels))
    if unknown:
        known = ", ".join(model.labels[:10])
        raise UserError(f"label {unknown[0]!r} is not among the artifact's {len(model.labels)} labels: {known}")


def _lengths(model: Model, texts: Sequence[Any]) -> dict[str, float]:
    tokens = [len(ids) for ids in model.encode(list(texts))]
    return {"rows": len(texts), "median_tokens": float(np.median(tokens)), "max_tokens": max(tokens)}


def by_threads(path: Path, texts: Sequence[Any], config: BenchConfig, p50_ms: float) -> dict[str, float]:
    """Median latency with 1, 2, 4, ... threads up to the cores this process has; number to ms.

    One after the other: threads of several engines would wait for work on the same cores. `edgeft.load` chooses by it.
    What counts is how they compare, so all are scaled until that of `config.threads` is the latency that is shown.

    Args:
        path: the artifact folder.
        texts: to be asked.
        config: queries, warm-up and threads.
        p50_ms: median with `config.threads`.
    """
    most = usable_cores()
    counts = {count for count in (1, 2, 4, 8, 16, 32, 64) if count < most} | {most, config.threads}
    queries, warmup = max(10, config.queries // 5), min(config.warmup, 10)
    medians = {
        count: race({"one": load(path, threads=count)}, texts, queries, warmup)["one"].p50_ms
        for count in sorted(counts)
    }
    return {str(count): p50_ms * (ms / medians[config.threads]) for count, ms in medians.items()}


def throughput(model: Model, texts: Sequence[Any], config: BenchConfig) -> float:
    """Texts per second in calls of `config.batch_size` texts, as many texts as there are queries."""
    stream = cycle(texts)
    calls = max(MIN_BATCHES, config.queries // config.batch_size)
    batches = [list(islice(stream, config.batch_size)) for _ in range(calls)]
    list(model.predict_many(batches[0], batch_size=config.batch_size))
    start = time.perf_counter()
    for batch in batches:
        list(model.predict_many(batch, batch_size=config.batch_size))
    return calls * config.batch_size / (time.perf_counter() - start)


def cold_start(path: Path, text: Any, threads: int, runs: int = COLD_RUNS) -> dict[str, Any]:
    """Medians over fresh processes of what comes before the first answer.

    Returns:
        `import_ms`, `load_ms`, `first_answer_ms`, `process_ms` (from start to exit, interpreter included),
        `peak_rss_bytes`, `runs`.
    """
    starts = [_one_cold_start(path, text, threads) for _ in track(range(runs), "cold start")]
    return {**{name: statistics.median(run[name] for run in starts) for name in starts[0]}, "runs": runs}


def _one_cold_start(path: Path, text: Any, threads: int) -> dict[str, float]:
    command = [sys.executable, "-m", "edgeft.bench.cold", str(path), str(threads)]
    start = time.perf_counter()
    try:
        child = subprocess.run(
            command, input=msgspec.json.encode(text), capture_output=True, timeout=COLD_SECONDS, check=False
        )
    except subprocess.TimeoutExpired:
        raise EdgeftError(f"cold start of {path.name}: no answer within {COLD_SECONDS:g} s") from None
    process_ms = (time.perf_counter() - start) * 1e3
    if child.returncode:
        reason = (child.stderr.decode(errors="replace").strip().splitlines() or ["no message"])[-1]
        raise EdgeftError(f"cold start of {path.name} failed with exit code {child.returncode}: {reason}")
    return {**msgspec.json.decode(child.stdout.splitlines()[-1], type=dict[str, float]), "process_ms": process_ms}


def _sizes(model: Model) -> dict[str, int]:
    """Bytes of the graph, of the tokenizer, of both (what a device needs), and of the whole folder."""
    files = model.manifest.files
    return {
        "model_bytes": files[artifact.MODEL].bytes,
        "tokenizer_bytes": files[artifact.TOKENIZER].bytes,
        "device_bytes": artifact.total_bytes(model.manifest),
        "folder_bytes": sum(item.stat().st_size for item in model.folder.rglob("*") if item.is_file()),
    }


def accuracy(model: Model, texts: Sequence[Any], labels: Sequence[str]) -> float:
    """Share of the texts whose most probable label is the true one."""
    best = model.probabilities(list(texts), batch_size=1).argmax(axis=1)  # (N,)
    return float(np.mean([model.labels[index] == label for index, label in zip(best, labels, strict=True)]))


def texts_of(path: Path) -> list[Any]:
    """The artifact's own golden inputs, for when the user gives none.

    Raises:
        ArtifactError: there are none.
    """
    file = path / artifact.GOLDEN
    try:
        with open_regular(file) as opened:
            rows = msgspec.json.decode(opened.read())["rows"]
        texts = [row["text"] for row in rows]
    except FileNotFoundError:
        raise ArtifactError(f"{path} has no {artifact.GOLDEN}: give texts to measure with") from None
    except OSError as error:
        raise ArtifactError(f"{file} {describe_problem(error)}") from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError, KeyError, TypeError) as error:
        raise ArtifactError(f"{file} can't be read: {error}") from None
    if not texts:
        raise ArtifactError(f"{file} has no rows: give texts to measure with")
    if None in texts:
        raise ArtifactError(f"{file} has token ids instead of texts (report.texts was off): give texts with --file")
    return texts

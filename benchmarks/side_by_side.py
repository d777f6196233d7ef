"""Everything that a fresh machine can measure in half an hour: the demo, and its teacher through other engines.

    make bench

Runs the demo, exports its teacher, makes an environment for each peer, asks all of them the demo's test rows side by
side, and rewrites its parts of README.md and docs/benchmarks.md. What can't be made or measured is said there.
"""

from __future__ import annotations

import argparse
import subprocess
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from engines import PEERS, Worker, environment
from teachers import edgeft as command

from edgeft.bench import facts
from edgeft.bench.harness import run as harness
from edgeft.bench.harness import table
from edgeft.bench.harness.page import write as write_page
from edgeft.bench.harness.subject import Subject, subjects
from edgeft.data.dataset import Dataset, load
from edgeft.errors import EdgeftError
from edgeft.pipeline import gates
from edgeft.pipeline.steps import in_run
from edgeft.runtime import load as load_artifact
from edgeft.stage import read_result, write_atomically, write_json

HERE, ROOT = Path(__file__).parent, Path(__file__).resolve().parent.parent
NAMES = {"optimum_onnx": "optimum-onnx, int8", "openvino_int8": "OpenVINO, int8"}
CALIBRATION = 300  # rows
MAX_LENGTH = 64  # of the demo
ROUNDS, SECONDS = 8, 10.0
NOT_MEASURED = {
    "fastembed": "its models come from a hub of its own and answer with embeddings; the demo is a classifier",
}
FORMS = {
    "baseline": "TF-IDF with logistic regression",
    "teacher": "teacher, QLoRA, merged, fp32 torch",
    "artifact": "**artifact**: int8 graph and tokenizer",
}


def built(name: str, model: Path, rows: list[list[int]], folder: Path) -> str:
    """The Python of a peer's environment, once it has made its form of the model."""
    python = environment(folder / name, PEERS[name])
    made = folder / f"{name}-model"
    if not (made / "ready").exists():
        worker = Worker(name, python)
        worker.ask("build", model=str(model), rows=rows, folder=str(made))
        worker.close()
        (made / "ready").touch()
    return python


def peers(dataset: Dataset, model: Path, ours: Path, folder: Path) -> tuple[list[Subject], dict[str, str]]:
    """The peers that could be made, and why others couldn't."""
    rows = [[int(token) for token in row] for row in load_artifact(ours).encode(dataset.train.texts[:CALIBRATION])]
    found, missing = [], dict(NOT_MEASURED)
    for name, shown in NAMES.items():
        try:
            python = built(name, model, rows, folder)
        except (OSError, subprocess.SubprocessError, SystemExit, ValueError) as error:
            missing[shown] = " ".join(str(error).split())[:200]
            continue
        options = {"engine": name, "folder": str(folder / f"{name}-model"), "model": str(model)}
        found.append(
            Subject(
                name=shown,
                kind="callable",
                place="",
                opener=f"{HERE / 'peers' / 'texts.py'}:Texts",
                options={**options, "max_length": MAX_LENGTH, "threads": 1},
                python=python,
            )
        )
    return found, missing


def demo_table(run: Path) -> list[str]:
    """What each form of the demo's model comes to."""
    found = {name: result for name, place in in_run(run).items() if (result := read_result(place)) is not None}
    lines = ["| form | validation | test | changed | size | latency |", "|---|---|---|---|---|---|"]
    for row, test in zip(gates.rows(found), gates.rows(found, "test"), strict=True):
        cells = (
            FORMS.get(row.stage, f"{row.stage}: {row.note}" if row.stage in ("distilled", "pruned") else row.stage),
            facts.percent(row.lead) if row.lead is not None else "",
            facts.percent(test.lead) if test.lead is not None else "",
            facts.percent(row.changed) if row.changed is not None else "",
            facts.size(row.bytes) if row.bytes is not None else "",
            facts.milliseconds(row.latency_ms) if row.latency_ms is not None else "",
        )
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def engine_table(found: Mapping[str, Any]) -> list[str]:
    """Every engine beside the first."""
    lines = ["| engine | p50 ms | p99 ms | time, of the first | accuracy | MB | |", "|---|---|---|---|---|---|---|"]
    for one in found["subjects"]:
        stream, ratio = one["single_stream"], found["ratios"].get(one["name"])
        size = one["facts"].get("bytes")
        cells = (
            one["name"],
            f"{stream['p50_ms']:.2f}",
            f"{stream['p99_ms']:.2f}",
            table.ratio_text(ratio) if ratio else "",
            f"{100 * one['quality']['accuracy']:.1f}%" if one.get("quality") else "",
            f"{size / 1e6:.1f}" if size else "",
            ratio["verdict"] if ratio else "",
        )
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def replaced(text: str, part: str, lines: Iterable[str]) -> str:
    """A document with the lines between a part's two marks exchanged.

    Raises:
        ValueError: it has no such part.
    """
    start, end = f"<!-- make bench: {part} -->\n", f"<!-- end of {part} -->"
    head, begun, rest = text.partition(start)
    _, ended, tail = rest.partition(end)
    if not begun or not ended:
        raise ValueError(f"no part {part}")
    return "".join((head, start, *(f"{line}\n" for line in lines), end, tail))


def rewrite(file: Path, part: str, lines: Sequence[str]) -> None:
    """Exchange a part of a file."""
    write_atomically(file, replaced(file.read_text(encoding="utf-8"), part, lines).encode())


def main() -> None:
    """Run what is not complete, measure, and rewrite."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--folder", type=Path, default=ROOT / "runs" / "bench")
    options = parser.parse_args()
    began = time.monotonic()
    run, whole = options.folder / "demo", options.folder / "teacher"
    command("pipeline", "demo", "--run-dir", str(run))
    command("export", "--model", str(run / "finetune"), "--data", str(run / "data"), "--out", str(whole))
    dataset = load(run / "data")
    others, missing = peers(dataset, run / "finetune", whole, options.folder)
    ours = subjects([str(run / "finetune"), str(whole), str(run / "artifact")], 1, None, MAX_LENGTH)
    names = ("transformers.pipeline, fp32", "edgeft, int8", "edgeft, the demo's artifact")
    named = [Subject(**{**vars(one), "name": name}) for one, name in zip(ours, names, strict=True)]
    plan = harness.Plan(seconds=SECONDS, rounds=ROUNDS, scenarios=())
    labels = [dataset.labels[int(label)] for label in dataset.test.labels]
    found = harness.measured([*named[:2], *others, named[2]], dataset.test.texts, plan, labels)
    write_json(options.folder / "bench.json", found)
    write_page(options.folder / "bench.html", found)
    said = [f"{name}: not measured: {why}" for name, why in missing.items()]
    seen = found["noise"]["seen"]
    notes = [
        "",
        f"`make bench`, {time.strftime('%Y-%m-%d')}, {(time.monotonic() - began) / 60:.0f} min after installation; "
        f"{len(dataset.test.texts):,} test rows, text to answer, one thread each. {table.conditions(found)}.",
        f"{table.machine_line(found['machine'])}.",
        *([f"Too noisy to compare: {'; '.join(seen)}."] if seen else []),
        *said,
    ]
    rewrite(ROOT / "docs" / "benchmarks.md", "engines", [*engine_table(found), *notes])
    rewrite(ROOT / "README.md", "demo", demo_table(run))


if __name__ == "__main__":
    try:
        main()
    except EdgeftError as error:
        raise SystemExit(str(error)) from None

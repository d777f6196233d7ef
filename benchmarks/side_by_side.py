"""Everything that a fresh machine can measure in half an hour: the demo, and its models through other engines.

    make bench

Runs the demo, exports its teacher, makes an environment for each peer, asks all of them the demo's test rows side by
side, the same for embeddings of the model it began with, and rewrites its parts of README.md and docs/benchmarks.md.
What can't be made or measured is said there.
"""

from __future__ import annotations

import argparse
import contextlib
import signal
import subprocess
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from engines import PEERS, Worker, environment
from teachers import edgeft as command

from edgeft.bench.harness import run as harness
from edgeft.bench.harness.subjects.child import Child
from edgeft.bench.harness.subjects.subject import Subject, subjects
from edgeft.data.dataset import Dataset, load
from edgeft.errors import EdgeftError
from edgeft.files import write_atomically, write_json
from edgeft.models import model_sources
from edgeft.pipeline import gates
from edgeft.pipeline.stages import in_run
from edgeft.report import bench_report, bench_text, facts, page
from edgeft.report.race_text import describe_noise, describe_speedup
from edgeft.runtime import load as load_artifact
from edgeft.stage_folder import read_result

HERE, ROOT = Path(__file__).parent, Path(__file__).resolve().parent.parent
NAMES = {"optimum_onnx": "optimum-onnx, int8", "openvino_int8": "OpenVINO, int8"}
ARTIFACT = "edgeft, the demo's artifact"
FASTEMBED = "fastembed, fp32"
PACKAGES = ("optimum-onnx", "openvino", "nncf", "fastembed")
PEER_SECONDS = 420  # to install and convert
ENCODER = "demo:all-minilm-l6-v2"
CALIBRATION = 300  # rows
MAX_LENGTH = 64  # of the demo
PLAN = harness.Plan(scenarios=())
FORMS = {
    "baseline": "TF-IDF with logistic regression",
    "teacher": "teacher, QLoRA, merged, fp32 torch",
    "artifact": "**artifact**: graph and tokenizer",
}


def built(engine: str, python: str, model: Path, rows: list[list[int]], folder: Path) -> Path:
    """The folder of an engine's form of a model, made by the Python of its environment."""
    made = folder / f"{engine}-model"
    if not (made / "ready").exists():
        worker = Worker(engine, python)
        worker.ask("build", model=str(model), rows=rows, folder=str(made))
        worker.close()
        (made / "ready").touch()
    return made


@contextlib.contextmanager
def at_most(seconds: int) -> Iterator[None]:
    """Raises TimeoutError inside of what takes longer."""

    def late(*_: object) -> None:
        raise TimeoutError(f"took longer than {seconds} s")

    before = signal.signal(signal.SIGALRM, late)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def tried(make: Callable[[], Subject], name: str, missing: dict[str, str]) -> list[Subject]:
    """A peer that answers, or the reason why there is none."""
    try:
        with at_most(PEER_SECONDS):
            made = make()
            with Child(made, ["a text"]):
                return [made]
    except (OSError, subprocess.SubprocessError, SystemExit, ValueError, EdgeftError) as error:
        missing[name] = " ".join(str(error).split())[:200]
        return []


def versions(peers: Iterable[Subject], packages: Iterable[str]) -> str:
    """Of some packages in the environments of peers."""
    code = (
        "import sys; from importlib import metadata\n"
        "for name in sys.argv[1:]:\n"
        "    try: print(name, metadata.version(name))\n"
        "    except metadata.PackageNotFoundError: pass"
    )
    said = [
        subprocess.run([one.python, "-c", code, *packages], stdout=subprocess.PIPE, text=True, check=True).stdout
        for one in peers
    ]
    return ", ".join(dict.fromkeys(line for one in said for line in one.splitlines()))


def peer(opener: str, name: str, python: str, **options: Any) -> Subject:
    """A class of the folder of peers, in its own environment."""
    place = f"{HERE / 'peers' / opener}"
    return Subject(name=name, kind="callable", place="", opener=place, options={**options, "threads": 1}, python=python)


def classifier(engine: str, model: Path, rows: list[list[int]], folder: Path) -> Subject:
    """An engine's form of the teacher."""
    python = environment(folder / engine, PEERS[engine])
    made = built(engine, python, model, rows, folder)
    options = {"engine": engine, "folder": str(made), "model": str(model), "max_length": MAX_LENGTH}
    return peer("texts.py:Texts", NAMES[engine], python, **options)


def fastembed(model: Path, folder: Path) -> Subject:
    """fastembed with the model that the demo began with."""
    exporter = environment(folder / "optimum_onnx", PEERS["optimum_onnx"])
    made = built("optimum_features", exporter, model, [], folder)
    python = environment(folder / "fastembed", ["fastembed"])
    return peer("vectors.py:Vectors", FASTEMBED, python, folder=str(made))


def ours(places: Mapping[str, Path]) -> list[Subject]:
    """Folders that the bench opens by itself, under these names."""
    found = subjects([str(place) for place in places.values()], 1, None, MAX_LENGTH)
    return [replace(one, name=name) for one, name in zip(found, places, strict=True)]


def cosines(theirs: Subject, mine: Path, texts: Sequence[str], folder: Path) -> Any:
    """Of each text's two vectors."""
    asked, made = folder / "asked.json", folder / "vectors.npy"
    write_json(asked, list(texts))
    script = theirs.opener.partition(":")[0]
    subprocess.run([theirs.python, script, theirs.options["folder"], str(asked), str(made)], check=True)
    return (np.load(made) * load_artifact(mine).embed(list(texts))).sum(axis=1)


def demo_table(run: Path) -> list[str]:
    """What each form of the demo's model comes to, and how it was run; every latency is of the run's one race."""
    found = {name: result for name, place in in_run(run).items() if (result := read_result(place)) is not None}
    lines = ["| form | validation | test | changed | size | latency |", "|---|---|---|---|---|---|"]
    for row, test in zip(gates.rows(found), gates.rows(found, "test"), strict=True):
        if row.bytes is None:
            continue
        cells = (
            FORMS.get(row.stage, ": ".join(filter(None, (row.stage, row.note if row.stage == "pruned" else "")))),
            *(facts.percent(share) for share in (row.lead, test.lead, row.changed)),
            facts.size(row.bytes),
            facts.milliseconds(row.latency_ms),
        )
        lines.append(_row(cells))
    minutes = sum(result.seconds for result in found.values()) / 60
    bench, rows = found["bench"].metrics, found["data"].metrics["rows"]["test"]
    machine = bench["machine"]
    noise = describe_noise(bench["race"])
    return [
        *lines,
        "",
        f"One run of the demo ({minutes:.0f} min), seed 0, {machine['cores']['usable']} cores with "
        f"{' '.join(machine['instruction_sets'])}, {rows:,} test rows. All latencies are of one race in turns; the "
        f"artifact: {describe_speedup(bench['against_teacher'])}{f'; {noise}' if noise else ''}.",
    ]


def engine_table(found: Mapping[str, Any]) -> list[str]:
    """Every engine beside the first."""
    judged = any(one.get("quality") for one in found["subjects"])
    header = ["engine", "p50 ms", "p99 ms", "times as fast as the first", "MB", *(["accuracy"] if judged else [])]
    lines = [_row(header), _row(["---"] * len(header))]
    for one in found["subjects"]:
        stream, ratio, size = one["single_stream"], found["ratios"].get(one["name"]), one["facts"].get("bytes")
        cells = [
            one["name"],
            f"{stream['p50_ms']:.2f}",
            f"{stream['p99_ms']:.2f}",
            speed(ratio) if ratio else "",
            f"{size / 1e6:.1f}" if size else "",
            *([facts.percent(one["quality"]["accuracy"])] if judged else []),
        ]
        lines.append(_row(cells))
    return lines


def speed(ratio: Mapping[str, Any]) -> str:
    """As in "7.1 (6.7 to 7.6)", and what the bench says where that is neither faster nor slower."""
    why = "" if ratio["verdict"] in ("faster", "slower") else f"; {ratio['verdict']}"
    return f"{1 / ratio['median']:.1f} ({1 / ratio['high']:.1f} to {1 / ratio['low']:.1f}){why}"


def _row(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"


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


def notes(found: Mapping[str, Any], missing: Mapping[str, str]) -> list[str]:
    """Under a table: how it was measured, and what wasn't."""
    return [
        "",
        f"`make bench`, {time.strftime('%Y-%m-%d')}; text to answer, one thread each; "
        f"{bench_text.describe_conditions(found)}.",
        *(f"{line[0].upper()}{line[1:]}." for line in bench_text.describe_disturbances(found)),
        *(f"{name}: not measured: {why}" for name, why in missing.items()),
    ]


def kept(folder: Path, name: str, found: Mapping[str, Any]) -> None:
    """Leave the document and its page."""
    write_json(folder / f"{name}.json", found)
    page.write(folder / f"{name}.html", bench_report.report(found))


def classifiers(run: Path, dataset: Dataset, folder: Path) -> list[str]:
    """The demo's teacher through every engine, and what the demo makes of it: the lines about it."""
    model, whole, missing = run / "finetune", folder / "teacher", dict[str, str]()
    command("export", "--model", str(model), "--data", str(run / "data"), "--out", str(whole))
    rows = [[int(token) for token in row] for row in load_artifact(whole).encode(dataset.train.texts[:CALIBRATION])]
    first, second, last = ours(
        {
            "transformers.pipeline, fp32": model,
            "edgeft, int8": whole,
            ARTIFACT: run / "artifact",
        }
    )
    peers = [
        one
        for engine, name in NAMES.items()
        for one in tried(partial(classifier, engine, model, rows, folder), name, missing)
    ]
    labels = [dataset.labels[int(label)] for label in dataset.test.labels]
    found = harness.measure_side_by_side([first, second, *peers, last], dataset.test.texts, PLAN, labels)
    kept(folder, "classifiers", found)
    said = [f"{versions(peers, PACKAGES)}.", f"{bench_text.describe_machine(found['machine'])}."]
    return [*engine_table(found), *notes(found, missing), *said]


def embeddings(dataset: Dataset, folder: Path) -> list[str]:
    """The encoder that the demo begins with, as fastembed runs it and as an artifact."""
    texts, mine, missing = folder / "texts.txt", folder / "encoder", dict[str, str]()
    texts.write_text("\n".join(dataset.train.texts), encoding="utf-8")
    command("export", "--data", str(texts), "--model", ENCODER, "--out", str(mine))
    theirs = tried(partial(fastembed, Path(model_sources.find(ENCODER)), folder), FASTEMBED, missing)
    found = harness.measure_side_by_side([*theirs, *ours({"edgeft, int8": mine})], dataset.test.texts, PLAN)
    kept(folder, "embeddings", found)
    alike = [cosines(one, mine, dataset.test.texts, folder) for one in theirs]
    said = [
        f"Cosine of both vectors of a text: {np.median(one):.4f} (median), {one.min():.4f} (least)." for one in alike
    ]
    return [*engine_table(found), *notes(found, missing), *said, *(f"{versions([one], PACKAGES)}." for one in theirs)]


def main() -> None:
    """Run what is not complete, measure, and rewrite."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--folder", type=Path, default=ROOT / "runs" / "bench")
    folder = parser.parse_args().folder
    run, page = folder / "demo", ROOT / "docs" / "benchmarks.md"
    command("pipeline", "demo", "--run-dir", str(run))
    dataset = load(run / "data")
    rewrite(ROOT / "README.md", "demo", demo_table(run))
    rewrite(page, "engines", classifiers(run, dataset, folder))
    rewrite(page, "embeddings", embeddings(dataset, folder))


if __name__ == "__main__":
    try:
        main()
    except (EdgeftError, subprocess.CalledProcessError) as error:
        raise SystemExit(f"make bench: {error}") from None

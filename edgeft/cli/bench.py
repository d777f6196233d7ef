"""`edgeft bench`: measure on this machine or on another one, and compare with earlier figures."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
from cyclopts import Parameter

from edgeft.artifact import MANIFEST
from edgeft.cli.app import Flat, Json, app, need_training, print_json, stdout
from edgeft.cli.device import File, InputColumns, asks_pairs, read_inputs
from edgeft.errors import GateError, UserError
from edgeft.progress import say

Scenario = Literal["offline", "server", "sustained"]
Check = Callable[[dict[str, Any]], None]


@dataclass(frozen=True, kw_only=True)
class Protocol:
    """Duration and repetitions of the bench."""

    seconds: Annotated[float, Parameter(help="single-stream time of each subject, over all rounds [s]")] = 10.0
    full: Annotated[bool, Parameter(help="60 s of single stream, 10 s for each rate", negative="")] = False
    rounds: Annotated[int, Parameter(help="number of rounds; each restarts every process")] = 8
    scenario: Annotated[
        tuple[Scenario, ...], Parameter(help="further scenarios, run after the single stream", negative="")
    ] = ()
    bound_ms: Annotated[float | None, Parameter(help="p99 limit of the server scenario [ms]")] = None
    streams: Annotated[int, Parameter(help="queries answered at once in the server scenario")] = 1
    stream_alone: Annotated[bool, Parameter(help="measure only the single stream", negative="")] = False
    drop_points: Annotated[
        float, Parameter(help="accuracy that a faster subject may lose against the first [points]")
    ] = 1.0
    threads: Annotated[int, Parameter(help="threads of the engine")] = 1
    tokenizer: Annotated[
        Path | None, Parameter(help="tokenizer.json for .onnx files; default: the one beside each")
    ] = None
    tokens: Annotated[
        int | None, Parameter(help="ask texts of exactly this many tokens, made of the words of the given texts")
    ] = None
    max_length: Annotated[int | None, Parameter(help="truncate texts for .onnx files to this many tokens")] = None


@dataclass(frozen=True, kw_only=True)
class Elsewhere:
    """Options of a remote machine."""

    target: Annotated[str | None, Parameter(help="ssh://user@host[:port]: measure on that machine instead")] = None
    target_python: Annotated[str, Parameter(help="its Python interpreter, with edgeft[cpu]")] = "python3"
    ssh_option: Annotated[
        tuple[str, ...],
        Parameter(help="further arguments for ssh, as in --ssh-option=-i --ssh-option=key", negative=""),
    ] = ()


@dataclass(frozen=True)
class Request:
    """The subjects, the texts to ask them and the protocol."""

    subjects: list[str]
    file: Path | None
    columns: InputColumns
    label_column: str | None
    plan: Protocol


@app.command
def bench(
    subjects: list[str],
    *,
    file: File = None,
    columns: Annotated[InputColumns | None, Flat] = None,
    label_column: str | None = None,
    protocol: Annotated[Protocol | None, Flat] = None,
    elsewhere: Annotated[Elsewhere | None, Flat] = None,
    latency_table: Path | None = None,
    data: Path | None = None,
    against: Path | None = None,
    fail_if: str | None = None,
    html: Path | None = None,
    json: Json = False,
) -> None:
    """Measure subjects side by side: artifacts, .onnx files, folders of transformers, http://... or file.py:function.

    Each runs in its own processes, in turns; ratios compare with the first.

    Args:
        subjects: what to measure.
        file: texts or questions to ask, read as by `predict`; default: the first artifact's golden rows.
        label_column: column of the true labels; adds accuracy and calibration to the measurement.
        latency_table: write the latency of heads, channels and layers of one transformers folder to this file, for
            prune.latency_table; measured here or on --target.
        data: data folder with the texts for --latency-table.
        against: document of an earlier `edgeft bench --json`.
        fail_if: rules such as "p99>1.10x, accuracy<-0.5pt"; exit code 1 if one is broken.
        html: write an HTML page to this file.
    """
    from edgeft.bench.harness import gate
    from edgeft.report import bench_report, bench_text, page, terminal

    if (against is None) != (fail_if is None):
        raise UserError("bench: --against and --fail-if go together")
    machine, plan = elsewhere or Elsewhere(), protocol or Protocol()
    request = Request(subjects, file, columns or InputColumns(), label_column, plan)
    _check(request, machine)
    if latency_table is not None:
        unread = _unread_options(file, label_column, fail_if, html, json, plan.scenario)
        if others := [name for name, value in unread.items() if value]:
            raise UserError(f"bench: --latency-table writes nothing but the table; leave out {', '.join(others)}")
        _write_table(latency_table, subjects, data, plan, machine)
        return
    if data is not None:
        raise UserError("bench: --data is for --latency-table; texts to ask are --file's")
    rules = gate.parse(fail_if) if fail_if is not None else []
    before = gate.read_base(against, rules) if against else {}
    gate.check(rules, before, label_column is not None, plan.scenario)
    if html:
        page.check(html, "bench: --html")
    document = _measure(request, machine, partial(gate.check_comparable, rules, before) if rules else None)
    report = bench_report.report(document)
    terminal.show(report, stdout())
    if json:
        for line in bench_text.describe_disturbances(document):
            say(f"bench: {line}")
        print_json(document)
    if html:
        page.write(html, report)
    if rules:
        _judge(rules, before, document)


def _check(request: Request, elsewhere: Elsewhere) -> None:
    """Raise if options contradict each other or would have no effect."""
    if said := [said for holds, said in _option_conflicts(request, elsewhere) if holds]:
        raise UserError(f"bench: {'; '.join(said)}")
    for name in ("tokens", "max_length"):
        if (value := getattr(request.plan, name)) is not None and value <= 0:
            raise UserError(f"bench: --{name.replace('_', '-')} {value}: give more than 0")


def _option_conflicts(request: Request, elsewhere: Elsewhere) -> list[tuple[object, str]]:
    """Pairs of a condition under which options don't go together, and the message for it."""
    plan, usual = request.plan, Protocol()
    usual_columns = InputColumns()
    return [
        (
            elsewhere.target is None and elsewhere != Elsewhere(),
            "--target-python and --ssh-option are of the machine that --target names",
        ),
        (plan.full and plan.seconds != usual.seconds, "--full is 60 s; leave out --seconds"),
        (
            plan.stream_alone and (request.label_column or plan.scenario),
            "--stream-alone measures nothing else; leave out --label-column and --scenario",
        ),
        (
            "server" not in plan.scenario and (plan.bound_ms, plan.streams) != (usual.bound_ms, usual.streams),
            "--bound-ms and --streams are of --scenario server",
        ),
        (
            not any(subject.endswith(".onnx") for subject in request.subjects)
            and (plan.tokenizer, plan.max_length) != (usual.tokenizer, usual.max_length),
            "--tokenizer and --max-length are of .onnx files, and none is named",
        ),
        (
            not request.label_column and plan.drop_points != usual.drop_points,
            "--drop-points is of accuracy, which is measured with --label-column",
        ),
        (
            request.file is None and request.columns != usual_columns,
            "--text-column, --question-column and --context-column are of --file",
        ),
        (
            request.label_column
            and (request.columns.question_column, request.columns.context_column)
            != (usual_columns.question_column, usual_columns.context_column),
            "--label-column is of texts; leave out --question-column and --context-column",
        ),
    ]


def _unread_options(*values: object) -> dict[str, object]:
    """Options that have no effect on a latency table."""
    return dict(zip(("--file", "--label-column", "--fail-if", "--html", "--json", "--scenario"), values, strict=True))


def _measure(request: Request, elsewhere: Elsewhere, check: Check | None = None) -> dict[str, Any]:
    return _measure_here(request, check) if elsewhere.target is None else _measure_on_target(request, elsewhere)


def _measure_here(request: Request, check: Check | None) -> dict[str, Any]:
    """Measure on this machine; `check` sees the document's known part before anything is measured."""
    from edgeft.bench.harness import run
    from edgeft.bench.harness.subjects.subject import subjects

    plan = request.plan
    found = subjects(request.subjects, plan.threads, plan.tokenizer, plan.max_length)
    texts, labels = _texts(request)
    if plan.tokens is not None:
        texts, labels = _make_texts(found[0], texts, labels, plan.tokens)
    longer: dict[str, Any] = {"seconds": 60.0, "server_seconds": 10.0} if plan.full else {"seconds": plan.seconds}
    how = run.Plan(
        rounds=plan.rounds,
        scenarios=plan.scenario,
        bound_ms=plan.bound_ms,
        streams=plan.streams,
        stream_alone=plan.stream_alone,
        drop_points=plan.drop_points,
        tokens=plan.tokens,
        **longer,
    )
    if check:
        check(run.describe_conditions(found, texts, how))
    return run.measure_side_by_side(found, texts, how, labels)


def _texts(request: Request) -> tuple[list[Any], list[str] | None]:
    """The texts to ask and, with --label-column, the true label of each."""
    from edgeft.bench.measure import texts_of
    from edgeft.runtime.texts import read_labelled

    first, file = Path(request.subjects[0]), request.file
    if file is None:
        if request.label_column:
            raise UserError("bench: --label-column needs --file")
        return texts_of(first), None
    if request.label_column:
        rows = list(read_labelled(file, request.columns.text_column, request.label_column, request.columns.form()))
        return [text for text, _ in rows], [label for _, label in rows]
    pairs = (first / MANIFEST).is_file() and asks_pairs(first)
    return list(read_inputs(file, pairs, request.columns)), None


def _make_texts(first: Any, texts: list[Any], labels: list[str] | None, tokens: int) -> tuple[list[Any], None]:
    """Replace the texts by ones of equal length, counted with the first subject's tokenizer."""
    from edgeft.bench.harness import lengths

    if labels is not None:
        raise UserError("bench: --tokens makes texts that have no labels; leave out --label-column")
    if any(not isinstance(text, str) for text in texts):
        raise UserError("bench: --tokens is for texts, not for questions")
    return lengths.make_texts(texts, tokens, lengths.token_counter(first)), None


def _judge(rules: list[Any], before: Any, document: dict[str, Any]) -> None:
    """Raise if a rule is broken, or if the machine was too noisy to tell."""
    from edgeft.bench.harness import gate

    seen = document["noise"]["seen"]
    judged = [rule for rule in rules if not (seen and gate.depends_on_noise(rule))]
    if failed := gate.find_broken(judged, before, document):
        raise GateError(f"bench: {'; '.join(failed)}")
    if len(judged) < len(rules):
        raise GateError(f"bench: too noisy to judge: {'; '.join(seen)}")
    say("bench: no rule is broken")


def _measure_on_target(request: Request, elsewhere: Elsewhere) -> dict[str, Any]:
    """Copy the subjects and the file to another machine and run the same command there."""
    from edgeft.bench.harness.subjects import remote

    machine = remote.parse_target(elsewhere.target or "", elsewhere.target_python, elsewhere.ssh_option)
    copied: dict[str, Path] = {}
    words = ["bench"]
    for number, subject in enumerate(request.subjects):
        words.append(f"{number}/{Path(subject).resolve().name}")
        copied |= {f"{number}/{name}": path for name, path in files_to_copy(subject).items()}
    if request.plan.tokenizer:
        raise UserError("bench --target: put tokenizer.json beside the .onnx file; --tokenizer isn't copied")
    words += ["--json", *_protocol_flags(request.plan)]
    if request.file:
        copied[request.file.name] = request.file
        words += ["--file", request.file.name]
        for name, value in request.columns.to_say():
            words += [f"--{name.replace('_', '-')}", value]
    if request.label_column:
        words += ["--label-column", request.label_column]
    return {**remote.measure_remotely(machine, words, copied), "target": elsewhere.target}


def files_to_copy(subject: str) -> dict[str, Path]:
    """The files of a subject that are copied: name on the target to local path.

    Args:
        subject: an artifact, of which the manifest, the files that it lists and its signature are copied; another
            folder; or an ONNX file, with what belongs to it beside it.

    Raises:
        ArtifactError: the artifact's files aren't those that its manifest lists.
        UserError: it is none of these.
    """
    from edgeft import artifact
    from edgeft.signing import signature_files

    path = Path(subject)
    if not path.exists():
        raise UserError(f"bench --target: {subject}: is neither a file nor a folder, so it can't be copied there")
    name = path.resolve().name
    if path.is_dir() and os.path.lexists(path / artifact.MANIFEST):
        manifest = artifact.read_manifest(path)
        artifact.verify_files(path, manifest)
        names = [artifact.MANIFEST, *manifest.files, *signature_files(path)]
        return {f"{name}/{file}": path / file for file in names}
    beside = [path.parent / "tokenizer.json", path.parent / "config.json", *path.parent.glob(f"{path.name}?data")]
    return {name: path} | {
        neighbour.name: neighbour for neighbour in beside if path.suffix == ".onnx" and neighbour.is_file()
    }


def _protocol_flags(plan: Protocol) -> list[str]:
    """The options of a protocol that differ from the defaults, as command-line flags."""
    words, usual = [], Protocol()
    for name in ("seconds", "rounds", "bound_ms", "streams", "drop_points", "threads", "tokens", "max_length"):
        if (value := getattr(plan, name)) != getattr(usual, name):
            words += [f"--{name.replace('_', '-')}", str(value)]
    words += [f"--{name.replace('_', '-')}" for name in ("full", "stream_alone") if getattr(plan, name)]
    for scenario in plan.scenario:
        words += ["--scenario", scenario]
    return words


def _write_table(out: Path, subjects: list[str], data: Path | None, plan: Protocol, elsewhere: Elsewhere) -> None:
    """Measure variants of a model as subjects of the bench, and write the latency table."""
    if len(subjects) != 1 or data is None:
        raise UserError("bench: --latency-table is of one folder of transformers, with --data FOLDER")
    if plan.rounds < 2:
        raise UserError(f"bench: --latency-table: {plan.rounds} round of several forms: their table needs two or more")
    if not out.parent.is_dir():
        raise UserError(f"bench: --latency-table {out}: there is no folder {out.parent}")
    need_training()
    from edgeft.data.dataset import load
    from edgeft.files import write_json
    from edgeft.models import model_sources
    from edgeft.pipeline import latency

    dataset = load(data)
    if "question" in dataset.validation.columns:
        raise UserError("bench: --latency-table asks texts, and these rows are questions; edgeft latency takes them")

    def ask(graphs: Any, texts: list[Any]) -> tuple[dict[str, float], dict[str, Any]]:
        with tempfile.TemporaryDirectory(prefix="edgeft-texts-") as scratch:
            file = Path(scratch) / "texts.jsonl"
            file.write_bytes(b"".join(msgspec.json.encode({"text": text}) + b"\n" for text in texts))
            paths = [str(candidates.folder / name) for candidates, name in graphs.values()]
            cut = next(candidates.manifest.inputs.max_length for candidates, _ in graphs.values())
            protocol = replace(plan, stream_alone=True, max_length=cut)
            document = _measure(Request(paths, file, InputColumns(), None, protocol), elsewhere)
        if seen := document["noise"]["seen"]:
            say(f"bench: the machine was noisy: {'; '.join(seen)}")
        medians = [result["single_stream"]["p50_ms"] for result in document["subjects"]]
        return dict(zip(graphs, medians, strict=True)), document["machine"]

    model = model_sources.find(subjects[0])
    if not isinstance(model, Path):
        raise UserError(f"bench: --latency-table: {subjects[0]} is no model folder")
    table = latency.measure_table(model, dataset, plan.threads, ask)
    write_json(out, table)
    print(
        f"{out}: a layer with everything takes {_whole_layer(table):.3f} ms, what isn't in a layer {table.base_ms:.3f}"
    )


def _whole_layer(table: Any) -> float:
    row = table.layers_ms[max(table.layers_ms)]
    layer: float = row[max(row)]
    return layer

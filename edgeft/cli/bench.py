"""`edgeft bench`: measure on this machine or on another one, and hold the figures against earlier ones."""

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
    """How long and how often."""

    seconds: Annotated[float, Parameter(help="of the single stream of each subject, over all rounds [s]")] = 10.0
    full: Annotated[bool, Parameter(help="60 s of single stream, 10 s of each rate", negative="")] = False
    rounds: Annotated[int, Parameter(help="times that every process is started anew")] = 8
    scenario: Annotated[tuple[Scenario, ...], Parameter(help="beside the single stream", negative="")] = ()
    bound_ms: Annotated[float | None, Parameter(help="p99 that the server scenario is to hold [ms]")] = None
    streams: Annotated[int, Parameter(help="queries of the server scenario that are answered at once")] = 1
    stream_alone: Annotated[bool, Parameter(help="nothing beside the single stream", negative="")] = False
    drop_points: Annotated[float, Parameter(help="accuracy that a faster subject may lose to the first [points]")] = 1.0
    threads: Annotated[int, Parameter(help="of the engine")] = 1
    tokenizer: Annotated[Path | None, Parameter(help="tokenizer.json of .onnx files; the one beside each")] = None
    tokens: Annotated[int | None, Parameter(help="of every text that is asked, made of the words of those given")] = (
        None
    )
    max_length: Annotated[int | None, Parameter(help="tokens that a text of an .onnx file is cut to")] = None


@dataclass(frozen=True, kw_only=True)
class Elsewhere:
    """Another machine."""

    target: Annotated[str | None, Parameter(help="ssh://user@host[:port], where it is measured instead of here")] = None
    target_python: Annotated[str, Parameter(help="the interpreter there, with edgeft[cpu]")] = "python3"
    ssh_option: Annotated[
        tuple[str, ...], Parameter(help="further words for ssh, as in --ssh-option=-i --ssh-option=key", negative="")
    ] = ()


@dataclass(frozen=True)
class Asked:
    """What is measured, and on what."""

    places: list[str]
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

    Each runs in processes of its own, in turns; ratios are against the first.

    Args:
        subjects: what is measured.
        file: texts or questions to ask, as `predict` reads them; none: the first artifact's golden rows.
        label_column: column of the true labels, so that accuracy and calibration are measured, too.
        latency_table: write what heads, channels and layers of one folder of transformers cost, here or on --target,
            for prune.latency_table.
        data: data folder whose texts are asked for it.
        against: document of an earlier `edgeft bench --json`.
        fail_if: rules as in "p99>1.10x, accuracy<-0.5pt"; where one is broken the exit code is 1.
        html: write a page.
    """
    from edgeft.bench.harness import gate
    from edgeft.report import bench_report, bench_text, page, terminal

    if (against is None) != (fail_if is None):
        raise UserError("bench: --against and --fail-if go together")
    place, plan = elsewhere or Elsewhere(), protocol or Protocol()
    asked = Asked(subjects, file, columns or InputColumns(), label_column, plan)
    _check(asked, place)
    if latency_table is not None:
        unread = _unread(file, label_column, fail_if, html, json, plan.scenario)
        if others := [name for name, value in unread.items() if value]:
            raise UserError(f"bench: --latency-table writes nothing but the table; leave out {', '.join(others)}")
        _write_table(latency_table, subjects, data, plan, place)
        return
    if data is not None:
        raise UserError("bench: --data is for --latency-table; texts to ask are --file's")
    rules = gate.parse(fail_if) if fail_if is not None else []
    before = gate.base(against, rules) if against else {}
    gate.check(rules, before, label_column is not None, plan.scenario)
    if html:
        page.check(html, "bench: --html")
    found = _found(asked, place, partial(gate.comparable, rules, before) if rules else None)
    report = bench_report.report(found)
    terminal.show(report, stdout())
    if json:
        for line in bench_text.describe_disturbances(found):
            say(f"bench: {line}")
        print_json(found)
    if html:
        page.write(html, report)
    if rules:
        _judge(rules, before, found)


def _check(asked: Asked, place: Elsewhere) -> None:
    """Raises where something can't be meant, or would not be read."""
    if said := [said for holds, said in _mistakes(asked, place) if holds]:
        raise UserError(f"bench: {'; '.join(said)}")
    for name in ("tokens", "max_length"):
        if (value := getattr(asked.plan, name)) is not None and value <= 0:
            raise UserError(f"bench: --{name.replace('_', '-')} {value}: give more than 0")


def _mistakes(asked: Asked, place: Elsewhere) -> list[tuple[object, str]]:
    """What holds if options don't go together, and what is said then."""
    plan, usual = asked.plan, Protocol()
    usual_columns = InputColumns()
    return [
        (
            place.target is None and place != Elsewhere(),
            "--target-python and --ssh-option are of the machine that --target names",
        ),
        (plan.full and plan.seconds != usual.seconds, "--full is 60 s; leave out --seconds"),
        (
            plan.stream_alone and (asked.label_column or plan.scenario),
            "--stream-alone measures nothing else; leave out --label-column and --scenario",
        ),
        (
            "server" not in plan.scenario and (plan.bound_ms, plan.streams) != (usual.bound_ms, usual.streams),
            "--bound-ms and --streams are of --scenario server",
        ),
        (
            not any(one.endswith(".onnx") for one in asked.places)
            and (plan.tokenizer, plan.max_length) != (usual.tokenizer, usual.max_length),
            "--tokenizer and --max-length are of .onnx files, and none is named",
        ),
        (
            not asked.label_column and plan.drop_points != usual.drop_points,
            "--drop-points is of accuracy, which is measured with --label-column",
        ),
        (
            asked.file is None and asked.columns != usual_columns,
            "--text-column, --question-column and --context-column are of --file",
        ),
        (
            asked.label_column
            and (asked.columns.question_column, asked.columns.context_column)
            != (usual_columns.question_column, usual_columns.context_column),
            "--label-column is of texts; leave out --question-column and --context-column",
        ),
    ]


def _unread(*values: object) -> dict[str, object]:
    """Options that a latency table doesn't read."""
    return dict(zip(("--file", "--label-column", "--fail-if", "--html", "--json", "--scenario"), values, strict=True))


def _found(asked: Asked, place: Elsewhere, check: Check | None = None) -> dict[str, Any]:
    return _here(asked, check) if place.target is None else _there(asked, place)


def _here(asked: Asked, check: Check | None) -> dict[str, Any]:
    """The document, after `check` has seen what it says before anything is measured."""
    from edgeft.bench.harness import run
    from edgeft.bench.harness.subjects.subject import subjects

    plan = asked.plan
    found = subjects(asked.places, plan.threads, plan.tokenizer, plan.max_length)
    texts, labels = _texts(asked)
    if plan.tokens is not None:
        texts, labels = _of_length(found[0], texts, labels, plan.tokens)
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
        check(run.beginning(found, texts, how))
    return run.measured(found, texts, how, labels)


def _texts(asked: Asked) -> tuple[list[Any], list[str] | None]:
    """What is asked, and the true label of each."""
    from edgeft.bench.measure import texts_of
    from edgeft.runtime.texts import labelled

    first, file = Path(asked.places[0]), asked.file
    if file is None:
        if asked.label_column:
            raise UserError("bench: --label-column needs --file")
        return texts_of(first), None
    if asked.label_column:
        rows = list(labelled(file, asked.columns.text_column, asked.label_column, asked.columns.form()))
        return [text for text, _ in rows], [label for _, label in rows]
    pairs = (first / MANIFEST).is_file() and asks_pairs(first)
    return list(read_inputs(file, pairs, asked.columns)), None


def _of_length(first: Any, texts: list[Any], labels: list[str] | None, tokens: int) -> tuple[list[Any], None]:
    """Texts of one length instead, by the first subject's tokenizer."""
    from edgeft.bench.harness import lengths

    if labels is not None:
        raise UserError("bench: --tokens makes texts that have no labels; leave out --label-column")
    if any(not isinstance(text, str) for text in texts):
        raise UserError("bench: --tokens is for texts, not for questions")
    return lengths.of_length(texts, tokens, lengths.counter(first)), None


def _judge(rules: list[Any], before: Any, found: dict[str, Any]) -> None:
    """Raises where a rule is broken, or the machine was too noisy to say so."""
    from edgeft.bench.harness import gate

    seen = found["noise"]["seen"]
    judged = [rule for rule in rules if not (seen and gate.disturbed(rule))]
    if failed := gate.broken(judged, before, found):
        raise GateError(f"bench: {'; '.join(failed)}")
    if len(judged) < len(rules):
        raise GateError(f"bench: too noisy to judge: {'; '.join(seen)}")
    say("bench: no rule is broken")


def _there(asked: Asked, place: Elsewhere) -> dict[str, Any]:
    """The same on another machine: the same command line there, beside copies of what it names."""
    from edgeft.bench.harness.subjects import remote

    there = remote.target(place.target or "", place.target_python, place.ssh_option)
    copied: dict[str, Path] = {}
    words = ["bench"]
    for number, one in enumerate(asked.places):
        words.append(f"{number}/{Path(one).resolve().name}")
        copied |= {f"{number}/{name}": path for name, path in files_to_copy(one).items()}
    if asked.plan.tokenizer:
        raise UserError("bench --target: put tokenizer.json beside the .onnx file; --tokenizer isn't copied")
    words += ["--json", *_words(asked.plan)]
    if asked.file:
        copied[asked.file.name] = asked.file
        words += ["--file", asked.file.name]
        for name, value in asked.columns.to_say():
            words += [f"--{name.replace('_', '-')}", value]
    if asked.label_column:
        words += ["--label-column", asked.label_column]
    return {**remote.measured(there, words, copied), "target": place.target}


def files_to_copy(place: str) -> dict[str, Path]:
    """What is copied of a subject, name there to path here.

    Args:
        place: an artifact, of which the manifest, the files that it lists and its signature are copied; another
            folder; or an ONNX file, with what belongs to it beside it.

    Raises:
        ArtifactError: the artifact's files aren't those that its manifest lists.
        UserError: none of them.
    """
    from edgeft import artifact
    from edgeft.signing import signature_files

    path = Path(place)
    if not path.exists():
        raise UserError(f"bench --target: {place}: only files and folders can be copied there, and this is none")
    name = path.resolve().name
    if path.is_dir() and os.path.lexists(path / artifact.MANIFEST):
        manifest = artifact.read_manifest(path)
        artifact.verify_files(path, manifest)
        names = [artifact.MANIFEST, *manifest.files, *signature_files(path)]
        return {f"{name}/{file}": path / file for file in names}
    beside = [path.parent / "tokenizer.json", path.parent / "config.json", *path.parent.glob(f"{path.name}?data")]
    return {name: path} | {one.name: one for one in beside if path.suffix == ".onnx" and one.is_file()}


def _words(plan: Protocol) -> list[str]:
    """The options of a protocol that aren't the default, as words of a command line."""
    words, usual = [], Protocol()
    for name in ("seconds", "rounds", "bound_ms", "streams", "drop_points", "threads", "tokens", "max_length"):
        if (value := getattr(plan, name)) != getattr(usual, name):
            words += [f"--{name.replace('_', '-')}", str(value)]
    words += [f"--{name.replace('_', '-')}" for name in ("full", "stream_alone") if getattr(plan, name)]
    for scenario in plan.scenario:
        words += ["--scenario", scenario]
    return words


def _write_table(out: Path, subjects: list[str], data: Path | None, plan: Protocol, place: Elsewhere) -> None:
    """Measure the forms of a model as subjects of the bench, and write the table of them."""
    if len(subjects) != 1 or data is None:
        raise UserError("bench: --latency-table is of one folder of transformers, with --data FOLDER")
    if plan.rounds < 2:
        raise UserError(f"bench: --latency-table: {plan.rounds} round of several forms: their table wants two or more")
    if not out.parent.is_dir():
        raise UserError(f"bench: --latency-table {out}: there is no folder {out.parent}")
    need_training()
    from edgeft.data.dataset import load
    from edgeft.files import write_json
    from edgeft.models import model_folder
    from edgeft.pipeline import latency

    dataset = load(data)
    if "question" in dataset.validation.columns:
        raise UserError("bench: --latency-table asks texts, and these rows are questions; edgeft latency takes them")

    def ask(graphs: Any, texts: list[Any]) -> tuple[dict[str, float], dict[str, Any]]:
        with tempfile.TemporaryDirectory(prefix="edgeft-texts-") as scratch:
            file = Path(scratch) / "texts.jsonl"
            file.write_bytes(b"".join(msgspec.json.encode({"text": text}) + b"\n" for text in texts))
            places = [str(candidates.folder / name) for candidates, name in graphs.values()]
            cut = next(candidates.manifest.inputs.max_length for candidates, _ in graphs.values())
            asked = replace(plan, stream_alone=True, max_length=cut)
            found = _found(Asked(places, file, InputColumns(), None, asked), place)
        if seen := found["noise"]["seen"]:
            say(f"bench: the machine was noisy: {'; '.join(seen)}")
        medians = [one["single_stream"]["p50_ms"] for one in found["subjects"]]
        return dict(zip(graphs, medians, strict=True)), found["machine"]

    model = model_folder.find(subjects[0])
    if not isinstance(model, Path):
        raise UserError(f"bench: --latency-table: {subjects[0]} is no model folder")
    found = latency.measure_table(model, dataset, plan.threads, ask)
    write_json(out, found)
    print(
        f"{out}: a layer with everything takes {_whole_layer(found):.3f} ms, what isn't in a layer {found.base_ms:.3f}"
    )


def _whole_layer(table: Any) -> float:
    row = table.layers_ms[max(table.layers_ms)]
    layer: float = row[max(row)]
    return layer

"""`edgeft bench`: measure on this machine or on another one, and hold the figures against earlier ones."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from cyclopts import Parameter

from edgeft.artifact import MANIFEST
from edgeft.cli.app import Flat, Json, app, print_json, stdout
from edgeft.cli.device import File, InputColumns, asks_pairs, read_inputs
from edgeft.errors import GateError, UserError
from edgeft.progress import say

Scenario = Literal["offline", "server"]


@dataclass(frozen=True, kw_only=True)
class Protocol:
    """How long and how often."""

    seconds: Annotated[float, Parameter(help="of the single stream of each subject, over all rounds [s]")] = 10.0
    full: Annotated[bool, Parameter(help="60 s of single stream, 10 s of each rate", negative="")] = False
    rounds: Annotated[int, Parameter(help="times that every process is started anew")] = 8
    scenario: Annotated[tuple[Scenario, ...], Parameter(help="beside the single stream", negative="")] = ()
    bound_ms: Annotated[float | None, Parameter(help="p99 that the server scenario is to hold [ms]")] = None
    streams: Annotated[int, Parameter(help="queries of the server scenario that are answered at once")] = 1
    drop_points: Annotated[float, Parameter(help="accuracy that a faster subject may lose to the first [points]")] = 1.0
    threads: Annotated[int, Parameter(help="of the engine")] = 1
    tokenizer: Annotated[Path | None, Parameter(help="tokenizer.json of .onnx files; the one beside each")] = None
    max_length: Annotated[int | None, Parameter(help="tokens that a text of an .onnx file is cut to")] = None


@dataclass(frozen=True, kw_only=True)
class Elsewhere:
    """Another machine."""

    target: Annotated[str | None, Parameter(help="ssh://user@host[:port], where it is measured instead of here")] = None
    target_python: Annotated[str, Parameter(help="the interpreter there, with edgeft[cpu]")] = "python3"
    ssh_option: Annotated[
        tuple[str, ...], Parameter(help="further words for ssh, as in --ssh-option=-i --ssh-option=key", negative="")
    ] = ()


@app.command
def bench(
    subjects: list[str],
    *,
    file: File = None,
    columns: Annotated[InputColumns | None, Flat] = None,
    label_column: str | None = None,
    protocol: Annotated[Protocol | None, Flat] = None,
    elsewhere: Annotated[Elsewhere | None, Flat] = None,
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
        against: document of an earlier `edgeft bench --json`.
        fail_if: rules as in "p99>1.10x, accuracy<-0.5pt"; where one is broken the exit code is 1.
        html: write a page.
    """
    from edgeft.bench.harness import gate, table

    if (against is None) != (fail_if is None):
        raise UserError("bench: --against and --fail-if go together")
    rules = gate.parse(fail_if) if fail_if else []
    before = gate.base(against) if against else {}
    plan, place = protocol or Protocol(), elsewhere or Elsewhere()
    if place.target:
        found = _there(place, subjects, file, columns, label_column, plan)
    else:
        found = _here(subjects, file, columns, label_column, plan)
    table.show(found, stdout())
    if html:
        from edgeft.bench.harness import page

        page.write(html, found)
    if json:
        print_json(found)
    if rules:
        _judge(rules, before, found)


def _here(
    places: list[str], file: Path | None, columns: InputColumns | None, label_column: str | None, plan: Protocol
) -> dict[str, Any]:
    from edgeft.bench.harness import run
    from edgeft.bench.harness.subject import subjects

    found = subjects(places, plan.threads, plan.tokenizer, plan.max_length)
    texts, labels = _asked(places[0], file, columns, label_column)
    longer: dict[str, Any] = {"seconds": 60.0, "server_seconds": 10.0} if plan.full else {"seconds": plan.seconds}
    how = run.Plan(
        rounds=plan.rounds,
        scenarios=plan.scenario,
        bound_ms=plan.bound_ms,
        streams=plan.streams,
        drop_points=plan.drop_points,
        **longer,
    )
    return run.measured(found, texts, how, labels)


def _asked(
    place: str, file: Path | None, columns: InputColumns | None, label_column: str | None
) -> tuple[list[Any], list[str] | None]:
    """What is asked, and the true label of each."""
    from edgeft.bench.measure import texts_of
    from edgeft.runtime.texts import labelled

    if file is None:
        if label_column:
            raise UserError("bench: --label-column needs --file")
        return texts_of(Path(place)), None
    if label_column:
        rows = list(labelled(file, (columns or InputColumns()).text_column, label_column))
        return [text for text, _ in rows], [label for _, label in rows]
    first = Path(place)
    pairs = (first / MANIFEST).is_file() and asks_pairs(first)
    return list(read_inputs(file, pairs, columns)), None


def _judge(rules: list[Any], before: Any, found: dict[str, Any]) -> None:
    """Raises where a rule is broken, or the machine was too noisy to say so."""
    from edgeft.bench.harness import gate

    if seen := found["noise"]["seen"]:
        raise GateError(f"bench: too noisy to judge: {'; '.join(seen)}")
    if failed := gate.broken(rules, before, found["subjects"][0]):
        raise GateError(f"bench: {'; '.join(failed)}")
    say("bench: no rule is broken")


def _there(
    place: Elsewhere,
    places: list[str],
    file: Path | None,
    columns: InputColumns | None,
    label_column: str | None,
    plan: Protocol,
) -> dict[str, Any]:
    """The same on another machine: the same command line there, beside copies of what it names."""
    from edgeft.bench.harness import remote

    there = remote.target(place.target or "", place.target_python, place.ssh_option)
    for one in places:
        if not Path(one).exists():
            raise UserError(f"bench --target: {one}: only files and folders can be copied there, and this is none")
    copied: dict[str, Path] = {}
    words = ["bench"]
    for number, one in enumerate(places):
        words.append(f"{number}/{Path(one).resolve().name}")
        copied |= {f"{number}/{path.resolve().name}": path for path in _files(Path(one))}
    words += ["--json", *_words(plan)]
    if plan.tokenizer:
        raise UserError("bench --target: put tokenizer.json beside the .onnx file; --tokenizer isn't copied")
    if file:
        copied[file.name] = file
        words += ["--file", file.name]
        named = columns or InputColumns()
        for name in ("text_column", "question_column", "context_column"):
            words += [f"--{name.replace('_', '-')}", getattr(named, name)]
    if label_column:
        words += ["--label-column", label_column]
    found = remote.measured(there, words, copied)
    return {**found, "target": place.target}


def _files(path: Path) -> list[Path]:
    """What is copied of a subject: a folder, or an ONNX file and what belongs to it beside it."""
    beside = [path.parent / "tokenizer.json", path.parent / "config.json", *path.parent.glob(f"{path.name}?data")]
    return [path, *(one for one in beside if path.suffix == ".onnx" and one.is_file())]


def _words(plan: Protocol) -> list[str]:
    """The options of a protocol that aren't the default, as words of a command line."""
    words, usual = [], Protocol()
    for name in ("seconds", "rounds", "bound_ms", "streams", "drop_points", "threads", "max_length"):
        if (value := getattr(plan, name)) != getattr(usual, name):
            words += [f"--{name.replace('_', '-')}", str(value)]
    if plan.full:
        words.append("--full")
    for scenario in plan.scenario:
        words += ["--scenario", scenario]
    return words

"""The whole protocol on real subjects: an artifact, its bare graph, a server, a function; its table, page and gate."""

from __future__ import annotations

import copy
import io
import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console
from support import last_json
from support_counts import TEXTS, write_artifact

from edgeft import artifact
from edgeft.bench.harness import gate, quality
from edgeft.bench.harness.conditions import noise
from edgeft.bench.harness.run import Plan, choose_verdict, compare_with_first, describe_conditions, measure_side_by_side
from edgeft.bench.harness.scenarios.single import Stream
from edgeft.bench.harness.subjects.subject import Subject, subjects
from edgeft.bench.race import Ratio
from edgeft.errors import UserError
from edgeft.report import page, terminal
from edgeft.report.bench_report import report
from edgeft.report.bench_text import describe_ratio

SUBJECTS = Path(__file__).parent / "subjects.py"
LABELS = ["positive", "negative", "negative"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = write_artifact(tmp_path_factory.mktemp("document") / "counts")
    config = {"architectures": ["CountsForSequenceClassification"], "id2label": {"0": "negative", "1": "positive"}}
    graph = made.parent / "graph"
    graph.mkdir()
    for name in (artifact.MODEL, artifact.TOKENIZER):
        (graph / name).write_bytes((made / name).read_bytes())
    (graph / "config.json").write_text(json.dumps(config))
    return made


@pytest.fixture(scope="module")
def served(folder: Path) -> Iterator[str]:
    """A server that asks for a token; the bench reads it where the server did."""
    command = [sys.executable, "-m", "edgeft", "serve", str(folder), "--port", "0"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("EDGEFT_TOKEN", "secret")
        yield from _serving(command)


def _serving(command: list[str]) -> Iterator[str]:
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as server:
        assert server.stderr is not None
        yield next(line for line in server.stderr if "http://" in line).split(" at ")[-1].strip()
        server.send_signal(signal.SIGTERM)


@pytest.fixture(scope="module")
def found(folder: Path, served: str) -> dict[str, Any]:
    places = [str(folder), str(folder.parent / "graph" / artifact.MODEL), served, f"{SUBJECTS}:waits"]
    length: dict[str, Any] = {
        "seconds": 0.3,
        "queries": 60,
        "rounds": 2,
        "server_seconds": 0.1,
        "sustained_seconds": 0.3,
    }
    plan = Plan(scenarios=("offline", "server", "sustained"), bound_ms=1000.0, **length)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(noise, "REPEATED_SHARE", 0.5)  # as a user's, so that the table may speak of a repeat
        return measure_side_by_side(subjects(places, 1, None, None), TEXTS, plan, LABELS)


def test_all_subjects_give_the_same_answers(found: dict[str, Any]) -> None:
    kinds = [one["kind"] for one in found["subjects"]]
    assert kinds == ["artifact", "onnx", "http", "callable"]
    first, *others = (one["quality"] for one in found["subjects"])
    for one in (first, *others):
        assert (one["rows"], one["accuracy"]) == (3, pytest.approx(2 / 3))
        assert one["accuracy_interval"] == pytest.approx([0.2077, 0.9385], abs=1e-4)  # Wilson, of 2 in 3
    graph, server, other = others
    assert [one["wrong"] for one in (first, graph, server, other)] == [[2]] * 4  # "good good", by the file's order
    assert graph["calibration_error"] == pytest.approx(first["calibration_error"])
    assert server["calibration_error"] == pytest.approx(first["calibration_error"], abs=1e-6)
    assert other["calibration_error"] == pytest.approx(0.75 - 2 / 3)
    assert {ratio["drop_points"] for ratio in found["ratios"].values()} == {0.0}


def test_the_document_has_what_its_description_says(found: dict[str, Any], folder: Path) -> None:
    assert json.loads(json.dumps(found)) == found
    assert str(folder) not in json.dumps(found)
    first = found["subjects"][0]
    stream = first["single_stream"]
    assert stream["queries"] >= 60
    assert stream["p50_ms"] == stream["quantiles_ms"]["50"] <= stream["quantiles_ms"]["99"] == stream["p99_ms"]
    assert first["cold_start"]["runs"] == 2
    assert first["facts"]["bytes"] == sum((folder / name).stat().st_size for name in artifact.REQUIRED)
    assert set(first["where"]["parts_ms"]) == {"tokenize", "session", "decode"}
    assert sum(first["where"]["operators"].values()) == pytest.approx(1)
    assert "Gather" in first["where"]["operators"]
    assert set(first["offline_texts_per_s"]) == {"1", "8", "32"}
    assert first["server"]["rate"] > 0
    assert len(first["sustained"]["windows_ms"]) == 12
    assert first["replay"]["passed"]
    assert set(first["where"]["work"]) == {"fp32_macs", "int8_macs", "weight_bytes"}
    assert set(first["ceiling"]) == {"arithmetic_ms", "bandwidth_ms"}
    assert set(found["machine"]["peaks"]) == {
        "threads",
        "fp32_macs_per_s",
        "int8_macs_per_s",
        "int8_by",
        "bytes_per_s",
    }
    assert set(found["ratios"]) == {one["name"] for one in found["subjects"][1:]}
    described = (Path(__file__).parents[3] / "docs" / "bench.md").read_text(encoding="utf-8")
    for key in (*found, *first, *first["server"], *found["noise"], *stream):
        assert f"`{key}`" in described or f".{key}`" in described or f"`{key}[]`" in described, key


def test_the_table_and_the_page_show_it(found: dict[str, Any]) -> None:
    stream = io.StringIO()
    terminal.show(report(found), Console(file=stream, width=200))
    text = stream.getvalue()
    assert "counts                    0.6667  0.208 to 0.939" in text
    assert ("these milliseconds don't compare with those of another run" in text) == bool(found["noise"]["seen"])
    assert ("measured again" in text) == bool(found["noise"]["rounds"]["repeated"])
    for wanted in (
        "counts",
        "passed",
        "offline, texts/s",
        "without a pause",
        "queries each, batch 1, of 3 of 3 texts",
        "capacity, queries/s",
    ):
        assert wanted in text
    html = page.render(report(found))
    assert html.count("<svg") == 2
    for wanted in ("Beside the first", "Where the time goes", "tokenize", "queue, at capacity", "governor"):
        assert wanted in html
    assert "<script" not in html
    alone = {**found, "subjects": found["subjects"][3:], "ratios": {}}
    del alone["subjects"][0]["server"]
    assert page.render(report(alone)).count("<svg") == 1


@pytest.mark.parametrize(
    ("ratio", "lost", "margin", "said"),
    [
        ((0.5, 0.4, 0.6), None, 1.0, "faster"),
        ((0.5, 0.4, 0.6), 0.9, 1.0, "faster"),
        ((0.5, 0.4, 0.6), 1.5, 1.0, "not a win: 1.5 points less accuracy, 1 allowed"),
        ((1.2, 1.1, 1.3), -0.5, 1.0, "slower"),
        ((8.0, 7.9, 8.1), -20.0, 1.0, "slower, but the first has 20.0 points less accuracy, 1 allowed"),
        ((0.99, 0.97, 1.01), 9.0, 1.0, "no difference seen"),
        ((1 / 14.8, 1 / 15.3, 1 / 14.4), None, 1.14, "faster"),  # 14.8 times, where the clock had moved by 14%
        ((0.95, 0.93, 0.97), None, 1.14, "not reported as faster: noise can explain it"),
        ((1.1, 1.05, 1.15), None, 1.14, "not reported as slower: noise can explain it"),
        ((0.99, 0.97, 1.01), None, 1.14, "no difference seen"),
    ],
)
def test_what_may_be_said(ratio: tuple[float, float, float], lost: float | None, margin: float, said: str) -> None:
    middle, low, high = ratio
    assert choose_verdict(Ratio(median=middle, low=low, high=high).widened(margin), lost, 1.0) == said


def test_one_round_of_two_is_refused(folder: Path) -> None:
    one = Subject(name="a", kind="callable", place="", opener=f"{SUBJECTS}:waits")
    with pytest.raises(UserError, match="their ratio needs two or more"):
        measure_side_by_side([one, one], TEXTS, Plan(rounds=1))


def test_labels_of_another_task_are_refused(folder: Path) -> None:
    one = subjects([str(folder)], 1, None, None)
    with pytest.raises(UserError, match="counts has the labels negative, positive; the labels of the file are a, b"):
        measure_side_by_side(one, TEXTS, Plan(rounds=1, scenarios=()), ["a", "b", "a"])
    for labels in ({"0": "negative"}, 2):  # what a user's function may say of itself and isn't read
        odd = subject_of("named", labels=labels)
        quality.check(odd, TEXTS, ["negative", "positive"])
    with pytest.raises(UserError, match="it has the labels LABEL_0, LABEL_1; the labels of the file are a, b"):
        quality.check(subject_of("named", labels=["LABEL_0", "LABEL_1"]), TEXTS, ["a", "b", "a"])
    with pytest.raises(UserError, match="it answers negative, positive; the labels of the file are a, b"):
        measure_side_by_side(
            [subject_of("waits", threads=1)], TEXTS, Plan(seconds=0.1, rounds=1, scenarios=()), ["a", "b", "a"]
        )


def test_a_label_that_is_never_answered_is_measured_like_any_other(folder: Path) -> None:
    """The artifact knows "positive" and answers "negative" to both texts: nothing right, and a document."""
    one, plan = subjects([str(folder)], 1, None, None), Plan(seconds=0.1, queries=20, rounds=1, scenarios=())
    found = measure_side_by_side(one, ["bad", "bad bad"], plan, ["positive", "positive"])
    assert found["subjects"][0]["quality"]["accuracy"] == 0.0
    assert found["subjects"][0]["quality"]["wrong"] == [0, 1]


def test_labels_that_an_artifact_doesnt_have_are_named_first(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    quality.check(subjects([str(folder)], 1, None, None)[0], TEXTS, ["negative", "neutral", "mixed"])
    said = "bench: 2 of 3 rows have labels that counts doesn't have and can't answer: mixed, neutral\n"
    assert capfd.readouterr().err == said


def test_the_first_answers_are_the_labels_of_what_states_none() -> None:
    quality.check(subject_of("waits"), TEXTS, ["negative", "positive", "other"])
    with pytest.raises(UserError, match="it answers negative, positive; the labels of the file are a, b"):
        quality.check(subject_of("waits"), TEXTS, ["a", "b", "a"])


def subject_of(function: str, **options: Any) -> Subject:
    return Subject(name="it", kind="callable", place="", opener=f"{SUBJECTS}:{function}", options=options)


def test_what_doesnt_compare_is_said_before_anything_is_measured(run: Any, folder: Path, tmp_path: Path) -> None:
    plan = Plan()
    before = {**describe_conditions(subjects([str(folder)], 2, None, None), TEXTS, plan), "noise": {"seen": []}}
    before["subjects"][0]["single_stream"] = {"p99_ms": 1.0}
    (tmp_path / "base.json").write_text(json.dumps(before))
    (tmp_path / "texts.txt").write_text("\n".join(TEXTS))
    words = ("bench", folder, "--file", tmp_path / "texts.txt", "--against", tmp_path / "base.json")
    code, _, err = run(*words, "--fail-if", "p99>1.1x")
    assert (code, err) == (
        2,
        "edgeft: --fail-if: p99: threads of --against: 2, of this run: 1; they don't compare\n",
    )
    before["subjects"][0] |= {"threads": 1, "server": {"rate": 100.0, "bound_ms": 5.25}}
    (tmp_path / "base.json").write_text(json.dumps(before))
    for bound in ((), ("--bound-ms", 9)):
        code, _, err = run(*words, "--scenario", "server", *bound, "--fail-if", "capacity<0.9x")
        assert (code, err) == (
            2,
            "edgeft: --fail-if: capacity: give --bound-ms 5.25, under which --against has it\n",
        )


def test_points_lost_have_an_interval() -> None:
    """Of 400 rows the other alone has 24 wrong, the first alone 12."""
    first = {"rows": 400, "wrong": [*range(100, 150), *range(12)]}
    other = {"rows": 400, "wrong": [*range(100, 150), *range(200, 224)]}
    found = quality.accuracy_drop(first, other)
    assert found["drop_points"] == 3.0
    assert found["drop_interval"] == pytest.approx([0.0631, 6.1449], abs=1e-4)
    ratio = {"median": 0.5, "low": 0.4, "high": 0.6, "verdict": "faster"}
    assert describe_ratio({**ratio, **found}) == "faster; accuracy -3.0 points [-6.1, -0.1]"
    assert (
        describe_ratio({**ratio, **quality.accuracy_drop(other, first)}) == "faster; accuracy +3.0 points [+0.1, +6.1]"
    )
    assert (
        describe_ratio({**ratio, **quality.accuracy_drop(first, first)}) == "faster; accuracy +0.0 points [-1.0, +1.0]"
    )
    assert describe_ratio({**ratio, "drop_points": None, "drop_interval": None}) == "faster"


def test_the_command_measures_writes_and_judges(run: Any, folder: Path, tmp_path: Path) -> None:
    rows = tmp_path / "rows.csv"
    rows.write_text("text,label\n" + "".join(f"{text},{label}\n" for text, label in zip(TEXTS, LABELS, strict=True)))
    quickly = ("bench", folder, "--file", rows, "--label-column", "label", "--seconds", 0.2, "--rounds", 1)
    code, shown, err = run(*quickly, "--html", tmp_path / "page.html", "--json")
    assert code == 0, err
    assert (tmp_path / "page.html").read_text().startswith("<!doctype html>")
    base = tmp_path / "base.json"
    quiet = {**last_json(shown), "noise": {"seen": []}}
    base.write_text(json.dumps(quiet))
    better = copy.deepcopy(quiet)
    better["subjects"][0]["quality"]["accuracy"] = 0.9
    (tmp_path / "better.json").write_text(json.dumps(better))
    judged = (*quickly, "--fail-if", "accuracy<-1pt")
    code, shown, err = run(*judged, "--against", tmp_path / "better.json")
    assert code == 1
    assert "accuracy -23.33pt < -1pt (0.9 -> 0.666667)" in err  # whatever else runs here
    for words, said in {
        ("--against", base): "--against and --fail-if go together",
        ("--against", base, "--fail-if", "speed>1x"): "'speed>1x' can't be read",
        ("--stream-alone",): "--stream-alone measures nothing else",
        ("--full",): "--full is 60 s; leave out --seconds",
        ("--tokens", 0): "--tokens 0: give more than 0",
        ("--streams", 0, "--scenario", "server"): "--streams 0: nothing could be measured",
        ("--bound-ms", 0, "--scenario", "server"): "--bound-ms 0: nothing could be measured",
        ("--bound-ms", 5): "--bound-ms and --streams are of --scenario server",
        ("--streams", 2): "--bound-ms and --streams are of --scenario server",
        ("--tokenizer", rows): "--tokenizer and --max-length are of .onnx files, and none is named",
        ("--html", tmp_path / "no" / "page.html"): "there is no folder",
        ("--against", base, "--fail-if", "capacity<0.9x"): "--against has no capacity",
        ("--target", ""): "expected ssh://user@host",
        ("--target-python", "python9"): "are of the machine that --target names",
        ("--html", tmp_path): "a folder; give a file",
        ("--against", base, "--fail-if", ""): "--fail-if: no rule",
        ("--data", tmp_path): "--data is for --latency-table",
        ("--question-column", "q"): "--label-column is of texts; leave out --question-column and --context-column",
        ("--latency-table", "t.json"): "writes nothing but the table; leave out --file, --label-column",
        ("--target", "host"): "expected ssh://user@host",
    }.items():
        code, _, err = run(*quickly, *words)
        assert (code, said in err) == (2, True), err
    for words, said in {
        ("--text-column", "review"): "--text-column, --question-column and --context-column are of --file",
        ("--drop-points", 2, "--bound-ms", 5): "--bound-ms and --streams are of --scenario server; "
        "--drop-points is of accuracy, which is measured with --label-column",
    }.items():
        assert run("bench", folder, *words)[::2] == (2, f"edgeft: bench: {said}\n")
    for option, value in (("--rounds", 0), ("--seconds", -1)):
        code, _, err = run("bench", folder, option, value)
        assert (code, err) == (2, f"edgeft: bench: {option} {value}: nothing could be measured; give more than 0\n")


def test_the_gate_passes_what_is_equal(found: dict[str, Any]) -> None:
    found = {**found, "subjects": [{**found["subjects"][0], "noise": {"seen": []}}]}  # these tests don't run alone
    assert (
        gate.find_broken(gate.parse("p99>1.0x, accuracy<0pt, capacity<1x, size>1x, memory>1x, load>1x"), found, found)
        == []
    )


def test_what_answers_otherwise_than_recorded_is_no_win() -> None:
    quick, slow = (Stream(rounds=[[np.full(3, ms)] for _ in range(3)]) for ms in (1.0, 2.0))
    rows: list[dict[str, Any]]
    rows = [{"name": "a"}, {"name": "b", "replay": {"passed": False}}, {"name": "c", "replay": {"passed": True}}]
    found = compare_with_first({"a": slow, "b": quick, "c": quick}, rows, Plan())
    assert found["b"]["verdict"] == "not a win: it doesn't answer as recorded"
    turned = compare_with_first({"b": quick, "a": slow}, [rows[1], rows[0]], Plan())
    assert turned["a"]["verdict"] == "slower, but the first doesn't answer as recorded"
    assert (found["c"]["verdict"], found["c"]["median"], found["c"]["drop_points"]) == ("faster", 0.5, None)

"""The gate of a user's own CI."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from edgeft.bench.harness import gate
from edgeft.bench.harness.gate import Rule
from edgeft.bench.harness.run import SCHEMA_VERSION
from edgeft.errors import UserError
from edgeft.files import write_json


def subject(p99: float = 2.0, accuracy: float | None = 0.85, size: int = 8_000_000) -> dict[str, Any]:
    found: dict[str, Any] = {"single_stream": {"p99_ms": p99}, "facts": {"bytes": size}, "threads": 1}
    return found if accuracy is None else {**found, "quality": {"accuracy": accuracy}}


def document(one: dict[str, Any], processor: str = "a fast one", **changed: Any) -> dict[str, Any]:
    whole = {
        "schema_version": SCHEMA_VERSION,
        "subjects": [one],
        "machine": {"processor": processor},
        "noise": {"seen": []},
    }
    return {**whole, "texts_sha256": "abc", "plan": {"streams": 1, "bound_ms": None}, **changed}


def test_rules_are_read() -> None:
    assert gate.parse("p99>1.10x, accuracy<-0.5pt,size>8.5MB") == [
        Rule(name="p99", above=True, bound=1.1, unit="x"),
        Rule(name="accuracy", above=False, bound=-0.5, unit="pt"),
        Rule(name="size", above=True, bound=8.5, unit="MB"),
    ]


@pytest.mark.parametrize("text", ["p99>1.1", "p98>1x", "p99=1x", "p99>x", "accuracy<1.2.3pt"])
def test_what_cant_be_read_is_named(text: str) -> None:
    with pytest.raises(UserError, match="can't be read; expected FIGURE"):
        gate.parse(f"size>8MB, {text}")
    with pytest.raises(UserError, match="no rule"):
        gate.parse(" , ")


@pytest.mark.parametrize(
    ("rule", "now", "broken"),
    [
        ("p99>1.10x", subject(p99=2.19), []),
        ("p99>1.10x", subject(p99=2.3), ["p99 1.15x > 1.1x (2 -> 2.3)"]),
        ("p99>2.1ms", subject(p99=2.3), ["p99 2.3ms > 2.1ms (2 -> 2.3)"]),
        ("accuracy<-0.5pt", subject(accuracy=0.846), []),
        ("accuracy<-0.5pt", subject(accuracy=0.845), []),
        ("accuracy<-0.5pt", subject(accuracy=0.84), ["accuracy -1pt < -0.5pt (0.85 -> 0.84)"]),
        ("size>8.5MB", subject(size=9_000_000), ["size 9MB > 8.5MB (8e+06 -> 9e+06)"]),
    ],
)
def test_what_became_worse_is_said_with_both_numbers(rule: str, now: dict[str, Any], broken: list[str]) -> None:
    assert gate.find_broken(gate.parse(rule), document(subject()), document(now)) == broken


@pytest.mark.parametrize("text", ["accuracy<0.9x", "p99>1pt", "size>1ms", "capacity<5ms", "calibration_error>0.1MB"])
def test_a_figure_has_units_of_its_own(text: str) -> None:
    with pytest.raises(UserError, match=r"^--fail-if: .*: \w+ is in "):
        gate.parse(text)


def test_times_of_another_machine_are_not_judged() -> None:
    before, other = document(subject()), document(subject(), processor="a slow one")
    two = document({**subject(), "threads": 2})
    for now, said in ((other, "processor of --against: a fast one, of this run: a slow one"), (two, "threads of")):
        with pytest.raises(UserError, match=said):
            gate.find_broken(gate.parse("p99>1.1x"), before, now)
        assert gate.find_broken(gate.parse("accuracy<-1pt, size>1.1x, p99>9ms"), before, now) == []
    with pytest.raises(UserError, match="accuracy: the texts' digest of --against: abc, of this run: def"):
        gate.find_broken(gate.parse("accuracy<-1pt"), before, document(subject(), texts_sha256="def"))
    one, other = ({**subject(), "server": {"rate": 100.0, "bound_ms": bound}} for bound in (5.0, 9.0))
    of_five, of_nine = ({"streams": 1, "bound_ms": bound} for bound in (5.0, 9.0))
    assert gate.find_broken(gate.parse("capacity<0.9x"), document(one), document(one, plan=of_five)) == []
    with pytest.raises(UserError, match=r"capacity: give --bound-ms 5.0, under which --against has it"):
        gate.find_broken(gate.parse("capacity<0.9x"), document(one), document(other, plan=of_nine))
    with pytest.raises(UserError, match="capacity: streams of --against: 1, of this run: 4"):
        gate.find_broken(gate.parse("capacity<0.9x"), document(one), document(one, plan={**of_five, "streams": 4}))


def test_what_cant_be_judged_is_said_before_anything_is_measured() -> None:
    before = document({**subject(), "server": {"rate": 100.0}})
    gate.check(gate.parse("p99>1.1x, accuracy<-1pt, capacity<0.9x"), before, True, ("server",))
    with pytest.raises(UserError, match="accuracy won't be measured; accuracy needs --file with --label-column"):
        gate.check(gate.parse("accuracy<-1pt"), before, False, ("server",))
    with pytest.raises(UserError, match="capacity won't be measured"):
        gate.check(gate.parse("capacity<0.9x"), before, True, ())
    with pytest.raises(UserError, match="--against has no accuracy"):
        gate.check(gate.parse("accuracy<-1pt"), document(subject(accuracy=None)), True, ())


def test_noise_hides_neither_answers_nor_sizes(tmp_path: Path) -> None:
    write_json(tmp_path / "noisy.json", document(subject(), noise={"seen": ["it rained"]}))
    assert gate.read_base(tmp_path / "noisy.json", gate.parse("accuracy<-1pt, size>1.1x"))["noise"]["seen"] == [
        "it rained"
    ]
    assert [gate.depends_on_noise(rule) for rule in gate.parse("p50>1.1x, memory>2x, capacity<0.9x")] == [
        True,
        False,
        True,
    ]


def test_a_disturbed_capacity_is_not_judged() -> None:
    one = {**subject(), "server": {"rate": 100.0, "bound_ms": 5.0}}
    disturbed = {**one, "noise": {"seen": ["it rained"]}}
    plan = {"streams": 1, "bound_ms": 5.0}
    with pytest.raises(UserError, match="this run: too noisy to judge the capacity: it rained"):
        gate.find_broken(gate.parse("capacity<0.9x"), document(one), document(disturbed, plan=plan))


def test_nothing_that_stays_nothing_is_no_worse() -> None:
    empty, some = document(subject(size=0)), document(subject(size=5))
    assert gate.find_broken(gate.parse("size>1.1x"), empty, empty) == []
    assert gate.find_broken(gate.parse("size>1.1x"), empty, some) == ["size infx > 1.1x (0 -> 5)"]


def test_a_figure_that_is_missing_is_an_error_and_never_passes() -> None:
    with pytest.raises(UserError, match="this run has no accuracy"):
        gate.find_broken(gate.parse("accuracy<-1pt"), document(subject()), document(subject(accuracy=None)))
    with pytest.raises(UserError, match="--against has no capacity"):
        gate.find_broken(gate.parse("capacity<0.9x"), document(subject()), document(subject()))


def test_a_document_that_still_has_heat_and_energy_is_read(tmp_path: Path) -> None:
    earlier = document(subject(), degrees={"before": {"soc": 51.5}, "after": {"soc": 60.0}}, joules="not measured")
    write_json(tmp_path / "base.json", earlier)
    before = gate.read_base(tmp_path / "base.json", gate.parse("p99>1.10x"))
    assert gate.find_broken(gate.parse("p99>1.10x"), before, document(subject(p99=2.3))) == [
        "p99 1.15x > 1.1x (2 -> 2.3)"
    ]


def test_the_earlier_document_is_read(tmp_path: Path) -> None:
    write_json(tmp_path / "base.json", document(subject()))
    assert gate.read_base(tmp_path / "base.json", gate.parse("p99>1.1x")) == document(subject())
    for name, text in {"empty.json": "{}", "odd.json": "nothing", "list.json": '{"subjects": [1]}'}.items():
        (tmp_path / name).write_text(text)
        with pytest.raises(UserError, match="no document of `edgeft bench --json`"):
            gate.read_base(tmp_path / name, gate.parse("p99>1.1x"))
    with pytest.raises(UserError, match="no document"):
        gate.read_base(tmp_path / "none.json", gate.parse("p99>1.1x"))
    write_json(tmp_path / "older.json", document(subject(), schema_version=1))
    with pytest.raises(UserError, match="schema_version 1, this edgeft writes"):
        gate.read_base(tmp_path / "older.json", gate.parse("p99>1.1x"))
    write_json(tmp_path / "noisy.json", document(subject(), noise={"seen": ["it rained"]}))
    with pytest.raises(UserError, match="too noisy to compare: it rained"):
        gate.read_base(tmp_path / "noisy.json", gate.parse("p99>1.1x"))

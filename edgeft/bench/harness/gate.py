"""A gate for a user's own CI: compares a measurement with an earlier one by rules on what may get worse."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from edgeft.bench.harness.run import SCHEMA_VERSION
from edgeft.errors import UserError

RULE = re.compile(r"^(?P<name>\w+)\s*(?P<sign>[<>])\s*(?P<bound>[+-]?\d+(\.\d+)?)\s*(?P<unit>x|pt|ms|MB)?$")
FIGURES = {
    "p50": ("single_stream", "p50_ms"),
    "p90": ("single_stream", "p90_ms"),
    "p99": ("single_stream", "p99_ms"),
    "mean": ("single_stream", "mean_ms"),
    "load": ("cold_start", "load_ms"),
    "capacity": ("server", "rate"),
    "accuracy": ("quality", "accuracy"),
    "calibration_error": ("quality", "calibration_error"),
    "size": ("facts", "bytes"),
    "memory": ("peak_rss_bytes",),
}
TIMES = ("p50", "p90", "p99", "mean", "load", "capacity")  # figures that depend on processor and threads
UNITS = {
    **dict.fromkeys(("p50", "p90", "p99", "mean", "load"), ("x", "ms")),
    "capacity": ("x",),
    **dict.fromkeys(("accuracy", "calibration_error"), ("pt",)),
    **dict.fromkeys(("size", "memory"), ("x", "MB")),
}
OF_ABSOLUTE = {"ms": 1.0, "MB": 1e6}  # a unit, in those of the document
WANTS = "accuracy needs --file with --label-column, capacity --scenario server and a rate that holds"
POINT = 0.01
DIGITS = 9  # of a difference in points that mean something


@dataclass(frozen=True, kw_only=True)
class Rule:
    """One condition under which the gate fails.

    Attributes:
        name: a figure of `FIGURES`.
        above: whether it fails above the bound, else below it.
        bound: number.
        unit: `x` times the earlier figure, `pt` points of difference from it, `ms` or `MB` by itself.
    """

    name: str
    above: bool
    bound: float
    unit: str


def parse(text: str) -> list[Rule]:
    """Parse rules such as "p99>1.10x, accuracy<-0.5pt, size>8MB".

    Raises:
        UserError: names what can't be read.
    """
    rules = []
    for part in filter(None, (piece.strip() for piece in text.split(","))):
        match = RULE.match(part)
        if match is None or match["name"] not in FIGURES or match["unit"] is None:
            known = ", ".join(FIGURES)
            raise UserError(
                f"--fail-if: {part!r} can't be read; expected FIGURE, < or >, a number and x (times), pt (points), ms "
                f"or MB, as in p99>1.10x; figures: {known}"
            )
        if match["unit"] not in UNITS[match["name"]]:
            raise UserError(f"--fail-if: {part!r}: {match['name']} is in {' or '.join(UNITS[match['name']])}")
        rules.append(
            Rule(name=match["name"], above=match["sign"] == ">", bound=float(match["bound"]), unit=match["unit"])
        )
    if not rules:
        raise UserError('--fail-if: no rule; give one as in "p99>1.10x"')
    return rules


def depends_on_noise(rule: Rule) -> bool:
    """Whether noise affects the figure of a rule; answers and sizes it doesn't affect."""
    return rule.name in TIMES


def read_base(path: Path, rules: Sequence[Rule]) -> Mapping[str, Any]:
    """Read the earlier document.

    Args:
        path: its file.
        rules: rules that will use it.

    Raises:
        UserError: it can't be read, or was measured on a noisy machine and a rule is of times.
    """
    try:
        document: dict[str, Any] = msgspec.json.decode(path.read_bytes())
        seen, *_ = document["noise"]["seen"], document["machine"]["processor"], document["subjects"][0]["threads"]
    except (OSError, msgspec.DecodeError, KeyError, IndexError, TypeError, ValueError) as error:
        raise UserError(f"--against {path}: no document of `edgeft bench --json`: {error}") from None
    if (version := document.get("schema_version")) != SCHEMA_VERSION:
        raise UserError(
            f"--against {path}: schema_version {version}, this edgeft writes {SCHEMA_VERSION}; measure anew"
        )
    if seen and any(map(depends_on_noise, rules)):
        raise UserError(f"--against {path}: was measured on a machine too noisy to compare: {'; '.join(seen)}")
    return document


def find_broken(rules: Sequence[Rule], before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """Describe every broken rule, with both numbers.

    Args:
        rules: of the gate.
        before: the earlier document.
        now: this one; the first subject of each counts.

    Raises:
        UserError: a figure that one of the two doesn't have or that was disturbed, or one that is held against another
            processor's, number of threads', or texts', or a capacity against one under another bound.
    """
    check_comparable(rules, before, now)
    failed, (then, first) = [], (document["subjects"][0] for document in (before, now))
    for rule in rules:
        old, new = _figure(then, rule.name, "--against"), _figure(first, rule.name, "this run")
        value, bound = convert_figure(rule, old, new)
        if value > bound if rule.above else value < bound:
            sign = ">" if rule.above else "<"
            failed.append(
                f"{rule.name} {value:.4g}{rule.unit} {sign} {rule.bound:g}{rule.unit} ({old:.6g} -> {new:.6g})"
            )
    return failed


def convert_figure(rule: Rule, old: float, new: float) -> tuple[float, float]:
    """The figure in the rule's unit, and the bound."""
    if rule.unit == "x":
        times = new / old if old else (math.inf if new else 1.0)
        return times, rule.bound
    if rule.unit == "pt":
        return round((new - old) / POINT, DIGITS), rule.bound
    return new / OF_ABSOLUTE[rule.unit], rule.bound


def check_comparable(rules: Sequence[Rule], before: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    """Check that the figures which rules compare were measured under the same conditions.

    Args:
        rules: of the gate.
        before: the earlier document.
        now: this one, or what `run.describe_conditions` knows before measuring.

    Raises:
        UserError: a figure of another processor's, number of threads', or texts', or a capacity under another bound.
    """
    for rule in rules:
        if rule.unit not in OF_ABSOLUTE:
            _check_alike(rule.name, before, now)


def _check_alike(name: str, before: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    """Raise if a figure depends on something that differs between the documents."""
    same: list[tuple[str, Sequence[str | int]]] = []
    if name in TIMES:
        same = [("threads", ("subjects", 0, "threads")), ("processor", ("machine", "processor"))]
    if name not in ("size", "memory", "load"):
        same.append(("the texts' digest", ("texts_sha256",)))
    if name == "capacity":
        same.append(("streams", ("plan", "streams")))
        had, bound = _value_at(before, ("subjects", 0, "server", "bound_ms")), now["plan"]["bound_ms"]
        if had not in (None, bound):
            raise UserError(f"--fail-if: capacity: give --bound-ms {had!r}, under which --against has it")
    for what, path in same:
        then, this = (_value_at(document, path) for document in (before, now))
        if then != this:
            raise UserError(f"--fail-if: {name}: {what} of --against: {then}, of this run: {this}; they don't compare")


def _value_at(document: Any, path: Sequence[str | int]) -> Any:
    for key in path:
        value = document.get(key) if isinstance(document, dict) else document[key] if document else None
        document = value
    return document


def check(rules: Sequence[Rule], before: Mapping[str, Any], labels: bool, scenarios: Sequence[str]) -> None:
    """Check before anything is measured that every rule can be judged.

    Args:
        rules: of the gate.
        before: the earlier document.
        labels: whether the texts have true labels.
        scenarios: that are run beside the single stream.

    Raises:
        UserError: a figure that the earlier document doesn't have or that this run won't measure.
    """
    for rule in rules:
        _figure(before["subjects"][0], rule.name, "--against")
        wanting = not labels if rule.name in ("accuracy", "calibration_error") else "server" not in scenarios
        if rule.name in ("accuracy", "calibration_error", "capacity") and wanting:
            raise UserError(f"--fail-if: {rule.name} won't be measured; {WANTS}")


def _figure(subject: Mapping[str, Any], name: str, whose: str) -> float:
    value: Any = subject
    for key in FIGURES[name]:
        value = (value or {}).get(key)
    if value is None:
        raise UserError(f"--fail-if: {whose} has no {name}; {WANTS}")
    if name == "capacity" and (seen := (subject.get("noise") or {}).get("seen")):
        raise UserError(f"--fail-if: {whose}: too noisy to judge the capacity: {'; '.join(seen)}")
    return float(value)

"""A document of the harness as tables for people."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from edgeft.report.race_text import describe_repeats

MISSING = "–"
Row = Sequence[str]


def show(found: Mapping[str, Any], console: Console) -> None:
    """Print what was found.

    Args:
        found: the document.
        console: where to.
    """
    for rows in tables(found):
        console.print(_table(rows))
    for name, ratio in found["ratios"].items():
        first = found["subjects"][0]["name"]
        console.print(Text(f"{name} takes {ratio_text(ratio)} of {first}: {said(ratio)}"))
    for line in noisy(found):
        console.print(Text(line, style="bold yellow"))
    console.print(Text(conditions(found), style="dim"))
    console.print(Text(machine_line(found["machine"]), style="dim"))


def noisy(found: Mapping[str, Any]) -> list[str]:
    """What disturbed the single stream and what that means, and what disturbed each subject's further scenarios."""
    stream = found["noise"]["seen"]
    lines = [f"noise: {'; '.join(stream)}; milliseconds of another run don't compare with these"] if stream else []
    alone = {one["name"]: (one.get("noise") or {}).get("seen") for one in found["subjects"]}
    widened = "the ratios' intervals" if found["ratios"] else ""
    rounds = describe_repeats(found["noise"].get("rounds", {}), found["plan"]["rounds"], widened)
    return [
        *lines,
        *filter(None, [rounds]),
        *(f"{name}, beside the single stream: noisy: {'; '.join(seen)}" for name, seen in alone.items() if seen),
    ]


def tables(found: Mapping[str, Any]) -> list[list[Row]]:
    """The tables that have rows, the header first."""
    every = (_stream, _quality, _ceiling, _start, _sustained, _offline, _server)
    return [rows for made in every if len(rows := made(found)) > 1]


def _table(rows: Sequence[Row]) -> Table:
    table = Table(box=None, header_style="bold", pad_edge=False)
    for place, column in enumerate(rows[0]):
        table.add_column(column, justify="right" if place else "left", overflow="fold")
    for row in rows[1:]:
        table.add_row(*map(Text, row))
    return table


def _stream(found: Mapping[str, Any]) -> list[Row]:
    rows: list[Row] = [("single stream", "p50 ms", "p90 ms", "p99 ms", "MB", "replay")]
    for one in found["subjects"]:
        times = [f"{one['single_stream'][name]:.3f}" for name in ("p50_ms", "p90_ms", "p99_ms")]
        size = one["facts"].get("bytes")
        rows.append((one["name"], *times, f"{size / 1e6:.2f}" if size else MISSING, _replay(one)))
    return rows


def _quality(found: Mapping[str, Any]) -> list[Row]:
    rows: list[Row] = [("on the labelled texts", "accuracy", "95% interval", "calibration error")]
    for one in found["subjects"]:
        if judged := one.get("quality"):
            low, high = judged["accuracy_interval"]
            shares = (f"{judged['accuracy']:.4f}", f"{low:.3f} to {high:.3f}", f"{judged['calibration_error']:.4f}")
            rows.append((one["name"], *shares))
    return rows


def _ceiling(found: Mapping[str, Any]) -> list[Row]:
    rows: list[Row] = [
        ("ceiling", "arithmetic ms", "weights from memory ms", "session ms, mean", "times the arithmetic")
    ]
    for one in found["subjects"]:
        if least := one.get("ceiling"):
            session = one["where"]["session_mean_ms"]
            times = f"{session / least['arithmetic_ms']:.1f}" if least["arithmetic_ms"] else MISSING
            both = [f"{least[name]:.3f}" for name in ("arithmetic_ms", "bandwidth_ms")]
            rows.append((one["name"], *both, f"{session:.3f}", times))
    return rows


def _replay(one: Mapping[str, Any]) -> str:
    if "replay" not in one:
        return MISSING
    if "refused" in one["replay"]:
        return "REFUSED"
    return "passed" if one["replay"]["passed"] else "FAILED"


def _start(found: Mapping[str, Any]) -> list[Row]:
    rows: list[Row] = [("cold start", "import ms", "load ms", "first answer ms", "peak RSS MB", "installed MB")]
    for one in found["subjects"]:
        cold = one["cold_start"]
        if cold is None:  # a server's, which had started before
            continue
        start = [f"{cold[name]:.1f}" for name in ("import_ms", "load_ms", "first_answer_ms")]
        installed = one["facts"].get("install_bytes")
        peak = one["peak_rss_bytes"]
        sizes = (f"{peak / 1e6:.1f}" if peak else MISSING, f"{installed / 1e6:.0f}" if installed else MISSING)
        rows.append((one["name"], *start, *sizes))
    return rows


def _sustained(found: Mapping[str, Any]) -> list[Row]:
    rows: list[Row] = [("without a pause", "first ms", "last ms", "slower by")]
    for one in found["subjects"]:
        if kept := one.get("sustained"):
            first, last = kept["burst_ms"], kept["sustained_ms"]
            rows.append((one["name"], f"{first:.3f}", f"{last:.3f}", f"{last / first - 1:+.1%}"))
    return rows


def _offline(found: Mapping[str, Any]) -> list[Row]:
    measured = [one for one in found["subjects"] if "offline_texts_per_s" in one]
    if not measured:
        return []
    batches = list(measured[0]["offline_texts_per_s"])
    rows: list[Row] = [("offline, texts/s", *(f"{batch} a call" for batch in batches))]
    for one in measured:
        paces = [one["offline_texts_per_s"][batch] for batch in batches]
        rows.append((one["name"], *(MISSING if pace is None else f"{pace:.1f}" for pace in paces)))
    return rows


def _server(found: Mapping[str, Any]) -> list[Row]:
    rows: list[Row] = [("server", "p99 bound ms", "capacity, queries/s", "p50 ms there", "p99 ms there")]
    for one in found["subjects"]:
        if server := one.get("server"):
            held = next((load for load in server["loads"] if load["rate"] == server["rate"]), None)
            there = [f"{held[name]:.3f}" if held else MISSING for name in ("p50_ms", "p99_ms")]
            rows.append((one["name"], f"{server['bound_ms']:.3f}", rate_text(server, 1), *there))
    return rows


def rate_text(server: Mapping[str, Any], digits: int) -> str:
    """A capacity; where no rate held, the lowest that was asked."""
    if server["rate"] is None:
        return f"under {server['loads'][0]['rate']:.{digits}f}"
    return f"{server['rate']:.{digits}f}"


def conditions(found: Mapping[str, Any]) -> str:
    """What the figures depend on, in one line."""
    plan, streams = found["plan"], [one["single_stream"] for one in found["subjects"]]
    settled, times = sum(one["settled_rounds"] for one in streams), plan["rounds"] * len(streams)
    texts = "texts" if plan["tokens"] is None else f"texts made to have {plan['tokens']} tokens"
    processes = "1 new process" if plan["rounds"] == 1 else f"{plan['rounds']} new processes"
    return (
        f"{streams[0]['queries']} queries each, batch 1, of {streams[0]['texts']} of {found['texts']} {texts}; "
        f"{processes} each, "
        f"warmed up until two windows agreed within 2% ({settled} of {times} did)"
    )


def ratio_text(ratio: Mapping[str, float]) -> str:
    """As in "1.43x [1.40, 1.47]"."""
    return f"{ratio['median']:.2f}x [{ratio['low']:.2f}, {ratio['high']:.2f}]"


def said(ratio: Mapping[str, Any]) -> str:
    """A verdict, and where it was measured the accuracy, as in "faster; accuracy -0.3 points [-1.1, +0.5]"."""
    verdict: str = ratio["verdict"]
    if ratio["drop_points"] is None:
        return verdict
    low, high = ratio["drop_interval"]
    lost, least, most = (_points(-value) for value in (ratio["drop_points"], high, low))
    return f"{verdict}; accuracy {lost} points [{least}, {most}]"


def _points(value: float) -> str:
    return f"{round(value, 1) + 0.0:+.1f}"  # and no -0.0


def machine_line(machine: Mapping[str, Any]) -> str:
    """The machine in one line."""
    if not machine:
        return "machine not described"
    sets = " ".join(machine["instruction_sets"]) or "none of the listed instruction sets"
    versions = ", ".join(f"{name} {version}" for name, version in machine["versions"].items())
    return (
        f"{machine['processor']}, {machine['cores']['usable']} of {machine['cores']['logical']} cores, {sets}, "
        f"{machine['memory_bytes'] / 1e9:.1f} GB, {machine['os']}, {versions}"
    )

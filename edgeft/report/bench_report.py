"""A measurement of the harness as a report."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import partial
from typing import Any

from edgeft.report import bench_plots, bench_text, facts
from edgeft.report.blocks import (
    Bar,
    Block,
    Column,
    Figure,
    Headline,
    Report,
    Row,
    Section,
    Table,
    number_table,
    pair_table,
)

MISSING = facts.MISSING
MOST_OPERATORS = 8

Document = Mapping[str, Any]
Cells = tuple[str, ...]


def report(document: Document) -> Report:
    """Ratios, latency, and the machine; ratios come first on a page and last on a terminal, next to the prompt."""
    first, *others = (subject["name"] for subject in document["subjects"])
    beside = f" and {len(others)} beside it" if others else ""
    target = f"; {document['target']}" if "target" in document else ""
    ratios = _ratios(document, first)
    sections = (
        replace(ratios, shown="page"),
        Section("Latency", tuple(_latency(document)), f"{bench_text.describe_conditions(document)}."),
        replace(ratios, shown="terminal"),
        Section("Where the time goes", tuple(_shares_of_time(document)), PARTS, shown="page"),
        Section("Machine", tuple(_machine(document)), shown="page"),
    )
    return Report(
        title=f"{first}{beside}",
        tab=f"{first}: measured",
        subtitle=f"{bench_text.describe_machine(document['machine'])}{target}",
        headlines=tuple(_headlines(document)),
        warnings=tuple(f"{line}." for line in bench_text.describe_disturbances(document)),
        sections=tuple(section for section in sections if section.blocks),
    )


PARTS = (
    "Parts of one answer, one after the other; below them the shares of the session's operators, "
    "by onnxruntime's profile."
)


def _headlines(document: Document) -> Iterator[Headline]:
    """The figures of the first subject."""
    first = document["subjects"][0]
    stream = first["single_stream"]
    yield Headline("p50", f"{stream['p50_ms']:.3f} ms", "half of the texts are answered by then")
    yield Headline("p99", f"{stream['p99_ms']:.3f} ms", f"of {stream['queries']:,} queries")
    if server := first.get("server"):
        rate = f"{bench_text.rate_text(server, 0)}/s"
        yield Headline("capacity", rate, f"with p99 under {server['bound_ms']:.2f} ms")
    if quality := first.get("quality"):
        low, high = map(facts.percent, quality["accuracy_interval"])
        yield Headline("accuracy", facts.percent(quality["accuracy"]), f"{low} to {high}: {quality['rows']:,} texts")


def _ratios(document: Document, first: str) -> Section:
    rows = (
        Row((name, bench_text.ratio_text(ratio), bench_text.describe_ratio(ratio)))
        for name, ratio in document["ratios"].items()
    )
    table = Table((Column(), Column(kind="number"), Column()), tuple(rows))
    lead = f"How many times as long as {first} one text takes, with 95% intervals over fresh processes."
    return Section("Beside the first", (table,) if table.rows else (), lead)


def _latency(document: Document) -> Iterator[Block]:
    subjects = document["subjects"]
    yield Figure(partial(bench_plots.distribution, subjects), "one query after the other")
    if served := [subject for subject in subjects if subject.get("server")]:
        note = "p99 strong, p50 faint, dotted the bound"
        yield Figure(partial(bench_plots.loads, served), "arrivals that wait for nobody", note)
    for measure in (_stream, _quality, _ceiling, _start, _sustained, _offline, _server):
        header, *rows = measure(document) or [()]
        if rows:
            yield number_table(header, rows)


# -------------------------------------------------------------------------------------------------------------- tables


def _stream(document: Document) -> list[Cells]:
    rows: list[Cells] = [("single stream", "p50 ms", "p90 ms", "p99 ms", "MB", "replay")]
    for subject in document["subjects"]:
        times = [f"{subject['single_stream'][name]:.3f}" for name in ("p50_ms", "p90_ms", "p99_ms")]
        size = subject["facts"].get("bytes")
        rows.append((subject["name"], *times, f"{size / 1e6:.2f}" if size else MISSING, _replay(subject)))
    return rows


def _quality(document: Document) -> list[Cells]:
    rows: list[Cells] = [("on the labelled texts", "accuracy", "95% interval", "calibration error")]
    for subject in document["subjects"]:
        if quality := subject.get("quality"):
            low, high = quality["accuracy_interval"]
            shares = (f"{quality['accuracy']:.4f}", f"{low:.3f} to {high:.3f}", f"{quality['calibration_error']:.4f}")
            rows.append((subject["name"], *shares))
    return rows


def _ceiling(document: Document) -> list[Cells]:
    rows: list[Cells] = [
        ("ceiling", "arithmetic ms", "weights from memory ms", "session ms, mean", "times the arithmetic")
    ]
    for subject in document["subjects"]:
        if least := subject.get("ceiling"):
            session = subject["where"]["session_mean_ms"]
            times = f"{session / least['arithmetic_ms']:.1f}" if least["arithmetic_ms"] else MISSING
            both = [f"{least[name]:.3f}" for name in ("arithmetic_ms", "bandwidth_ms")]
            rows.append((subject["name"], *both, f"{session:.3f}", times))
    return rows


def _replay(subject: Document) -> str:
    if "replay" not in subject:
        return MISSING
    if "refused" in subject["replay"]:
        return "REFUSED"
    return "passed" if subject["replay"]["passed"] else "FAILED"


def _start(document: Document) -> list[Cells]:
    rows: list[Cells] = [("cold start", "import ms", "load ms", "first answer ms", "peak RSS MB", "installed MB")]
    for subject in document["subjects"]:
        cold = subject["cold_start"]
        if cold is None:  # a server's, which had started before
            continue
        start = [f"{cold[name]:.1f}" for name in ("import_ms", "load_ms", "first_answer_ms")]
        installed = subject["facts"].get("install_bytes")
        peak = subject["peak_rss_bytes"]
        sizes = (f"{peak / 1e6:.1f}" if peak else MISSING, f"{installed / 1e6:.0f}" if installed else MISSING)
        rows.append((subject["name"], *start, *sizes))
    return rows


def _sustained(document: Document) -> list[Cells]:
    rows: list[Cells] = [("without a pause", "first ms", "last ms", "slower by")]
    for subject in document["subjects"]:
        if sustained := subject.get("sustained"):
            first, last = sustained["burst_ms"], sustained["sustained_ms"]
            rows.append((subject["name"], f"{first:.3f}", f"{last:.3f}", f"{last / first - 1:+.1%}"))
    return rows


def _offline(document: Document) -> list[Cells]:
    measured = [subject for subject in document["subjects"] if "offline_texts_per_s" in subject]
    if not measured:
        return []
    batches = list(measured[0]["offline_texts_per_s"])
    rows: list[Cells] = [("offline, texts/s", *(f"{batch} a call" for batch in batches))]
    for subject in measured:
        paces = [subject["offline_texts_per_s"][batch] for batch in batches]
        rows.append((subject["name"], *(MISSING if pace is None else f"{pace:.1f}" for pace in paces)))
    return rows


def _server(document: Document) -> list[Cells]:
    rows: list[Cells] = [("server", "p99 bound ms", "capacity, queries/s", "p50 ms there", "p99 ms there")]
    for subject in document["subjects"]:
        if server := subject.get("server"):
            held = _load_held(server)
            latencies = [f"{held[name]:.3f}" if held else MISSING for name in ("p50_ms", "p99_ms")]
            rows.append((subject["name"], f"{server['bound_ms']:.3f}", bench_text.rate_text(server, 1), *latencies))
    return rows


# ------------------------------------------------------------------------------------------------------ time, machine


def _shares_of_time(document: Document) -> Iterator[Table]:
    """A waterfall for each subject whose parts were measured."""
    for subject in document["subjects"]:
        if subject["where"]["parts_ms"]:
            columns = (Column(subject["name"]), Column(kind="number"))
            yield Table(columns, (*_parts(subject), *_operators(subject)))


def _parts(subject: Document) -> Iterator[Row]:
    parts, start = dict(subject["where"]["parts_ms"]), 0.0
    if server := subject.get("server"):
        held = _load_held(server)
        waited = held["p50_ms"] - subject["single_stream"]["p50_ms"] if held else 0.0
        parts = {"tokenize": parts.pop("tokenize"), "queue, at capacity": max(0.0, waited), **parts}
    total = sum(parts.values()) or 1.0
    for name, took in parts.items():
        yield Row((name, f"{took:.3f} ms"), bar=Bar(took / total, start / total))
        start += took


def _operators(subject: Document) -> Iterator[Row]:
    for name, share in list(subject["where"]["operators"].items())[:MOST_OPERATORS]:
        yield Row((f"· {name}", facts.percent(share)), bar=Bar(share))


def _load_held(server: Document) -> Document | None:
    """The load at the capacity; None where no rate held."""
    return next((load for load in server["loads"] if load["rate"] == server["rate"]), None)


def _machine(document: Document) -> Iterator[Table]:
    """What the machine showed of itself; nothing where it wasn't described."""
    if not document["machine"]:
        return
    noise, clock = document["noise"], document["machine"]["clock"]
    pairs = [
        ("caches", ", ".join(f"{name} {size}" for name, size in document["machine"]["caches"].items()) or "not shown"),
        ("governor", str(clock["governor"])),
        ("clock now, at most", f"{clock['now_mhz']}, {clock['max_mhz']} MHz"),
        ("drift of a fixed piece of work", facts.percent(noise["drift"])),
        ("stolen by the host", facts.percent(noise["stolen"])),
        ("cores kept by others", f"{noise['foreign']:.2f}"),
    ]
    yield pair_table(pairs)

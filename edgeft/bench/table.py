"""The result of a measurement as tables for people."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from edgeft.bench import facts

MISSING = "–"


def show(result: dict[str, Any], console: Console | None = None) -> dict[str, Any]:
    """Print what `measure` or `compare` returned.

    Args:
        result: the document.
        console: where to print; None: stdout.

    Returns:
        The same document, for `--json`.
    """
    console = console or Console(highlight=False)
    artifacts = result.get("artifacts", [result])
    console.print(_main_table(artifacts, result.get("ratios", {})))
    if "against_teacher" in result:
        console.print(_teacher_line(result["against_teacher"]))
    console.print(_cold_table(artifacts))
    console.print(Text(conditions(artifacts[0]), style="dim"))
    console.print(Text(machine_line(result.get("machine", {})), style="dim"))
    return result


def _table(columns: Sequence[str]) -> Table:
    table = Table(box=None, header_style="bold", pad_edge=False)
    table.add_column(columns[0], overflow="fold")
    for column in columns[1:]:
        table.add_column(column, justify="right", overflow="fold")
    return table


def _main_table(artifacts: Sequence[Mapping[str, Any]], ratios: Mapping[str, Mapping[str, float]]) -> Table:
    columns = ["artifact", "precision", "p50 ms", "p90 ms", "p99 ms", "texts/s", "MB", "quality"]
    table = _table([*columns, "against first [95%]"] if ratios else columns)
    for item in artifacts:
        latency = item["latency"]
        cells = [item["artifact"], item["precision"], *(f"{latency[p]:.3f}" for p in ("p50_ms", "p90_ms", "p99_ms"))]
        cells += [f"{item['throughput_texts_per_s']:.1f}", f"{item['size']['device_bytes'] / 1e6:.2f}"]
        cells += [quality(item)]
        if ratios:
            cells += [ratio_text(ratios[item["artifact"]]) if item["artifact"] in ratios else MISSING]
        table.add_row(*map(Text, cells))
    return table


def quality(item: Mapping[str, Any]) -> str:
    """As in "accuracy 0.9120"."""
    figures = {name: value for name, value in item.get("quality", {}).items() if name != "rows" and value is not None}
    return ", ".join(f"{facts.name(name)} {value:.4f}" for name, value in figures.items()) or MISSING


def ratio_text(ratio: Mapping[str, float]) -> str:
    """As in "1.43x [1.40, 1.47]"."""
    return f"{ratio['median']:.2f}x [{ratio['low']:.2f}, {ratio['high']:.2f}]"


def _teacher_line(race: Mapping[str, Any]) -> Text:
    teacher, own = race["teacher"]["p50_ms"], race["artifact"]["p50_ms"]
    text = f"against the teacher, interleaved: {teacher:.3f} ms over {own:.3f} ms (p50) = {ratio_text(race['ratio'])}"
    return Text(text)


def _cold_table(artifacts: Sequence[Mapping[str, Any]]) -> Table:
    table = _table(["cold start", "import ms", "load ms", "first answer ms", "process ms", "peak RSS MB"])
    for item in artifacts:
        cold = item["cold_start"]
        figures = [f"{cold[name]:.1f}" for name in ("import_ms", "load_ms", "first_answer_ms", "process_ms")]
        table.add_row(*map(Text, [item["artifact"], *figures, f"{cold['peak_rss_bytes'] / 1e6:.1f}"]))
    return table


def conditions(item: Mapping[str, Any]) -> str:
    """What the latency depends on, in one line."""
    texts, threads = item["texts"], item["threads"]
    return (
        f"{item['latency']['queries']} queries, batch 1, tokenization counted; {texts['rows']} texts of "
        f"{texts['median_tokens']:g} tokens (median), {texts['max_tokens']} at most; "
        f"{threads} thread{'s' if threads > 1 else ''}; throughput in calls of {item['batch_size']} texts"
    )


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

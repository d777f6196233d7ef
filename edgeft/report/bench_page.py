"""A document of the harness as one HTML file that needs no network."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from edgeft.errors import UserError, require
from edgeft.files import write_atomically
from edgeft.report import bench_table, facts, page, plots
from edgeft.report.plots import FIRST, INK, MUTED, SECOND

PURPOSE = "to write the page of a measurement"
LINES = ((FIRST, "-"), (SECOND, "-"), (MUTED, "-"), (INK, (0, (4, 3))), (FIRST, (0, (4, 3))), (SECOND, (0, (1, 2))))
MOST_OPERATORS = 8

Document = Mapping[str, Any]


def check(path: Path) -> None:
    """See before anything is measured whether the page could be written.

    Raises:
        MissingExtraError: jinja2 or matplotlib is not installed.
        UserError: the folder isn't there.
    """
    if path.is_dir():
        raise UserError(f"bench: --html {path}: a folder; give a file")
    if not path.absolute().parent.is_dir():
        raise UserError(f"bench: --html {path}: there is no folder {path.parent}")
    page.template("bench.html", PURPOSE)
    require("matplotlib", PURPOSE)


def write(path: Path, found: Document) -> None:
    """Write the page.

    Args:
        path: the file.
        found: the document.

    Raises:
        MissingExtraError: jinja2 or matplotlib is not installed.
    """
    write_atomically(path, render(found).encode())


def render(found: Document) -> str:
    """The page."""
    served = [one for one in found["subjects"] if one.get("server")]
    made = page.template("bench.html", PURPOSE, percent=facts.percent)
    return str(
        made.render(
            found=found,
            headlines=_headlines(found),
            distribution=distribution(found["subjects"]),
            loads=loads(served) if served else None,
            wheres=[(one["name"], _bars(one)) for one in found["subjects"] if one["where"]["parts_ms"]],
            tables=bench_table.tables(found),
            ratios=[
                (name, bench_table.ratio_text(ratio), bench_table.said(ratio))
                for name, ratio in found["ratios"].items()
            ],
            first=found["subjects"][0]["name"],
            conditions=bench_table.conditions(found),
            machine=bench_table.machine_line(found["machine"]),
            noisy=bench_table.noisy(found),
            physical=_physical(found),
        )
    )


def _headlines(found: Document) -> list[tuple[str, str, str]]:
    """Name, value and note of the figures at the top, those of the first subject."""
    first = found["subjects"][0]
    stream = first["single_stream"]
    made = [
        ("p50", f"{stream['p50_ms']:.3f} ms", "half of the texts are answered by then"),
        ("p99", f"{stream['p99_ms']:.3f} ms", f"of {stream['queries']:,} queries"),
    ]
    if server := first.get("server"):
        made.append(
            ("capacity", f"{bench_table.rate_text(server, 0)}/s", f"with p99 under {server['bound_ms']:.2f} ms")
        )
    if quality := first.get("quality"):
        low, high = map(facts.percent, quality["accuracy_interval"])
        made.append(("accuracy", facts.percent(quality["accuracy"]), f"{low} to {high}: {quality['rows']:,} texts"))
    return made


def distribution(subjects: Sequence[Document]) -> str:
    """How many of the texts are answered by when, one line for each subject."""

    def paint(axes: Any) -> None:
        for one, (colour, dashes) in zip(subjects, LINES * len(subjects), strict=False):
            quantiles = one["single_stream"]["quantiles_ms"]
            label = one["name"].replace("$", r"\$")
            axes.plot(quantiles.values(), [float(q) for q in quantiles], color=colour, linestyle=dashes, label=label)
        _logarithmic(axes, [q for one in subjects for q in one["single_stream"]["quantiles_ms"].values()])
        axes.set_xlabel("ms")
        axes.set_ylabel("% of texts answered by then")

    return _drawn("distribution", "Distribution of the latency of one text", len(subjects), paint)


def loads(subjects: Sequence[Document]) -> str:
    """Latency over arrivals: solid p99, faint p50; a mark where p99 still holds."""

    def paint(axes: Any) -> None:
        for one, (colour, dashes) in zip(subjects, LINES * len(subjects), strict=False):
            server = one["server"]
            rates = [load["rate"] for load in server["loads"]]
            label = one["name"].replace("$", r"\$")
            p99 = [load["p99_ms"] for load in server["loads"]]
            axes.plot(rates, p99, color=colour, linestyle=dashes, label=label, marker="o", markersize=3)
            axes.plot(rates, [load["p50_ms"] for load in server["loads"]], color=colour, linewidth=0.9, alpha=0.5)
            axes.axhline(server["bound_ms"], color=colour, linewidth=0.8, linestyle=(0, (1, 3)))
            if server["rate"]:
                axes.axvline(server["rate"], color=colour, linewidth=0.8, alpha=0.6)
        axes.set_yscale("log")
        _plain_ticks(axes.yaxis)
        axes.set_xlabel("queries due in a second")
        axes.set_ylabel("ms from when a query was due")

    return _drawn("loads", "Latency against arrivals; the dotted line is the bound of p99", len(subjects), paint)


def _drawn(name: str, label: str, lines: int, paint: Callable[[Any], None]) -> str:
    def whole(figure: Any) -> None:
        axes = figure.subplots()
        paint(axes)
        if lines > 1:
            axes.legend(loc="best", fontsize=8)

    return plots.draw(5.4, 3.5, name, label, whole)


def _logarithmic(axes: Any, values: Sequence[float]) -> None:
    if max(values) / min(values) > plots.LOG_SPAN:
        axes.set_xscale("log")
        _plain_ticks(axes.xaxis)


def _plain_ticks(axis: Any) -> None:
    from matplotlib import ticker

    axis.set_major_locator(ticker.LogLocator(subs=(1.0, 2.0, 5.0)))
    axis.set_major_formatter(ticker.FuncFormatter(lambda value, _: f"{value:g}"))
    axis.set_minor_formatter(ticker.NullFormatter())


def _bars(one: Document) -> list[tuple[str, str, float, float]]:
    """A waterfall: name, value, where the bar begins and how long it is, in percent of the whole answer."""
    parts, made, at = dict(one["where"]["parts_ms"]), [], 0.0
    if server := one.get("server"):
        held = next((load for load in server["loads"] if load["rate"] == server["rate"]), None)
        waited = held["p50_ms"] - one["single_stream"]["p50_ms"] if held else 0.0
        parts = {"tokenize": parts.pop("tokenize"), "queue, at capacity": max(0.0, waited), **parts}
    total = sum(parts.values()) or 1.0
    for name, took in parts.items():
        made.append((name, f"{took:.3f} ms", 100 * at / total, 100 * took / total))
        at += took
    shares = list(one["where"]["operators"].items())[:MOST_OPERATORS]
    return made + [(f"· {name}", facts.percent(share), 0.0, 100 * share) for name, share in shares]


def _physical(found: Document) -> list[tuple[str, str]]:
    """What the machine showed of itself."""
    noise, clock = found["noise"], found["machine"]["clock"]
    return [
        ("caches", ", ".join(f"{name} {size}" for name, size in found["machine"]["caches"].items()) or "not shown"),
        ("governor", str(clock["governor"])),
        ("clock now, at most", f"{clock['now_mhz']}, {clock['max_mhz']} MHz"),
        ("drift of a fixed piece of work", facts.percent(noise["drift"])),
        ("stolen by the host", facts.percent(noise["stolen"])),
        ("cores kept by others", f"{noise['foreign']:.2f}"),
    ]

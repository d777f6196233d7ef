"""The summary that a run or a stage prints at its end."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table

from edgeft.artifact import Selective
from edgeft.pipeline import gates, scrutiny
from edgeft.pipeline.update.compare_teachers import NEW
from edgeft.report import facts
from edgeft.report.race_text import describe_speedup
from edgeft.stage_folder import StageResult

Results = dict[str, StageResult]


def show(results: Results, folder: Path, console: Console) -> None:
    """Print the gate table, the headline and three next commands."""
    gates.show(results, console)
    if "augment" in results:
        _print_augmentation(results["augment"].metrics, console)
    model_names = {"artifact": "artifact", "finetune": "teacher"}
    if stage := next((name for name in model_names if name in results), None):
        scrutiny.show(results[stage].metrics, model_names[stage], console)
    for name in ("update", "update_artifact"):
        if name in results:
            _print_update(results[name].metrics, "teacher" if name == "update" else "artifact", console)
    if "artifact" in results:
        _print_headline(results, console)
        _print_next_commands(folder, console, ' --context "your text"' if "token_f1" in gates.measures(results) else "")
    else:
        console.print(f"\nReport: {folder / 'report.html'}", soft_wrap=True)


def _print_headline(results: Results, console: Console) -> None:
    bench, size = results["bench"].metrics, results["artifact"].metrics["bytes"]
    if verdict := baseline_warning(results):
        console.print(verdict)
    seconds = sum(result.seconds for result in results.values())
    latency = bench["latency"]
    console.print(
        f"artifact: {facts.size(size)}, p50 {latency['p50_ms']:.2f} ms, p99 {latency['p99_ms']:.2f} ms "
        f"({bench['threads']} thread{'s' if bench['threads'] > 1 else ''}); stages took {seconds:.0f} s, at most "
        f"{facts.size(max(result.peak_memory_bytes for result in results.values()))} of memory"
    )
    if abstains := results["calibrate"].metrics.get("selective"):
        console.print(Selective(**abstains).line)
    if race := bench.get("against_teacher"):
        console.print(f"{describe_speedup(race)}{_calibration_text(results['calibrate'].metrics)}")


def _calibration_text(calibration: dict[str, Any]) -> str:
    """The effect of the calibration; empty without probabilities."""
    if "test" not in calibration:
        return ""
    before, after = (calibration["test"][when]["ece"] for when in ("before", "after"))
    return f"; calibration error on test {before:.4f} -> {after:.4f}"


def baseline_warning(results: Results) -> str | None:
    """A line if the artifact isn't significantly better than the baseline; None if it is, or if that is unknown."""
    if "baseline" not in results:
        return None
    base = results["baseline"].metrics["test"]["accuracy"]
    ends = results["artifact"].metrics.get("intervals", {}).get("accuracy", {})
    if ends.get("low") is None or base < ends["low"]:
        return None
    where = "within" if base <= ends["high"] else "above"
    return (
        f"the baseline's {facts.percent(base)} on the test rows is {where} the artifact's 95% interval: more rows, or "
        "TF-IDF may do"
    )


def _print_augmentation(metrics: dict[str, Any], console: Console) -> None:
    rows, methods = metrics["train_rows"], metrics["methods"]
    by_method = ", ".join(f"{name} kept {counts['kept']} of {counts['made']}" for name, counts in methods.items())
    console.print(f"training rows: {rows['before']}, after augmentation {rows['after']} ({by_method})")


def _print_update(metrics: dict[str, Any], what: str, console: Console) -> None:
    title = f"{metrics['metric']} of the {what} on test rows, before and after"
    _print(facts.table(title, metrics["rows"]), console)
    new = metrics["rows"].get(NEW, {})
    if (new.get("change_points") or 0) < 0:
        console.print(
            f"the new rows are not answered better: {new['change_points']:.1f} points on {new['rows']:,} of them"
        )


def _print_next_commands(folder: Path, console: Console, more: str) -> None:
    console.print(f"\nReport: {folder / 'artifact' / 'report.html'}\nNext:")
    what = "question" if more else "text"
    console.print(f'  edgeft predict {folder / "artifact"} "your own {what}"{more}', soft_wrap=True)
    console.print(f"  edgeft bench {folder / 'artifact'}", soft_wrap=True)
    console.print(f"  edgeft serve {folder / 'artifact'}", soft_wrap=True)


def document(results: Results, folder: Path) -> dict[str, Any]:
    """The run as plain values for --json."""
    return {
        "run_dir": str(folder),
        "artifact": str(folder / "artifact") if "artifact" in results else None,
        "stages": {
            name: {"seconds": result.seconds, "peak_memory_bytes": result.peak_memory_bytes, "metrics": result.metrics}
            for name, result in results.items()
        },
    }


def show_metrics(result: StageResult, console: Console) -> None:
    """Print the metrics of one stage."""
    plain = {name: value for name, value in result.metrics.items() if name not in scrutiny.KEYS}
    for block in facts.blocks(plain, result.stage):
        _print(block, console)
    scrutiny.show(result.metrics, "model", console)


def _print(block: facts.Block, console: Console) -> None:
    table = Table(*(["", *block.columns]), title=block.title, title_justify="left", box=box.SIMPLE_HEAD)
    table.show_header = bool(block.columns)
    for name, cells in block.rows:
        table.add_row(name, *cells)
    console.print(table)

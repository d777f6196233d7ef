"""The closer look at what ships (intervals, slices, counterfactual swaps) as text for terminal, card and report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

import edgeft
from edgeft.data.dataset import Split
from edgeft.recipe import FinetuneConfig
from edgeft.report import facts
from edgeft.report.slice_sections import count_changed, lowest_slices
from edgeft.train import identity_swaps, scrutiny
from edgeft.train.metrics.counterfactual import swap
from edgeft.train.tasks import TrainingTask

KEYS = ("intervals", "slices", "counterfactual")
SHOWN = 8  # slices on a terminal and in the card
Plain = Mapping[str, Any]


def of_artifact(package: edgeft.Model, task: TrainingTask, predictions: Any, config: FinetuneConfig) -> dict[str, Any]:
    """Take the closer look through the runtime, one text at a time as on a device.

    Args:
        package: the artifact.
        task: of the rows.
        predictions: of the package on the test split.
        config: resamples, seed and identity terms.
    """
    test = task.dataset.test

    def predict(texts: Sequence[str]) -> Any:
        return task.predict_artifact(package, scrutiny.replace_texts(test, texts))

    return scrutiny.analyze_predictions(task, predictions, test, predict, config)


def of_metrics(metrics: Plain) -> dict[str, Any]:
    """The intervals, slices and swaps among a stage's metrics, without the examples."""
    look = {key: metrics[key] for key in KEYS if key in metrics}
    if "counterfactual" in look:
        look["counterfactual"] = {key: part for key, part in look["counterfactual"].items() if key != "examples"}
    return look


def examples(look: Plain, split: Split, config: FinetuneConfig) -> list[dict[str, Any]]:
    """The answers that a swap changes, with the texts that stage.json and the manifest omit.

    Args:
        look: a closer look.
        split: the rows that were looked at.
        config: names the identity terms.
    """
    terms = identity_swaps.load_terms(config.identity_terms)
    return [
        {
            **example,
            "text": split.texts[example["place"]],
            "swapped": swap(split.texts[example["place"]], terms[example["kind"]]),
            "row": int(split.rows[example["place"]]),
        }
        for example in look.get("counterfactual", {}).get("examples", ())
    ]


# ----------------------------------------------------------------------------------------------------------- for people


def show(look: Plain, who: str, console: Console) -> None:
    """Print the intervals, the weakest slices and the swaps, as far as they were measured.

    Args:
        look: metrics with some of `KEYS`.
        who: the model, as in `teacher`.
        console: to print on.
    """
    if not look.get("intervals"):
        return
    console.print(f"{who} on test: {'; '.join(lines_of_intervals(look))}")
    if weakest := list(lowest_slices(look, SHOWN)):
        metric = look["slices"]["metric"]
        table = Table(title=f"Where the {who} is weakest, on test", title_justify="left", box=box.SIMPLE_HEAD)
        table.add_column("slice", overflow="fold")
        for column in ("texts", facts.name(metric), "95% interval"):
            table.add_column(column, justify="right", no_wrap=True)
        for name, part in weakest:
            cells = [facts.figure(metric, part["value"]), facts.interval(metric, part["low"], part["high"])]
            table.add_row(Text(name), facts.integer(part["rows"]), *cells)
        console.print(table)
    if line := line_of_swaps(look):
        console.print(line)


def lines_of_intervals(look: Plain) -> list[str]:
    """Each headline metric with its interval."""
    return [
        f"{facts.name(name)} {facts.figure(name, interval['value'])} "
        f"(95% interval {facts.interval(name, interval['low'], interval['high'])})"
        for name, interval in look["intervals"].items()
        if interval["value"] is not None
    ]


def line_of_swaps(look: Plain) -> str:
    """How many answers change with an identity term; empty if that wasn't measured."""
    swaps = look.get("counterfactual")
    if swaps is None:
        return ""
    if not swaps["texts"]:
        return "identity terms: no test text has one to swap"
    kinds = ", ".join(
        f"{facts.name(kind)} {facts.percent(part['flip_rate'])} of {facts.integer(part['texts'])}"
        for kind, part in swaps["by_kind"].items()
    )
    return (
        f"identity terms: swapping them changes the answer to {facts.integer(count_changed(swaps))} of "
        f"{facts.integer(swaps['texts'])} texts that have one, {facts.percent(swaps['flip_rate'])} ({kinds})"
    )


def card(look: Plain) -> list[str]:
    """The card's paragraphs: the weakest slices as Markdown, and the swaps."""
    parts: list[str] = []
    if weakest := list(lowest_slices(look, SHOWN)):
        metric = look["slices"]["metric"]
        lines = [f"| the weakest slices | texts | {facts.name(metric)} | 95% interval |", "|---|---|---|---|"]
        for name, part in weakest:
            shown = name.replace("|", "\\|").replace("\n", " ").replace("<", "&lt;")
            cells = [facts.figure(metric, part["value"]), facts.interval(metric, part["low"], part["high"])]
            lines.append(f"| {shown} | {part['rows']} | {' | '.join(cells)} |")
        parts.append("\n".join(lines))
    if line := line_of_swaps(look):
        parts.append(f"{line[0].upper()}{line[1:]}.")
    return parts

"""The model card, README.md of the artifact."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from edgeft import tasks
from edgeft.artifact import Selective
from edgeft.cleaning import Cleaning
from edgeft.data.clean import clean
from edgeft.pipeline import gates, scrutiny
from edgeft.recipe import Recipe
from edgeft.report import facts
from edgeft.report.race_text import describe_noise, describe_speedup
from edgeft.stage_folder import StageResult

ORDER = ("baseline", "teacher", "student", "artifact")


def render(recipe: Recipe, results: Mapping[str, StageResult], manifest_facts: Mapping[str, Any]) -> str:
    """The card as Markdown; every figure was measured by this run.

    Args:
        recipe: resolved.
        results: of every stage.
        manifest_facts: the manifest's facts.
    """
    bench, calibration = results["bench"].metrics, results["calibrate"].metrics
    labels = results["data"].metrics.get("labels", {})
    named = f"; labels: {', '.join(map(str, labels))}" if labels else ""
    teacher = manifest_facts["lineage"]["teacher"]
    parts = [
        f"# {recipe.name}",
        f"A `{recipe.task}` model made by edgeft from `{teacher}`. It runs without PyTorch, "
        f"where edgeft is installed from a checkout by `{_install(clean.cleaning_of(recipe.data))}`:",
        f'```python\nimport edgeft\n\nmodel = edgeft.load("artifact")\nmodel({tasks.get(recipe.task).example})\n```',
        f"It answers `{tasks.get(recipe.task).prediction}`{named}.",
        "## Quality, on the same test rows",
        _quality(manifest_facts["metrics"], *gates.measures(results)),
        *scrutiny.card(manifest_facts["metrics"]["artifact"]),
        *_calibration(calibration),
        "## Cost, on the machine that made it",
        _cost(bench, results["package"].metrics["bytes"], manifest_facts["latency"].get("budget", {}).get("seen", [])),
        "## Input",
        _input(clean.cleaning_of(recipe.data)),
        "## Texts of the data in this folder",
        _texts(recipe, results["package"].metrics["golden_rows"]),
        "## Limits",
        _limits(results),
        "## Licences",
        _licences(manifest_facts["licences"]),
    ]
    return "\n\n".join(parts) + "\n"


def _input(cleaning: Cleaning) -> str:
    """What happens to a text before the model sees it."""
    if not cleaning:
        return "Texts go to the tokenizer as they are."
    done = [f"cleaned ({', '.join(cleaning.steps)})"] if cleaning.steps else []
    if cleaning.anonymise:
        done.append(f"anonymised ({', '.join(cleaning.anonymise)})")
    if cleaning.names_model:
        done.append(f"freed of names and places ({cleaning.names_model})")
    return f"As in training, texts are {' and '.join(done)} before they are tokenized; the runtime does it."


def _texts(recipe: Recipe, rows: int) -> str:
    """Which texts of the user's rows are in the artifact.

    Args:
        recipe: resolved.
        rows: of golden.json.
    """
    if not recipe.report.texts:
        return (
            f"None word for word (`report.texts` is off). golden.json holds the token ids of {rows} rows, which "
            "tokenizer.json turns back into words."
        )
    hidden = clean.cleaning_of(recipe.data).anonymise
    state = f"anonymised ({', '.join(hidden)})" if hidden else "as they stand in the data, personal data included"
    shown = (
        f"report.html quotes at most {recipe.report.mistakes} mistakes and the answers that change with a swapped term"
    )
    return (
        f"golden.json holds {rows} of the validation and test rows, and {shown}: these texts are {state}, and they go "
        "wherever this folder goes. `--set report.texts=false` leaves them out."
    )


def _install(cleaning: Cleaning) -> str:
    """The command that installs what a device needs."""
    extras = ["cpu"]
    extras += ["clean"] if "unicode" in cleaning.steps or "phone" in cleaning.anonymise else []
    extras += ["names"] if cleaning.names_model else []
    return f"pip install --no-compile '.[{','.join(extras)}]'"


def _calibration(calibration: Mapping[str, Any]) -> list[str]:
    """The effect of the calibration and when the model abstains; empty without probabilities."""
    if "test" not in calibration:
        return []
    before, after = (calibration["test"][when]["ece"] for when in ("before", "after"))
    method = calibration["method"]
    how = f"temperature {calibration['temperature']:.3f}" if method == "temperature" else method
    lines = [f"Calibration error on the test rows: {before:.4f} before and {after:.4f} after calibration ({how})."]
    if abstains := calibration.get("selective"):
        lines.append(f'Each answer has an `"abstain"`: {Selective(**abstains).line}.')
    return lines


def _limits(results: Mapping[str, StageResult]) -> str:
    rows, calibration = results["data"].metrics["rows"], results["calibrate"].metrics
    others = f" and from {rows['unlabelled']} texts without a label" if rows.get("unlabelled") else ""
    learned = f"It learned from {rows['train']} labelled rows{others} and knows no other kind of text"
    if "test" in calibration:
        learned += f"; its calibration ({calibration['method']}) holds for text like theirs"
    worst = "worst mistakes" if gates.measures(results)[0] == "accuracy" else "figures on parts of the test rows"
    return f"{learned}. report.html shows its {worst}."


def _licences(licences: Mapping[str, str]) -> str:
    """The licences as stated by the sources."""
    names = {"model": "Base model", "student": "Student's checkpoint", "data": "Data"}
    sentences = " ".join(f"{name}: {licences[source]}." for source, name in names.items() if source in licences)
    return f"As the sources' own cards and packages say. {sentences}"


def _quality(metrics: Mapping[str, Mapping[str, Any]], lead: str, second: str | None) -> str:
    heads = [facts.name(lead), "95% interval", *([facts.name(second)] if second else [])]
    lines = [f"| | {' | '.join(heads)} |", f"|---{'|---' * len(heads)}|"]
    for name in ORDER:
        if name in metrics:
            figures = metrics[name]
            ends = figures.get("intervals", {}).get(lead, {})
            cells = [facts.figure(lead, figures.get(lead)), facts.interval(lead, ends.get("low"), ends.get("high"))]
            cells += [facts.significant(figures[second], 3)] if second else []
            lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _cost(bench: Mapping[str, Any], size: int, again: Sequence[str]) -> str:
    latency, machine = bench["latency"], bench["machine"]
    lines = [
        f"- graph and tokenizer: {facts.size(size)}",
        f"- latency with tokenization, batch 1, {bench['threads']} thread: p50 {latency['p50_ms']:.2f} ms, "
        f"p99 {latency['p99_ms']:.2f} ms",
        f"- machine: {machine['processor']}",
    ]
    if race := bench.get("against_teacher"):
        lines.append(f"- {describe_speedup(race)}, both in the same race")
    if noise := describe_noise(bench.get("race", {})):
        lines.append(f"- {noise}")
    lines += [f"- near the budget, so measured again, alone: {line}" for line in again]
    return "\n".join(lines)

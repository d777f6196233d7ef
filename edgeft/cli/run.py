"""`edgeft pipeline`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter

from edgeft import recipe
from edgeft.cli.app import Json, app, need_training, print_json, stdout
from edgeft.models import hub
from edgeft.stage_folder import StageResult


@app.command
def pipeline(
    name: str | None = None,
    *,
    data: Annotated[list[str] | None, Parameter(consume_multiple=False, negative="")] = None,
    text_column: str | None = None,
    label_column: str | None = None,
    task: str | None = None,
    model: str | None = None,
    run_dir: Path | None = None,
    budget: str | None = None,
    set: Annotated[list[str] | None, Parameter(consume_multiple=False, negative="")] = None,
    until: str | None = None,
    dry_run: Annotated[bool, Parameter(negative="")] = False,
    json: Json = False,
) -> None:
    """Make an artifact from a labelled file: every stage, skipping what is complete.

    Args:
        name: recipe file or built-in recipe; none: the defaults.
        data: labelled rows: a file, a pattern of files, a Hugging Face dataset id or folder, or demo:rotten-tomatoes;
            may be repeated.
        text_column: column with the text.
        label_column: column with the label.
        task: as in text-regression; none: the recipe's, else what the columns give away, else text-classification.
        model: model folder, Hugging Face id, or demo:all-minilm-l6-v2.
        run_dir: run folder; default runs/NAME, NAME being the recipe's.
        budget: limits, as in "p99<=15ms,size<=30MB,drop<=1pt".
        set: any option, as in --set distill.epochs=2; may be repeated.
        until: the last stage to run: data, baseline, finetune, augment, distill, latency, prune, export, calibrate,
            package, bench or artifact; of those, the ones that the recipe asks for.
        dry_run: print the stages and their state, and do nothing.
    """
    options = {
        "data.file": data[0] if data and len(data) == 1 else data,
        "data.text_column": text_column,
        "data.label_column": label_column,
        "task": task,
        "finetune.model": model,
        "budget": budget,
    }
    settings = {path: value for path, value in options.items() if value is not None}
    reads_model = not dry_run and until not in ("data", "baseline")
    chosen = _chosen(name, {**settings, **recipe.parse_settings(set or [])}, reads_model)
    folder = run_dir or Path("runs") / chosen.name
    need_training()
    from edgeft.pipeline import run as room

    if dry_run:
        show_plan(room.plan(chosen, folder, until), json)
        return
    results = room.run_pipeline(chosen, folder, until)
    show_run(results, folder, json)


def _chosen(name: str | None, settings: dict[str, Any], reads_model: bool) -> recipe.Recipe:
    """The recipe, with the task that the columns give away where neither it nor a setting names one.

    Where its model will be read, it is looked for before anything of the rows is.
    """
    chosen = recipe.load(name, settings)
    hub.check(chosen.finetune.model or hub.DEMO, ask=reads_model)
    tree = recipe.with_settings(recipe.read_tree(name) if name else {}, settings)
    if "task" in tree or "task" in (tree.get("data") or {}):
        return chosen
    from edgeft.data.read import sources

    task = sources.task_by_columns(chosen.data)
    return chosen if task is None else recipe.load(name, {**settings, "task": task})


def show_plan(states: list[tuple[str, str]], json: bool) -> None:
    """Print the stages and their state."""
    for stage, state in states:
        print(f"{stage:12} {state}")
    if json:
        print_json(dict(states))


def show_run(results: dict[str, StageResult], folder: Path, json: bool) -> None:
    """Print the result of a run."""
    from edgeft.pipeline import summary

    summary.show(results, folder, stdout())
    if json:
        print_json(summary.document(results, folder))

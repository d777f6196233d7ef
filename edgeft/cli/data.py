"""`edgeft data` and `edgeft advise`: what a user should know before training."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from edgeft import recipe
from edgeft.cli.app import Flat, Json, app, print_json, print_words, stdout
from edgeft.cli.lines import advise_line, data_line, pipeline_line
from edgeft.cli.tokens import token_counter
from edgeft.errors import RecipeError, UserError, require
from edgeft.progress import say
from edgeft.recipe import DataConfig

if TYPE_CHECKING:
    from edgeft.data.profile.lengths import Counting
    from edgeft.pipeline.advise.advise import Problem

PURPOSE = "to read labelled rows"
Changes = list[dict[str, Any]]
SIDES = ("before", "after")  # the texts of a previewed row


@app.command
def data(
    files: list[str] | None = None,
    /,
    config: Annotated[DataConfig | None, Flat] = None,
    *,
    model: str | None = None,
    thorough: Annotated[bool, Parameter(negative="")] = False,
    preview: int | None = None,
    html: Path | None = None,
    out: Path | None = None,
    json: Json = False,
) -> None:
    """Show what labelled rows are like and what to do about them; with --out, write them as a data folder.

    Args:
        files: rows, as --file takes them.
        model: whose tokenizer counts the lengths: model folder, Hugging Face id or demo:all-minilm-l6-v2.
        thorough: judge the labels of all rows up to 50,000, not of 3,000; a second or more for each thousand.
        preview: show so many rows before and after cleaning instead; personal data stands in "before" as in the file.
        html: also write a page with plots.
        out: read, clean and split the rows into this data folder instead.
    """
    config = _with_files(config or DataConfig(), files)
    recipe.check_stage("data", config)
    if config.file is None:
        raise RecipeError("data: no file; give FILE, or --file FILE")
    if out is not None and (preview is not None or html is not None):
        raise UserError("data: --out writes a data folder, --preview and --html look at the rows; give one of them")
    if preview is not None and html is not None:
        raise UserError("data: --preview shows rows, --html writes a page that quotes none; give one of them")
    if preview is not None and preview < 1:
        raise UserError(f"data: --preview {preview} asks for no row; give 1 or more")
    require("pyarrow", PURPOSE)
    config = _with_task(config)
    if out is not None:
        _write(config, out, json)
    elif preview is not None:
        _preview(config, preview, json)
    else:
        _profile(config, token_counter(model), thorough, html, json)


def _with_files(config: DataConfig, files: list[str] | None) -> DataConfig:
    """Add the positional files to the config."""
    if not files:
        return config
    if config.file is not None:
        raise UserError("data: files are given with and without --file; give them one way")
    return dataclasses.replace(config, file=files[0] if len(files) == 1 else files)


def _with_task(config: DataConfig) -> DataConfig:
    """Set the task from the columns if the user named none."""
    from edgeft.data.read import sources

    task = sources.task_by_columns(config)
    return config if task is None else dataclasses.replace(config, task=task)


def _write(config: DataConfig, out: Path, json: bool) -> None:
    require("rensa", "to look for near duplicates")
    from edgeft.data import prepare
    from edgeft.data.read import sources
    from edgeft.pipeline import summary

    result = prepare.run(config, sources.local_files(config), out)
    if json:
        print_json(result)
    else:
        summary.show_metrics(result, stdout())


def _profile(config: DataConfig, counter: Counting, thorough: bool, html: Path | None, json: bool) -> None:
    from edgeft.data.profile import profile_report, recommendations
    from edgeft.data.profile.profile import JUDGED, THOROUGH, profile
    from edgeft.report import page, terminal

    if html is not None:
        page.check(html, "data: --html")
    document = profile(config, counter, THOROUGH if thorough else JUDGED)
    document["command"] = None if recommendations.is_fatal(document["todo"]) else data_line(config, document["todo"])
    report = profile_report.report(document)
    terminal.show(report, stdout())
    if document["command"]:
        print_words(f"\nNext:\n  {document['command']}\n  {advise_line(config)}")
    if html is not None:
        page.write(html, report)
        say(f"data: page written to {html}")
    if json:
        print_json(document)


def _preview(config: DataConfig, count: int, json: bool) -> None:
    from edgeft.data import prepare
    from edgeft.data.clean import clean
    from edgeft.data.profile import cleaning_preview
    from edgeft.data.profile.scan import REPAIRS

    if not clean.cleaning_of(config):
        config = dataclasses.replace(config, clean=list(REPAIRS))
        say(f"data: no cleaning is set; this is what {' '.join(f'--clean {step}' for step in REPAIRS)} would do")
    cleaning = clean.cleaning_of(config)
    read = prepare.read_usable(config)
    changes: Changes = []
    for rows in read.values():
        changes_found = clean.preview(rows, cleaning, count - len(changes))
        changes += [dataclasses.asdict(change) for change in changes_found]
    cleaning_preview.show(changes, count, stdout())
    if json:
        shown = _without_personal(changes, config.anonymise_region)
        print_json({"schema_version": 1, "steps": cleaning.steps, "anonymise": cleaning.anonymise, "changes": shown})


def _without_personal(changes: Changes, region: str) -> Changes:
    """Changes for a document, which travels further than a terminal: no texts unless all personal data is found."""
    from edgeft.cleaning.personal import anonymise
    from edgeft.data.profile.scan import findable

    notes: list[str] = []
    kinds = findable(region, notes)
    if notes:
        say(f"data: the JSON document holds no texts, as not all personal data can be found: {notes[0]}")
        return [{name: value for name, value in change.items() if name not in SIDES} for change in changes]
    return [change | {side: anonymise(change[side], kinds, region) for side in SIDES} for change in changes]


# -------------------------------------------------------------------------------------------------------------- advise


@app.command
def advise(
    files: list[str] | None = None,
    /,
    config: Annotated[DataConfig | None, Flat] = None,
    *,
    rows: int | None = None,
    labels: int = 0,
    tokens: float | None = None,
    model: str | None = None,
    json: Json = False,
) -> None:
    """Recommend model size, method and lengths for a file of rows, or for described ones, on this machine.

    Args:
        files: rows, as --file takes them; none: --task, --rows, --labels and --tokens tell the problem.
        rows: how many training rows.
        labels: how many labels.
        tokens: of a text, 95% have no more.
        model: whose tokenizer counts the lengths: model folder, Hugging Face id or demo:all-minilm-l6-v2.
    """
    config = _with_files(config or DataConfig(), files)
    recipe.check_stage("data", config)
    numbers = {"--rows": rows, "--tokens": tokens, "--labels": labels or None}
    flags = [flag for flag, value in numbers.items() if value is not None]
    if config.file is not None and flags:
        raise UserError(f"advise: {', '.join(flags)} and a file; the file tells by itself")
    if config.file is None and (rows is None or tokens is None):
        raise UserError("advise: nothing to go by; give FILE, or --rows and --tokens (and --task, --labels)")
    if bad := [f"{flag} {numbers[flag]}" for flag in flags if not 1 <= (numbers[flag] or 0) < math.inf]:
        raise UserError(f"advise: {', '.join(bad)}: give a number from 1 on")
    from edgeft.data.formats import task_of
    from edgeft.pipeline.advise.advise import Problem

    things: list[dict[str, Any]] = []
    if config.file is None:
        problem = Problem(task=task_of(config), rows=rows or 1, tokens=tokens or 1.0, labels=labels)
    else:
        counter = token_counter(model)  # first, as a model that can't be had is said before rows are read
        config = _with_task(config)
        problem, things = _measure_problem(config, counter)
    _show_advice(problem, things, config, json)


def _measure_problem(config: DataConfig, counter: Counting) -> tuple[Problem, list[dict[str, Any]]]:
    """The problem of a file, and what there is to do about its rows."""
    from edgeft.data.profile.profile import profile
    from edgeft.pipeline.advise.advise import problem_of

    document = profile(config, counter, judged=0)
    return problem_of(document), document["todo"]


def _show_advice(problem: Problem, things: list[dict[str, Any]], config: DataConfig, json: bool) -> None:
    from edgeft.data.profile import recommendations
    from edgeft.pipeline.advise import advice_report
    from edgeft.pipeline.advise import advise as room
    from edgeft.report import terminal

    document = room.advise(problem, room.this_machine())
    fatal = recommendations.is_fatal(things)
    document["command"] = None if fatal else pipeline_line(config, document["advice"], things)
    document["notes"] += [thing["why"] for thing in things if thing["level"] == "must" and not thing["option"]]
    terminal.show(advice_report.report(document), stdout())
    if not fatal:
        print_words(f"\nNext:\n  {document['command']}")
    if json:
        print_json(document)

"""`edgeft search`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter
from cyclopts.validators import Number

from edgeft import recipe
from edgeft.cli.app import Json, app, need_training, print_json, stdout
from edgeft.errors import require


@app.command
def search(
    name: str | None = None,
    *,
    trials: Annotated[int, Parameter(validator=Number(gte=1))],
    space: Path,
    run_dir: Path | None = None,
    workers: Annotated[int, Parameter(validator=Number(gte=1))] = 1,
    pruner: Literal["median", "halving", "none"] = "median",
    keep_all: Annotated[bool, Parameter(negative="")] = False,
    data: Annotated[list[str] | None, Parameter(consume_multiple=False, negative="")] = None,
    text_column: str | None = None,
    label_column: str | None = None,
    model: str | None = None,
    set: Annotated[list[str] | None, Parameter(consume_multiple=False, negative="")] = None,
    json: Json = False,
) -> None:
    """Search the fine-tuning options that do best on the validation split; the same command goes on after a kill.

    Args:
        name: recipe file or built-in recipe; none: the defaults.
        trials: how many trainings there are to be, over all workers and calls.
        space: YAML file of options, as in `finetune.lora_rank: [4, 8, 16]` or
            `finetune.learning_rate: {low: 1.0e-5, high: 1.0e-3, log: true}`.
        run_dir: folder of the search; default runs/NAME-search, NAME being the recipe's.
        workers: processes on one study; the same command in another terminal adds as many.
        pruner: what ends a hopeless trial at a look at the validation split.
        keep_all: keep the model of every completed trial, not only the best.
        data: labelled rows: a file, a pattern of files, a Hugging Face dataset id or folder, or demo:rotten-tomatoes;
            may be repeated.
        text_column: column with the text.
        label_column: column with the label.
        model: model folder, Hugging Face id, or demo:all-minilm-l6-v2.
        set: any option, as in --set finetune.epochs=2; may be repeated.
    """
    given = {
        "data.file": data[0] if data and len(data) == 1 else data,
        "data.text_column": text_column,
        "data.label_column": label_column,
        "finetune.model": model,
    }
    settings = {path: value for path, value in given.items() if value is not None}
    chosen = recipe.load(name, {**settings, **recipe.parse_settings(set or [])})
    need_training()
    require("optuna", "to search")
    from edgeft.report import terminal
    from edgeft.search.finetuning import run

    folder = run_dir or Path("runs") / f"{chosen.name}-search"
    summary = run.search(chosen, space, folder, trials, workers, pruner, keep_all)
    terminal.show(summary.report(), stdout())
    if json:
        print_json(summary.document())

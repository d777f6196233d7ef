"""`edgeft compress`."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter
from cyclopts.validators import Number

from edgeft import recipe
from edgeft.cli.app import Json, app, need_training, print_json, stdout
from edgeft.errors import require


@app.command
def compress(
    run: Path,
    *,
    budget: str,
    trials: Annotated[int, Parameter(validator=Number(gte=1))] = 20,
    space: str | None = None,
    out: Path | None = None,
    set: Annotated[list[str] | None, Parameter(consume_multiple=False, negative="")] = None,
    json: Json = False,
) -> None:
    """Search the best small model of a finished run inside a budget; the same command goes on after a kill.

    The first trial is the run's own recipe. What can't fit is ended before it trains. Exit code 1: nothing fits.

    Args:
        run: run folder of `edgeft pipeline` with a trained teacher; it is only read.
        budget: limits, as in "p99<=2ms,size<=8MB,drop<=1pt"; drop is in points under the teacher on validation.
        trials: how many models are tried, over all calls; another budget goes on with those that were measured.
        space: YAML file of options or the YAML itself, as in "prune.head_ratio: [0, 0.5]"; default: layers, heads,
            channels, vocabulary and precision.
        out: folder of the search; default RUN/compress.
        set: any option of distill, prune, export, calibrate, bench or report, as in --set distill.epochs=2; may be
            repeated.
    """
    settings = recipe.parse_settings(set or [])
    need_training()
    require("optuna", "to search")
    from edgeft.report import terminal
    from edgeft.search.budgeted.run import check
    from edgeft.search.budgeted.run import compress as search

    summary = search(run, budget, out, trials, space, settings)
    terminal.show(replace(summary.report(), warnings=()), stdout())  # `check` says that nothing fits
    if json:
        print_json(summary.document())
    check(summary)

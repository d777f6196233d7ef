"""`edgeft update`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from edgeft import recipe
from edgeft.cli.app import Json, app, need_training
from edgeft.cli.run import show_plan, show_run


@app.command
def update(
    run: Path,
    *,
    data: Annotated[list[str], Parameter(consume_multiple=False, negative="")],
    run_dir: Path | None = None,
    budget_drop: float | None = None,
    budget: str | None = None,
    set: Annotated[list[str] | None, Parameter(consume_multiple=False, negative="")] = None,
    until: str | None = None,
    dry_run: Annotated[bool, Parameter(negative="")] = False,
    json: Json = False,
) -> None:
    """Train a finished run further on new rows, without forgetting its own, and rebuild the artifact.

    Args:
        run: run folder of an earlier `edgeft pipeline` or `edgeft update`; it stays as it is.
        data: new rows, of the same columns and labels; may be repeated.
        run_dir: run folder of the update; default RUN-update.
        budget_drop: points that the lead metric on earlier test rows, or on those of one label, may fall; default 1.
            A fall that chance may explain is said and refuses nothing.
        budget: limits of the artifact, as in "p99<=15ms,size<=30MB,drop<=1pt"; default RUN's.
        set: any option, as in --set finetune.rehearsal_fraction=0.5; may be repeated.
        until: the last stage to run: data, baseline, finetune, update, augment, distill, latency, prune, export,
            calibrate, package, bench, update_artifact or artifact; of those, the ones that the recipe asks for.
        dry_run: print the stages and their state, and do nothing.
    """
    options = {"update.max_old_drop_points": budget_drop, "budget": budget}
    settings = {path: value for path, value in options.items() if value is not None}
    need_training()
    from edgeft.pipeline import run as room
    from edgeft.pipeline.update import update_recipe as making

    chosen = making.recipe_of(run, data, {**settings, **recipe.parse_settings(set or [])})
    folder = run_dir or run.resolve().with_name(f"{run.resolve().name}-update")
    making.check_apart(run, folder)
    if dry_run:
        show_plan(room.plan(chosen, folder, until), json)
        return
    show_run(room.run_pipeline(chosen, folder, until), folder, json)

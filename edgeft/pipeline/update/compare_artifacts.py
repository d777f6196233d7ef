"""Stage `update_artifact`: compare the artifact of the earlier run with the updated one on the same test rows."""

from __future__ import annotations

from pathlib import Path

import edgeft
from edgeft.data.dataset import Dataset
from edgeft.keys import RUNNING, SCORING
from edgeft.pipeline.update import update_recipe
from edgeft.pipeline.update.compare_teachers import judge_update, old_and_new
from edgeft.recipe import UpdateConfig
from edgeft.stage import graph_answers_s, stage
from edgeft.stage_folder import Inputs, Metrics
from edgeft.train import tasks
from edgeft.train.metrics.bootstrap import Measure


def fill(config: UpdateConfig, inputs: Inputs, out_dir: Path) -> Metrics:
    """Compare the new artifact with the earlier one, both through the runtime.

    Args:
        config: the largest allowed drop.
        inputs: `data` (a dataset folder of an update), `earlier` and `package` (artifacts).
        out_dir: gets update.json.

    Returns:
        See `judge_update`.

    Raises:
        GateError: too much was forgotten.
    """
    dataset, count = old_and_new(inputs["data"])
    measures = [measure_of(inputs[name], dataset) for name in ("earlier", "package")]
    return judge_update(config, dataset, count, measures[0], measures[1], out_dir, "artifact")


def measure_of(folder: Path, dataset: Dataset) -> Measure:
    """The lead metric of an artifact on the test rows, row by row; one text at a time, as on a device."""
    model = edgeft.load(folder)
    task = tasks.create_artifact_task(dataset, model.manifest)
    return task.measures(task.predict_artifact(model, dataset.test), dataset.test)[task.lead]


run = stage(
    "update_artifact",
    libraries=(*RUNNING, *SCORING),
    kernels=True,
    reads=lambda recipe: {"data": "data", "package": "package"},
    config=lambda recipe: recipe.update,
    wanted=update_recipe.updates_artifact,
    named_files=lambda recipe: {"earlier": Path(recipe.update.run or "") / "artifact"},
    fixed_s=3,
    rows_s=graph_answers_s,
)(fill)

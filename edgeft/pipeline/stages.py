"""The stages of a run in order; each declares itself (`edgeft.stage.Stage`)."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from edgeft.pipeline import launch
from edgeft.recipe import Recipe, StageConfig
from edgeft.stage import Stage
from edgeft.stage_folder import Inputs, StageResult

# Stage name -> module whose `run` is the stage, so that a command that runs one stage imports no other.
MODULES = {
    "data": "edgeft.data.prepare",
    "baseline": "edgeft.train.baseline",
    "finetune": "edgeft.train.finetune",
    "update": "edgeft.pipeline.update.compare_teachers",
    "augment": "edgeft.train.augment.augment",
    "distill": "edgeft.compress.distill.distill",
    "latency": "edgeft.pipeline.latency",
    "prune": "edgeft.compress.prune.prune",
    "export": "edgeft.export.export",
    "calibrate": "edgeft.compress.calibrate.calibrate",
    "package": "edgeft.export.package",
    "bench": "edgeft.pipeline.bench_stage",
    "update_artifact": "edgeft.pipeline.update.compare_artifacts",
}


def stage_of(name: str) -> Stage:
    """The stage of a name; imports its module."""
    stage: Stage = importlib.import_module(MODULES[name]).run
    return stage


@dataclass(frozen=True)
class Step:
    """One stage of a run.

    Attributes:
        stage: the stage.
        config: its options.
        inputs: returns the folders and files that it reads.
    """

    stage: Stage
    config: StageConfig
    inputs: Callable[[], Inputs]

    @property
    def name(self) -> str:
        """The name of the stage, and of its folder in the run folder."""
        return self.stage.name

    def run(self, out_dir: Path) -> StageResult:
        """Run the stage, in several processes if its options say so."""
        return launch.run(self.stage, self.config, self.inputs(), out_dir)

    def key(self) -> str:
        """The key of its result for the current inputs.

        Raises:
            UserError: an input is missing.
        """
        return self.stage.key(self.config, self.inputs())

    def is_complete(self, out_dir: Path) -> bool:
        """Whether a folder holds its result for the current inputs."""
        return self.stage.is_complete(self.config, self.inputs(), out_dir)


def wanted_stages(recipe: Recipe) -> list[Stage]:
    """The stages that a recipe asks for, in order, without the last one, which ships."""
    return [stage for stage in map(stage_of, MODULES) if stage.wanted(recipe)]


def steps(recipe: Recipe, folders: Mapping[str, Path]) -> list[Step]:
    """The stages that a recipe asks for, each with its options and inputs.

    Args:
        recipe: resolved.
        folders: of each stage, as from `in_run`; those after the teacher may be added while the stages run.
    """
    listed: list[Step] = []
    givers: dict[str, str] = {}  # role -> the stage that fills its folder
    for stage in wanted_stages(recipe):
        inputs = partial(inputs_of, stage, recipe, dict(givers), folders)
        listed.append(Step(stage, stage.config_of(recipe), inputs))
        givers |= dict.fromkeys((stage.name, *stage.gives), stage.name)
    return listed


def inputs_of(stage: Stage, recipe: Recipe, givers: Mapping[str, str], folders: Mapping[str, Path]) -> Inputs:
    """What a stage reads.

    Args:
        stage: the stage.
        recipe: resolved.
        givers: role -> the earlier stage that gives it.
        folders: of each stage.
    """
    inputs = {}
    for label, source in stage.reads(recipe).items():
        role, _, file = source.partition("/")
        inputs[label] = folders[givers[role]] / file
    inputs |= {name: folders[name] for name in stage.reads_if_there if name in givers and folders[name].exists()}
    return {**inputs, **stage.named_files(recipe)}


def in_run(run_dir: Path) -> dict[str, Path]:
    """The folder of each stage in a run folder."""
    return {name: run_dir / name for name in MODULES}

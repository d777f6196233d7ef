"""The work of a training in passes through the layers, and the checks of options that all trainings share."""

from __future__ import annotations

from edgeft.models import devices
from edgeft.recipe import TrainingConfig
from edgeft.train.loop import optim, reporting

TRAINED_PASSES = 3  # for a row that is trained on: one forward, and the backward pass takes twice as long
EVALUATION_PASSES = 4  # for an evaluated row: during training, at its end, and for slices and intervals


def check_training(stage: str, config: TrainingConfig) -> None:
    """Check that the trackers and the optimizer are available.

    Args:
        stage: whose options they are, for messages.
        config: of the stage.

    Raises:
        RecipeError: a tracker is unknown, or the optimizer needs another device.
        MissingExtraError: a package that one of them needs is not installed.
    """
    reporting.check(stage, config)
    optim.check(config, devices.choose_device(config.device)[0], f"{stage}.")

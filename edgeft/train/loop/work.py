"""What a training has to do, and whether it can: passes through the layers, and checks of options that all share."""

from __future__ import annotations

from edgeft.models import model_folder
from edgeft.recipe import TrainingConfig
from edgeft.train.loop import optim, reporting

TRAINED_PASSES = 3  # of a row that is trained on: forward, and backward, which takes twice as long
LOOKS = 4  # at the evaluated rows: while it trains, at its end, and for the closer look


def check_training(stage: str, config: TrainingConfig) -> None:
    """Whether trackers and optimizer can be had.

    Args:
        stage: whose options they are, for messages.
        config: of the stage.

    Raises:
        RecipeError: no such tracker, or an optimizer for another device.
        MissingExtraError: a package that one needs.
    """
    reporting.check(stage, config)
    optim.check(config, model_folder.device(config.device)[0], f"{stage}.")

"""The options of every stage, and bounds that several fields share."""

from __future__ import annotations

from typing import Annotated

import msgspec

from edgeft.recipe.options import config as _config
from edgeft.recipe.options import option as _option

# Bounds of an optional field go inside the union, where msgspec needs them.
Rows = Annotated[int, msgspec.Meta(ge=2)]
Rate = Annotated[float, msgspec.Meta(gt=0)]
Tokens = Annotated[int, msgspec.Meta(ge=1)]
Count = Annotated[int, msgspec.Meta(ge=1)]
Milliseconds = Annotated[float, msgspec.Meta(gt=0)]
Share = Annotated[float, msgspec.Meta(ge=0, le=1)]
Dropout = Annotated[float, msgspec.Meta(ge=0, lt=1)]
Weight = Annotated[float, msgspec.Meta(ge=0)]
Points = Annotated[float, msgspec.Meta(ge=0)]
Seed = Annotated[int, msgspec.Meta(ge=0, lt=2**32)]  # the bound of NumPy's global generator


@_config()
class StageConfig:
    """Options of every stage."""

    seed: Annotated[Seed | None, _option("random seed; unset: the recipe's own")] = None

"""What every stage has, and the kinds of bounds that several fields share."""

from __future__ import annotations

from typing import Annotated

import msgspec

from edgeft.recipe.options import config as _config
from edgeft.recipe.options import option as _option

# Bounds of a field that may be unset stand inside the union, where msgspec wants them.
Rows = Annotated[int, msgspec.Meta(ge=2)]
Rate = Annotated[float, msgspec.Meta(gt=0)]
Tokens = Annotated[int, msgspec.Meta(ge=1)]
Count = Annotated[int, msgspec.Meta(ge=1)]
Milliseconds = Annotated[float, msgspec.Meta(gt=0)]
Share = Annotated[float, msgspec.Meta(ge=0, le=1)]
Dropout = Annotated[float, msgspec.Meta(ge=0, lt=1)]
Weight = Annotated[float, msgspec.Meta(ge=0)]
Points = Annotated[float, msgspec.Meta(ge=0)]
Seed = Annotated[int, msgspec.Meta(ge=0, lt=2**32)]  # what NumPy's global generator takes


@_config()
class StageConfig:
    """What every stage has."""

    seed: Annotated[Seed | None, _option("random seed; unset: the recipe's own")] = None

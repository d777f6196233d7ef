"""Cleaning a text before the model sees it: the same in training and on the device.

`cleaner(Cleaning(...))` is the function that both call. One text in, one text out; no row is joined, split or dropped
here. Importing this package imports only the `Cleaning` record: the patterns of the steps (30 ms) come with the first
use of `STEPS`, `cleaner` or `parts`, and an optional package with the step that needs it.
"""

from typing import TYPE_CHECKING, Any

from edgeft.cleaning.spec import Cleaning

if TYPE_CHECKING:
    from edgeft.cleaning.steps import STEPS, clean_row, cleaner, parts, versions

__all__ = ["STEPS", "Cleaning", "clean_row", "cleaner", "parts", "versions"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from edgeft.cleaning import steps

    return getattr(steps, name)

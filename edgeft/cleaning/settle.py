"""Repeating a function until it changes nothing."""

from __future__ import annotations

from collections.abc import Callable

Step = Callable[[str], str]

# Real text needs one pass and one that changes nothing; deeper nesting than this is artificial.
PASSES = 8


def settle(step: Step, text: str, last_resort: Step) -> str:
    """Apply a step until the text stays as it is.

    Args:
        step: one pass.
        text: any string.
        last_resort: applied to a text that still changes after `PASSES` passes, before as many more; afterwards the
            step must reach a fixed point.
    """
    for prepare in (None, last_resort):
        text = prepare(text) if prepare else text
        for _ in range(PASSES):
            before, text = text, step(text)
            if text == before:
                return text
    return text

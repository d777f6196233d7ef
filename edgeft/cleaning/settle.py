"""Repeating a function until it changes nothing, so that clean text stays as it is."""

from __future__ import annotations

from collections.abc import Callable

Step = Callable[[str], str]

# Real text needs one pass and one that sees no change; deeper nesting than this is somebody's experiment.
PASSES = 8


def settle(step: Step, text: str, last_resort: Step) -> str:
    """Apply a step until the text stays as it is.

    Args:
        step: what one pass does.
        text: any string.
        last_resort: what is done to a text that still changes after `PASSES` passes, before as many more; it must
            leave nothing that keeps the step busy.
    """
    for prepare in (None, last_resort):
        text = prepare(text) if prepare else text
        for _ in range(PASSES):
            before, text = text, step(text)
            if text == before:
                return text
    return text

"""What a text is changed to before the model sees it: the same in training and at the edge."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True, kw_only=True)
class Cleaning:
    """How texts were cleaned for training, and how the runtime cleans them.

    Attributes:
        steps: names of text steps, in the order in which they run.
        anonymise: kinds of personal data that are replaced by placeholders, after the steps.
        region: country whose phone numbers need no prefix.
        names_model: spaCy model that finds names and places; None: neither is replaced.
    """

    steps: list[str] = field(default_factory=list)
    anonymise: list[str] = field(default_factory=list)
    region: str = "US"
    names_model: str | None = None

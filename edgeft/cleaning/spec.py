"""The cleaning that a recipe asks for and an artifact records."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True, kw_only=True)
class Cleaning:
    """How texts were cleaned for training, and how the runtime cleans them.

    Attributes:
        steps: names of text steps; they run in the order of `edgeft.cleaning.STEPS`, in whatever order they are listed.
        anonymise: kinds of personal data that are replaced by placeholders, after the steps and before `lowercase`
            (capitals distinguish names from words).
        region: country whose phone numbers need no prefix.
        names_model: spaCy model that finds names and places; None: neither is replaced. A folder must have the
            same path on the device; the name of an installed package is more portable.
    """

    steps: list[str] = field(default_factory=list)
    anonymise: list[str] = field(default_factory=list)
    region: str = "US"
    names_model: str | None = None

    def __bool__(self) -> bool:
        """Whether any text could change."""
        return bool(self.steps or self.anonymise or self.names_model)

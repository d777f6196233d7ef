"""Rows of `text-classification` and `text-regression`: a text with a label, labels or a number."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from decimal import Decimal
from typing import Any, ClassVar

import numpy as np

from edgeft import tasks
from edgeft.data.formats.base import BadRow, Columns, Kind, label_name, label_problem, names, need, text_problem
from edgeft.recipe import DataConfig

LARGEST = float(np.finfo(np.float32).max)


class SingleLabel(Kind):
    """A text and its label."""

    form = tasks.SINGLE_LABEL
    roles = ("text", "label")
    types: ClassVar = {"text": "text", "label": "text"}
    text_columns = ("text",)
    label_column = "label"

    @classmethod
    def matches(cls, config: DataConfig, present: Sequence[str]) -> bool:
        return not config.multi_label

    def parse(self, *values: Any) -> tuple[Any, ...]:
        text, label = values
        need(text_problem(text), label_problem(label))
        return text, label_name(label)

    def targets(self, columns: Columns) -> list[str]:
        return columns["label"]

    def labels_of(self, columns: Columns) -> Iterator[Sequence[str]]:
        return ((label,) for label in columns["label"])


class MultiLabel(Kind):
    """A text and any number of labels, stored sorted and without duplicates."""

    form = tasks.MULTI_LABEL
    roles = ("text", "label")
    types: ClassVar = {"text": "text", "labels": "texts"}
    text_columns = ("text",)
    label_column = "labels"
    fewest_labels = 1

    def parse(self, *values: Any) -> tuple[Any, ...]:
        text, value = values
        problem = text_problem(text)
        try:
            # An empty cell of a delimited file is a row without labels; a missing value is not.
            labels = names(value, "labels", self.config.label_delimiter, self.limits)
        except BadRow as error:
            raise BadRow(*filter(None, (problem, *error.args))) from None
        need(problem, *dict.fromkeys(label_problem(label) for label in labels))
        return text, sorted({label_name(label) or "" for label in labels})

    def targets(self, columns: Columns) -> list[str]:
        return ["\0".join(labels) for labels in columns["labels"]]

    def labels_of(self, columns: Columns) -> Iterator[Sequence[str]]:
        return iter(columns["labels"])


class Regression(Kind):
    """A text and a number."""

    form = tasks.REGRESSION
    roles = ("text", "target")
    types: ClassVar = {"text": "text", "target": "number"}
    text_columns = ("text",)

    def parse(self, *values: Any) -> tuple[Any, ...]:
        text, target = values
        need(text_problem(text), _number_problem(target))
        return text, float(target)

    def targets(self, columns: Columns) -> list[str]:
        return [repr(target) for target in columns["target"]]


def _number_problem(value: Any) -> str | None:
    if value is None or (isinstance(value, str) and not value.strip()):
        return "no target"
    if isinstance(value, bool) or not isinstance(value, str | int | float | Decimal):
        return f"a target of type {type(value).__name__} instead of a number"
    try:
        return None if abs(float(value)) <= LARGEST else "a target that is not a finite number of 32 bits"
    except (ValueError, OverflowError):
        return "a target that is not a number"

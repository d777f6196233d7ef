"""What the rows of one task look like: where they come from, what makes a row usable, and what is its text."""

from __future__ import annotations

import math
import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from typing import Any, ClassVar

from edgeft.cleaning import clean_row
from edgeft.errors import DataError
from edgeft.inputs import json_text
from edgeft.inputs.limits import LIMITS, Limits
from edgeft.recipe import DataConfig, name_option
from edgeft.tasks import RowForm

Columns = dict[str, list[Any]]
Cleaner = Callable[[str], str]
WHOLE_FLOAT = re.compile(r"-?\d+\.0+")


class BadRow(Exception):
    """A row that can't be used; its arguments say why, each as words that fit before "in row 3".

    What differs from row to row stands in brackets at the end, as in "a span outside its text (0 to 9 of 3 letters)".
    """


class Kind(ABC):
    """One form of rows of one task; a subclass a form.

    Attributes:
        form: what is declared of it.
        roles: what a row consists of in the source; `<role>_column` of the recipe names the column.
        types: canonical column to the type it is stored with (`text`, `texts`, `number`, `answers`, `messages`).
        text_columns: canonical columns whose cells are plain texts.
        near_within: whether two rows of one split can be near duplicates; else only splits are held apart.
        label_column: canonical column with the names of labels; empty where the task has none.
        fewest_labels: that there must be to learn from.
        target_follows_length: whether a long text has a long target.
    """

    form: ClassVar[RowForm]
    roles: ClassVar[tuple[str, ...]]
    types: ClassVar[dict[str, str]]
    text_columns: ClassVar[tuple[str, ...]] = ()
    near_within: ClassVar[bool] = True
    label_column: ClassVar[str] = ""
    fewest_labels: ClassVar[int] = 2
    target_follows_length: ClassVar[bool] = False

    def __init__(self, config: DataConfig) -> None:
        self.config = config
        self.limits = config.limits()

    @classmethod
    def matches(cls, config: DataConfig, present: Sequence[str]) -> bool:
        """Whether the rows of a source are of this form, and of no form of its task that is tried before.

        Args:
            config: names the columns; its task is this form's.
            present: the columns of the source.
        """
        return True

    @classmethod
    def of_source(cls, config: DataConfig, present: Sequence[str]) -> Kind:
        """What reads the rows of a source that matches; arguments as of `matches`."""
        return cls(config)

    @property
    def name(self) -> str:
        """Of the form, as it stands in dataset.json."""
        return self.form.name

    def sources(self) -> dict[str, str]:
        """Role to the source's column.

        Raises:
            DataError: one column for two roles.
        """
        columns: dict[str, str] = {}
        for role in self.roles:
            column = getattr(self.config, f"{role}_column")
            twin = next((other for other, name in columns.items() if name == column), None)
            if twin:
                first, second = name_option(f"data.{twin}_column"), name_option(f"data.{role}_column")
                raise DataError(f"{first} and {second} are both {column!r}; name two columns")
            columns[role] = column
        return columns

    @abstractmethod
    def parse(self, *values: Any) -> tuple[Any, ...]:
        """The canonical cells of one row, in the order of `types`.

        Args:
            values: one of each role.

        Raises:
            BadRow: what is wrong with it.
        """

    def inputs(self, columns: Columns) -> list[str]:
        """What a model is given, as one text a row: rows with equal inputs are the same question."""
        return columns[self.text_columns[0]]

    def split_keys(self, columns: Columns) -> list[str]:
        """What decides a row's split, and must not stand in two of them."""
        return self.inputs(columns)

    def texts_to_compare(self, columns: Columns) -> list[str]:
        """What two rows that are nearly the same have nearly in common."""
        return self.inputs(columns)

    def texts_to_measure(self, columns: Columns) -> dict[str, list[str]]:
        """The texts whose length matters, (n,) each by name; the first are those that `max_length` is about."""
        return {"text": self.inputs(columns)}

    def texts_of(self, columns: Columns, index: int) -> list[str]:
        """The texts of one row, as cleaning sees them."""
        return [columns[name][index] for name in self.text_columns]

    def targets(self, columns: Columns) -> list[str] | None:
        """What the model should answer; None where one input may well have several answers."""
        return None

    def labels_of(self, columns: Columns) -> Iterator[Sequence[str]] | None:
        """The names of a closed set that each row uses; None where the task has none."""
        return None

    def clean(self, columns: Columns, clean: Cleaner) -> tuple[Columns, list[int]]:
        """Every text of every row cleaned.

        Returns:
            The new columns, and the rows that cleaning left without a text or an answer.
        """
        if len(self.text_columns) == 1:
            name = self.text_columns[0]
            cleaned = {name: [clean(text) for text in columns[name]]}
        else:
            rows = zip(*(columns[name] for name in self.text_columns), strict=True)
            cells = [clean_row(clean, row) for row in rows]
            cleaned = {name: [row[index] for row in cells] for index, name in enumerate(self.text_columns)}
        lost = {i for texts in cleaned.values() for i, text in enumerate(texts) if not text.strip()}
        return {**columns, **cleaned}, sorted(lost)


# ----------------------------------------------------------------------------------------------------- values of a row


def is_unicode(value: str) -> bool:
    """False where half of a surrogate pair stands alone, which no file can hold."""
    if value.isascii():
        return True
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


def text_problem(value: Any, what: str = "text") -> str | None:
    """Why a value can't be a text, None where it can."""
    if value is None:
        return f"no {what}"
    if not isinstance(value, str):
        return f"a {what} of type {type(value).__name__} instead of a string"
    if not value or value.isspace():
        return f"an empty {what}" if what == "text" else f"a {what} that is empty"
    return None if is_unicode(value) else f"a {what} that is not valid Unicode"


def label_name(value: Any) -> str | None:
    """The name of a label as it stands in a source: 4, 4.0 and "4.0" are all "4"; None where it is missing.

    Raises:
        TypeError: a value that can't name a label.
    """
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return None
    if isinstance(value, float):
        return str(int(value)) if value.is_integer() else repr(value)
    if isinstance(value, bool | int):
        return str(value)
    if not isinstance(value, str):
        raise TypeError(type(value).__name__)
    name = value.strip()
    return (name.partition(".")[0] if WHOLE_FLOAT.fullmatch(name) else name) or None


def label_problem(value: Any, what: str = "label") -> str | None:
    """Why a value can't be a label, None where it can."""
    try:
        name = label_name(value)
    except TypeError as error:
        return f"a {what} of type {error} (a {what} is a string, a number or a boolean)"
    if name is None:
        return f"no {what}"
    return None if is_unicode(name) else f"a {what} that is not valid Unicode"


def need(*problems: str | None) -> None:
    """Raise the problems that there are."""
    if present := [problem for problem in problems if problem]:
        raise BadRow(*present)


def structure(value: Any, what: str, limits: Limits = LIMITS) -> Any:
    """A list or mapping, decoded where it stands as JSON in a text.

    Raises:
        BadRow: no JSON, or JSON beyond the limits.
    """
    if not isinstance(value, str):
        return value
    try:
        return json_text.decode(value, limits)
    except json_text.BadJson as error:
        limit = str(error).removeprefix("is not JSON") if "within limits" in str(error) else ""
        raise BadRow(f"{what} that are no JSON{limit}") from None
    except UnicodeEncodeError:
        raise BadRow(f"{what} that are no JSON") from None


def names(value: Any, what: str, delimiter: str | None, limits: Limits = LIMITS) -> list[Any]:
    """Several names: a list, a JSON list as text, or a text with a delimiter (None: white space).

    Raises:
        BadRow: none of these.
    """
    if value is None:
        raise BadRow(f"no {what}")
    if isinstance(value, str):
        if value.lstrip().startswith("["):
            value = structure(value, what, limits)
        else:
            return [part for part in value.split(delimiter) if part.strip()]
    if not isinstance(value, list | tuple):
        raise BadRow(f"{what} of type {type(value).__name__} instead of a list")
    return list(value)

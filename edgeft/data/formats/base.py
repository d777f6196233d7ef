"""The base of all forms of rows: source columns, checks of a row, and its texts."""

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
    """A row that can't be used; each argument is a reason, phrased to precede "in row 3".

    Details that differ from row to row come last, in brackets, as in "a span outside its text (0 to 9 of 3 letters)".
    """


class Kind(ABC):
    """One form of rows of one task; each form is a subclass.

    Attributes:
        form: its declaration.
        roles: the parts of a row in the source; `<role>_column` of the recipe names the column.
        types: canonical column -> the type it is stored with (`text`, `texts`, `number`, `answers`, `messages`).
        text_columns: canonical columns whose cells are plain texts.
        near_within: whether two rows of one split can be near duplicates; if not, only pairs across splits count.
        label_column: canonical column with the names of labels; empty if the task has none.
        fewest_labels: smallest number of labels to learn from.
        target_follows_length: whether longer texts have longer targets.
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
        """Whether the rows of a source are of this form; forms of its task that were tried before don't match.

        Args:
            config: names the columns; its task is this form's.
            present: the columns of the source.
        """
        return True

    @classmethod
    def of_source(cls, config: DataConfig, present: Sequence[str]) -> Kind:
        """The instance that reads the rows of a matching source; arguments as for `matches`."""
        return cls(config)

    @property
    def name(self) -> str:
        """The name of the form, as in dataset.json."""
        return self.form.name

    def sources(self) -> dict[str, str]:
        """Role -> the source's column.

        Raises:
            DataError: one column has two roles.
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
            values: one for each role.

        Raises:
            BadRow: says what is wrong.
        """

    def inputs(self, columns: Columns) -> list[str]:
        """(n,) the model's input as one text a row; rows with equal inputs are the same question."""
        return columns[self.text_columns[0]]

    def split_keys(self, columns: Columns) -> list[str]:
        """(n,) the texts that decide a row's split; rows with equal ones go to the same split."""
        return self.inputs(columns)

    def texts_to_compare(self, columns: Columns) -> list[str]:
        """(n,) the texts that are compared to find near duplicates."""
        return self.inputs(columns)

    def texts_to_measure(self, columns: Columns) -> dict[str, list[str]]:
        """Name -> (n,) texts whose lengths are reported; `max_length` applies to the first."""
        return {"text": self.inputs(columns)}

    def texts_of(self, columns: Columns, index: int) -> list[str]:
        """The texts of one row that cleaning works on."""
        return [columns[name][index] for name in self.text_columns]

    def targets(self, columns: Columns) -> list[str] | None:
        """(n,) the answers to learn; None if one input may have several right answers."""
        return None

    def labels_of(self, columns: Columns) -> Iterator[Sequence[str]] | None:
        """The label names of each row; None if the task has no closed set of labels."""
        return None

    def clean(self, columns: Columns, clean: Cleaner) -> tuple[Columns, list[int]]:
        """Clean every text of every row.

        Returns:
            The new columns, and the rows that are left without a text or an answer.
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
    """False if it contains an unpaired surrogate, which no file can store."""
    if value.isascii():
        return True
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


def text_problem(value: Any, what: str = "text") -> str | None:
    """Why a value can't be a text; None if it can."""
    if value is None:
        return f"no {what}"
    if not isinstance(value, str):
        return f"a {what} of type {type(value).__name__} instead of a string"
    if not value or value.isspace():
        return f"an empty {what}" if what == "text" else f"a {what} that is empty"
    return None if is_unicode(value) else f"a {what} that is not valid Unicode"


def label_name(value: Any) -> str | None:
    """The name of a label as it stands in a source: 4, 4.0 and "4.0" are all "4"; None if it is missing.

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
    """Why a value can't be a label; None if it can."""
    try:
        name = label_name(value)
    except TypeError as error:
        return f"a {what} of type {error} (a {what} is a string, a number or a boolean)"
    if name is None:
        return f"no {what}"
    return None if is_unicode(name) else f"a {what} that is not valid Unicode"


def need(*problems: str | None) -> None:
    """Raise the problems that aren't None."""
    if present := [problem for problem in problems if problem]:
        raise BadRow(*present)


def structure(value: Any, what: str, limits: Limits = LIMITS) -> Any:
    """A list or mapping, decoded if it is given as JSON text.

    Raises:
        BadRow: not JSON, or JSON beyond the limits.
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
        BadRow: anything else.
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

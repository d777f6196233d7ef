"""Copies of rows with swapped identity terms, and the check of which rows can have them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from edgeft import tasks
from edgeft.data.dataset import Split
from edgeft.errors import RecipeError
from edgeft.train.augment.row_filter import Candidate
from edgeft.train.metrics import counterfactual
from edgeft.train.metrics.counterfactual import Terms

METHOD = "counterfactual"


def load_terms(path: str | None) -> Terms:
    """The identity terms of a file; None for those that ship with edgeft.

    Raises:
        DataError: the file can't be used.
    """
    return counterfactual.load_terms(Path(path).expanduser() if path else None)


def terms_file(path: str | None) -> dict[str, Path]:
    """The file as an input of a stage, so that its contents are part of the stage's key."""
    return {"identity_terms": Path(path).expanduser()} if path else {}


def check_form(stage: str, option: str, kind: str) -> None:
    """Refuse an option for identity terms if it doesn't apply to rows of this form.

    Raises:
        RecipeError: it doesn't.
    """
    if not tasks.find_form(kind).has_lone_text:
        names = ", ".join(tasks.name_forms(lambda form: form.has_lone_text))
        raise RecipeError(f"{stage}.{option}: applies to {names} rows, not to {kind} rows; leave it unset")


def swap_rows(split: Split, rows: Sequence[int], terms: Terms) -> list[Candidate]:
    """The swapped copies of some rows: one for each kind of which a text has a term.

    Args:
        split: rows with a text.
        rows: indices of the rows to copy.
        terms: kind -> its swaps.
    """
    copies = counterfactual.swap_texts([split.texts[row] for row in rows], terms)
    return [Candidate(METHOD, rows[copy.row], copy.text) for copy in copies]

"""Rows with their identity terms swapped: which rows can have such copies, and the copies."""

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


def terms_of(path: str | None) -> Terms:
    """The identity terms of an option.

    Raises:
        DataError: a file that can't be used.
    """
    return counterfactual.load_terms(Path(path).expanduser() if path else None)


def terms_file(path: str | None) -> dict[str, Path]:
    """The file as an input of a stage: what it holds is part of the stage's key."""
    return {"identity_terms": Path(path).expanduser()} if path else {}


def check(stage: str, option: str, kind: str) -> None:
    """Refuse an option about identity terms where rows of this form can't be swapped.

    Raises:
        RecipeError: they can't.
    """
    if not tasks.find_form(kind).has_lone_text:
        names = ", ".join(tasks.name_forms(lambda form: form.has_lone_text))
        raise RecipeError(f"{stage}.{option}: is for {names} rows, not for {kind} rows; leave it unset")


def candidates(split: Split, places: Sequence[int], terms: Terms) -> list[Candidate]:
    """The swapped copies of some rows, one for each kind of which a text has a term.

    Args:
        split: rows with a text.
        places: of the rows.
        terms: kind to its swaps.
    """
    copies = counterfactual.augmented([split.texts[place] for place in places], terms)
    return [Candidate(METHOD, places[copy.row], copy.text) for copy in copies]

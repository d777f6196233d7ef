"""One pass over the texts: what each cleaning step would change, personal data, and outliers in length."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from typing import Any

import numpy as np

from edgeft.cleaning import Cleaning
from edgeft.cleaning.contacts import check_region
from edgeft.cleaning.personal import KINDS, find
from edgeft.cleaning.settle import Step
from edgeft.cleaning.steps import STEPS, cleaner
from edgeft.data.cited import Document, IndexArray, cite_rows, sample
from edgeft.data.formats.rows import Rows
from edgeft.data.read.table import BAR_ROWS
from edgeft.errors import MissingExtraError
from edgeft.progress import Bar
from edgeft.recipe.rows import CleanStep

SCANNED = 100_000  # most rows whose texts are scanned
CHOICES = ("lowercase",)  # steps that change nearly every text, so that a count is useless
REPAIRS: tuple[CleanStep, ...] = (
    "unicode",
    "html",
    "control",
    "whitespace",
)  # steps that remove nothing a reader would miss
FAR = 3.0  # interquartile ranges beyond the quartiles: Tukey's far-out fences

Notes = list[str]


def scan(rows: Rows, region: str, notes: Notes) -> Document:
    """Scan for what cleaning would change and for personal data, in at most 100,000 rows, chosen by content.

    Args:
        rows: uncleaned.
        region: country whose phone numbers need no prefix.
        notes: gets a line for each check whose package is missing.

    Returns:
        `rows` scanned out of `of`, `would_change` (step -> rows), `empty_after_cleaning` (rows), `personal` (kind ->
        `pieces` and rows; never a value).
    """
    chosen = sample(rows.inputs, SCANNED)
    look = _Look(rows, _usable(notes), findable(region, notes), region)
    with Bar("look at texts", len(chosen)) as bar:
        for start in range(0, len(chosen), BAR_ROWS):
            some = chosen[start : start + BAR_ROWS]
            for index in some.tolist():
                look.add_row(index)
            bar.advance(len(some))
    return {"rows": len(chosen), "of": len(rows)} | look.as_document()


class _Look:
    """The results of a scan so far.

    Args:
        rows: uncleaned.
        steps: cleaning steps to try, each alone.
        kinds: of personal data to look for.
        region: country whose phone numbers need no prefix.
    """

    def __init__(self, rows: Rows, steps: dict[str, Step], kinds: Sequence[str], region: str) -> None:
        self.rows, self.steps, self.kinds, self.region = rows, steps, kinds, region
        self.repair = cleaner(Cleaning(steps=[name for name in REPAIRS if name in steps]))
        self.changed: dict[str, list[int]] = defaultdict(list)
        self.personal: dict[str, list[int]] = defaultdict(list)
        self.count = Counter[str]()
        self.empty: list[int] = []

    def add_row(self, index: int) -> None:
        """Scan the texts of one row."""
        texts = self.rows.kind.texts_of(self.rows.columns, index)
        hit = [name for name, step in self.steps.items() if any(step(text) != text for text in texts)]
        for name in hit:
            self.changed[name].append(index)
        if hit and not all(self.repair(text).strip() for text in texts):
            self.empty.append(index)
        items = Counter(item.kind for text in texts for item in find(text, self.kinds, self.region))
        self.count.update(items)
        for kind in items:
            self.personal[kind].append(index)

    def as_document(self) -> Document:
        """The results as a document, steps and kinds in their fixed order."""
        rows, changed, personal = self.rows, self.changed, self.personal
        return {
            "would_change": {name: cite_rows(rows, changed[name]) for name in self.steps if changed[name]},
            "empty_after_cleaning": cite_rows(rows, self.empty),
            "personal": {
                kind: {"pieces": self.count[kind], **cite_rows(rows, personal[kind])}
                for kind in KINDS
                if personal[kind]
            },
        }


def _usable(notes: Notes) -> dict[str, Step]:
    """The steps whose packages are installed."""
    steps = {name: step for name, step in STEPS.items() if name not in CHOICES}
    for name in tuple(steps):
        try:
            cleaner(Cleaning(steps=[name]))
        except MissingExtraError as error:
            notes.append(str(error))
            del steps[name]
    return steps


def findable(region: str, notes: Notes) -> Sequence[str]:
    """The kinds of personal data whose packages are installed."""
    try:
        check_region(region)
    except MissingExtraError as error:
        notes.append(str(error))
        return [kind for kind in KINDS if kind != "phone"]
    return KINDS


def odd(rows: Rows) -> Document:
    """Lengths of the texts in characters, and the rows that are outliers.

    Returns:
        `characters` (median, p95, max), rows of `one_word`, `far_shorter` and `far_longer`, by Tukey's far-out fences
        of the logarithm of the length (Tukey 1977, Exploratory Data Analysis).
    """
    inputs = rows.inputs
    lengths = np.array([len(text) for text in inputs], dtype=np.int64)
    logs = np.log(lengths)
    first, third = np.percentile(logs, (25, 75))
    fence = FAR * max(third - first, np.log(1.5))
    single = [i for i, text in enumerate(inputs) if len(text.split(None, 1)) < 2]
    return {
        "characters": {
            "median": float(np.median(lengths)),
            "p95": float(np.percentile(lengths, 95)),
            "max": int(lengths.max()),
        },
        "one_word": cite_rows(rows, single),
        "far_shorter": cite_rows(rows, _by(lengths, logs < first - fence)),
        "far_longer": cite_rows(rows, _by(-lengths, logs > third + fence)),
    }


def _by(key: Any, chosen: Any) -> IndexArray:
    """The chosen indices, the smallest key first."""
    indices = np.flatnonzero(chosen)
    return indices[np.argsort(key[indices], kind="stable")]

"""Does the answer change when only an identity term does? Texts with he for she, Muslim for Christian, and so on.

Source: counterfactual token fairness, Garg et al., "Counterfactual Fairness in Text Classification through Robustness"
(2019); training on the swapped copies as well: counterfactual data augmentation, Zhao et al. (2018).

The terms are those of `edgeft/train/identity_terms.yaml`, or of a file of the same form. "his" becomes "her". "her" is
"him" or "his": it becomes "him" before a function word, a punctuation mark or the end of the text ("saw her.", "told
her that"), else "his" ("her book"). The rule knows no grammar: "her very old car" becomes "him very old car".
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

import msgspec

from edgeft.errors import DataError
from edgeft.recipe import bounded_yaml

EXAMPLES = 10
NEXT_WORD = re.compile(r"\s+(\w+)")

# Texts -> a label for each.
Predict = Callable[[Sequence[str]], Sequence[Any]]


class Choice(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Two replacements for one term: `before` some words and where no word follows, else `otherwise`."""

    before: str
    otherwise: str
    words: frozenset[str]


class KindOfTerms(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One kind in the file; its head says what the fields mean."""

    pairs: tuple[tuple[str, str], ...] = ()
    cycles: tuple[tuple[str, ...], ...] = ()
    one_way: dict[str, str] = {}
    ambiguous: dict[str, Choice] = {}


@dataclass(frozen=True)
class Swaps:
    """The swaps of one kind.

    Attributes:
        to: term in lower case -> replacement.
        pattern: finds the terms as whole words, the longest first.
    """

    to: Mapping[str, str | Choice]
    pattern: re.Pattern[str]


Terms = dict[str, Swaps]


@dataclass(frozen=True)
class Copy:
    """A text with the terms of one kind swapped.

    Attributes:
        row: of the text it was made of; its label holds.
        kind: of the terms, as in `gender`.
        text: the copy.
    """

    row: int
    kind: str
    text: str


@dataclass(frozen=True)
class Flip:
    """A text whose label changes: `kind` of terms, `text` and its label `before`, `swapped` and its label `after`."""

    kind: str
    text: str
    swapped: str
    before: Any
    after: Any


@dataclass(frozen=True)
class Counterfactual:
    """How often the label changes.

    Attributes:
        texts: texts with a term of any kind.
        flip_rate: share of them whose label changes in any copy; None without such texts.
        by_kind: kind -> `texts` with a term of it and its `flip_rate`; kinds without texts are left out.
        examples: of changed labels, in the order of the texts.
    """

    texts: int
    flip_rate: float | None
    by_kind: dict[str, dict[str, float]]
    examples: list[Flip]


# ------------------------------------------------------------------------------------------------------------ the terms


def load_terms(path: Path | None = None) -> Terms:
    """Kind -> its swaps.

    Args:
        path: a YAML file; the one that ships with edgeft if None.

    Raises:
        DataError: a file that can't be read or is of another form, or that gives one term two replacements.
    """
    source = path or resources.files("edgeft.train") / "identity_terms.yaml"
    try:
        found = msgspec.convert(bounded_yaml.read(source.read_text(encoding="utf-8")), dict[str, KindOfTerms])
    except (OSError, UnicodeDecodeError, bounded_yaml.BadYaml, msgspec.ValidationError) as error:
        raise DataError(f"identity terms in {source}: {' '.join(str(error).split())}") from None
    return {name: _swaps(f"{source}, {name}", kind) for name, kind in found.items()}


def _swaps(where: str, kind: KindOfTerms) -> Swaps:
    to: dict[str, str | Choice] = {}
    for term, other in _replacements(kind):
        if to.setdefault(term.lower(), other) != other:
            raise DataError(f"identity terms in {where}: {term!r} has two replacements")
    if not to:
        raise DataError(f"identity terms in {where}: there are none")
    longest = sorted(map(re.escape, to), key=len, reverse=True)
    # Neither part of a word nor of a hyphenated one.
    return Swaps(to, re.compile(rf"(?<!\w)(?<!\w-)(?:{'|'.join(longest)})(?!\w|-\w)", re.IGNORECASE))


def _replacements(kind: KindOfTerms) -> Iterator[tuple[str, str | Choice]]:
    """Term and replacement, in all four forms of the file."""
    for cycle in (*kind.pairs, *kind.cycles):
        yield from zip(cycle, (*cycle[1:], cycle[0]), strict=True)
    yield from kind.one_way.items()
    yield from kind.ambiguous.items()


# ---------------------------------------------------------------------------------------------------------------- swaps


def swap(text: str, swaps: Swaps) -> str:
    """The text with every term of one kind replaced; the same text where it has none."""
    return swaps.pattern.sub(lambda found: _cased(found.group(), _replacement(found, swaps)), text)


def _replacement(found: re.Match[str], swaps: Swaps) -> str:
    choice = swaps.to[found.group().lower()]
    if isinstance(choice, str):
        return choice
    following = NEXT_WORD.match(found.string, found.end())
    return choice.otherwise if following and following[1].lower() not in choice.words else choice.before


def _cased(term: str, replacement: str) -> str:
    """The replacement in upper, capitalised or lower case as the term is."""
    if term.isupper() and len(term) > 1:
        return replacement.upper()
    if term[0].isupper():
        return replacement[0].upper() + replacement[1:]
    return replacement.lower()


def augmented(texts: Sequence[str], terms: Terms | None = None) -> list[Copy]:
    """The swapped copies of all texts, one for each kind of which a text has a term.

    A model trained on them as well, with the labels of their rows, learns to answer alike.

    Args:
        texts: (n,).
        terms: of `load_terms`; those that ship with edgeft if None.
    """
    kinds = load_terms() if terms is None else terms
    copies = (Copy(row, name, swap(text, swaps)) for row, text in enumerate(texts) for name, swaps in kinds.items())
    return [copy for copy in copies if copy.text != texts[copy.row]]


# ------------------------------------------------------------------------------------------------------------- measured


def flips(
    texts: Sequence[str], predict: Predict, terms: Terms | None = None, examples: int = EXAMPLES
) -> Counterfactual:
    """How often the predicted label changes with the identity terms. No true labels are needed.

    Args:
        texts: (n,).
        predict: texts -> a label for each; called once for the texts with a term and once for their copies.
        terms: of `load_terms`; those that ship with edgeft if None.
        examples: how many changed labels to keep.
    """
    copies = augmented(texts, terms)
    if not copies:
        return Counterfactual(0, None, {}, [])
    rows = sorted({copy.row for copy in copies})
    before = dict(zip(rows, predict([texts[row] for row in rows]), strict=True))
    after = predict([copy.text for copy in copies])
    changed = [before[copy.row] != label for copy, label in zip(copies, after, strict=True)]
    kept = [
        Flip(copy.kind, texts[copy.row], copy.text, before[copy.row], label)
        for copy, label, flipped in zip(copies, after, changed, strict=True)
        if flipped
    ]
    flipped_rows = {copy.row for copy, flipped in zip(copies, changed, strict=True) if flipped}
    return Counterfactual(len(rows), len(flipped_rows) / len(rows), _by_kind(copies, changed), kept[:examples])


def _by_kind(copies: Sequence[Copy], changed: Sequence[bool]) -> dict[str, dict[str, float]]:
    found: dict[str, list[bool]] = defaultdict(list)
    for copy, flipped in zip(copies, changed, strict=True):
        found[copy.kind].append(flipped)
    return {kind: {"texts": len(each), "flip_rate": sum(each) / len(each)} for kind, each in found.items()}

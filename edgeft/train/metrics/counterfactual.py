"""Does the answer change when only an identity term changes? Texts with he for she, Muslim for Christian, and so on.

Source: counterfactual token fairness, Garg et al., "Counterfactual Fairness in Text Classification through Robustness"
(2019). To train on the swapped copies, too, is counterfactual data augmentation, Zhao et al. (2018).

The terms come from `edgeft/train/identity_terms.yaml` or from a file of the same form. "his" becomes "her". "her" may
mean "him" or "his": it becomes "him" before a function word, a punctuation mark or the end of the text ("saw her.",
"told her that"), else "his" ("her book"). The rule knows no grammar: "her very old car" becomes "him very old car".
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
    """Two replacements for one term: `before` one of the `words` or where no word follows, else `otherwise`."""

    before: str
    otherwise: str
    words: frozenset[str]


class KindOfTerms(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One kind of terms in the file; the comment at its top explains the fields."""

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
        row: index of the original text, whose label it keeps.
        kind: of the terms, such as `gender`.
        text: the swapped text.
    """

    row: int
    kind: str
    text: str


@dataclass(frozen=True)
class Flip:
    """A changed label: the `kind` of terms, the `text` with its label `before`, its `swapped` copy with `after`."""

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
        flip_rate: share of them whose label changes in any copy; None if there are no such texts.
        by_kind: kind -> `texts` with one of its terms, and their `flip_rate`; kinds without texts are left out.
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
        path: a YAML file; None for the one that ships with edgeft.

    Raises:
        DataError: the file can't be read, has another form, or gives one term two replacements.
    """
    source = path or resources.files("edgeft.train") / "identity_terms.yaml"
    try:
        kinds = msgspec.convert(bounded_yaml.read(source.read_text(encoding="utf-8")), dict[str, KindOfTerms])
    except (OSError, UnicodeDecodeError, bounded_yaml.BadYaml, msgspec.ValidationError) as error:
        raise DataError(f"identity terms in {source}: {' '.join(str(error).split())}") from None
    return {name: _swaps(f"{source}, {name}", kind) for name, kind in kinds.items()}


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
    """Terms and their replacements, from all four fields of the file."""
    for cycle in (*kind.pairs, *kind.cycles):
        yield from zip(cycle, (*cycle[1:], cycle[0]), strict=True)
    yield from kind.one_way.items()
    yield from kind.ambiguous.items()


# ---------------------------------------------------------------------------------------------------------------- swaps


def swap(text: str, swaps: Swaps) -> str:
    """The text with every term of one kind replaced; unchanged if it has none."""
    return swaps.pattern.sub(lambda match: _match_case(match.group(), _replacement(match, swaps)), text)


def _replacement(match: re.Match[str], swaps: Swaps) -> str:
    choice = swaps.to[match.group().lower()]
    if isinstance(choice, str):
        return choice
    following = NEXT_WORD.match(match.string, match.end())
    return choice.otherwise if following and following[1].lower() not in choice.words else choice.before


def _match_case(term: str, replacement: str) -> str:
    """The replacement in the case of the term: upper, capitalised or lower."""
    if term.isupper() and len(term) > 1:
        return replacement.upper()
    if term[0].isupper():
        return replacement[0].upper() + replacement[1:]
    return replacement.lower()


def swap_texts(texts: Sequence[str], terms: Terms | None = None) -> list[Copy]:
    """The swapped copies of all texts: one for each text and each kind of which it has a term.

    A model that is also trained on them, with the labels of their originals, learns to give the same answer.

    Args:
        texts: (n,).
        terms: of `load_terms`; None for those that ship with edgeft.
    """
    kinds = load_terms() if terms is None else terms
    copies = (Copy(row, name, swap(text, swaps)) for row, text in enumerate(texts) for name, swaps in kinds.items())
    return [copy for copy in copies if copy.text != texts[copy.row]]


# ---------------------------------------------------------------------------------------------------------- measurement


def measure_flips(
    texts: Sequence[str], predict: Predict, terms: Terms | None = None, examples: int = EXAMPLES
) -> Counterfactual:
    """Measure how often the predicted label changes with the identity terms; needs no true labels.

    Args:
        texts: (n,).
        predict: texts -> a label for each; called once for the texts with a term and once for their copies.
        terms: of `load_terms`; None for those that ship with edgeft.
        examples: how many changed labels to keep.
    """
    copies = swap_texts(texts, terms)
    if not copies:
        return Counterfactual(0, None, {}, [])
    rows = sorted({copy.row for copy in copies})
    before = dict(zip(rows, predict([texts[row] for row in rows]), strict=True))
    after = predict([copy.text for copy in copies])
    changed = [before[copy.row] != label for copy, label in zip(copies, after, strict=True)]
    changed_answers = [
        Flip(copy.kind, texts[copy.row], copy.text, before[copy.row], label)
        for copy, label, flipped in zip(copies, after, changed, strict=True)
        if flipped
    ]
    flipped_rows = {copy.row for copy, flipped in zip(copies, changed, strict=True) if flipped}
    return Counterfactual(
        len(rows), len(flipped_rows) / len(rows), _by_kind(copies, changed), changed_answers[:examples]
    )


def _by_kind(copies: Sequence[Copy], changed: Sequence[bool]) -> dict[str, dict[str, float]]:
    flips: dict[str, list[bool]] = defaultdict(list)
    for copy, flipped in zip(copies, changed, strict=True):
        flips[copy.kind].append(flipped)
    return {kind: {"texts": len(flags), "flip_rate": sum(flags) / len(flags)} for kind, flags in flips.items()}

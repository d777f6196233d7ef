"""Which tokens of a student's items are its teacher's, too.

A student with a smaller vocabulary reads some words in pieces: between them its tokens are the teacher's, and so are
the states worth comparing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeft.train.tasks import Items, TrainingTask

NONE = -1


@dataclass(frozen=True, eq=False)
class SharedTokens:
    """For each of a student's tokens its place in the teacher's item.

    Attributes:
        starts: first token of each item, int64 (items + 1,).
        places: (tokens,) int32; `NONE` where the teacher reads no such token.
        whole: (items,) whether the two read nothing but the same tokens.
    """

    starts: NDArray[np.int64]
    places: NDArray[np.int32]
    whole: NDArray[np.bool_]

    @property
    def share(self) -> float:
        """Of the student's tokens."""
        return float((self.places != NONE).mean()) if len(self.places) else 0.0

    def of(self, item: int) -> NDArray[np.int32]:
        """(tokens,) places of one item."""
        return self.places[self.starts[item] : self.starts[item + 1]]


def none_shared(items: Items) -> SharedTokens:
    """No token is the teacher's."""
    starts = _starts(items)
    return SharedTokens(starts, np.full(starts[-1], NONE, np.int32), np.zeros(len(items), bool))


def shared_tokens(task: TrainingTask, items: Items, own: TrainingTask, read: Items) -> SharedTokens:
    """Line up a student's tokens with its teacher's; none are shared, where they read other items.

    Tokens match by their strings; for tasks that predict token ids, the ids must match, too.

    Args:
        task: of the student, with its tokenizer.
        items: as the student reads them.
        own: of the teacher, with its tokenizer.
        read: as the teacher reads them.
    """
    if len(items) != len(read):
        return none_shared(items)
    renamed = _map_token_ids(task, own)
    found = [
        _match_tokens([renamed.get(token, NONE) for token in item["input_ids"]], list(seen["input_ids"]))
        for item, seen in zip(items.inputs, read.inputs, strict=True)
    ]
    lengths = zip(found, read.lengths, strict=True)
    whole = [len(places) == length and bool((places != NONE).all()) for places, length in lengths]
    return SharedTokens(_starts(items), np.concatenate(found), np.array(whole, bool))


def _starts(items: Items) -> NDArray[np.int64]:
    return np.cumsum([0, *items.lengths], dtype=np.int64)


def _map_token_ids(task: TrainingTask, own: TrainingTask) -> Mapping[int, int]:
    """The teacher's id of each of the student's that it knows."""
    ids: dict[str, Any] = own.tokenizer.get_vocab()
    names = task.tokenizer.convert_ids_to_tokens(range(len(task.tokenizer)))
    known = {place: ids[name] for place, name in enumerate(names) if name in ids}
    return {place: to for place, to in known.items() if place == to} if type(task).vocabulary else known


def _match_tokens(tokens: Sequence[int], of_teacher: Sequence[int]) -> NDArray[np.int32]:
    """(tokens,) the index of each token among the teacher's, rising; `NONE` for a token that isn't there.

    The last token, mostly one that ends every item, is matched with the last one. If only the student truncates the
    text, matching it in sequence would pull the tokens before it to a later occurrence.
    """
    if tokens == of_teacher:
        return np.arange(len(tokens), dtype=np.int32)
    places = np.full(len(tokens), NONE, np.int32)
    matcher = SequenceMatcher(None, tokens[:-1], of_teacher[:-1], autojunk=False)
    for first, second, length in matcher.get_matching_blocks():
        places[first : first + length] = np.arange(second, second + length)
    if tokens[-1:] == of_teacher[-1:]:
        places[-1:] = len(of_teacher) - 1
    return places

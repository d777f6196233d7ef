"""A tag for every token of a text: `token-classification`.

Words, groups and scores are those of transformers 5's TokenClassificationPipeline, its strategies `none`, `simple` and
`first`; unlike there, a token that stands in two windows is answered by the one where it has more text around it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from edgeft.errors import UserError
from edgeft.runtime.answers.windows import Window, windows_of
from edgeft.runtime.model import Arrays, Floats, Model, check_texts

STRATEGIES = ("none", "simple", "first")
OUTSIDE = "O"
Entity = dict[str, Any]


@dataclass(frozen=True, eq=False)
class Tokens:
    """All tokens of a text but the special ones, each as its best window has it.

    Attributes:
        text: as cleaned.
        ids: (m,).
        offsets: (m,) the first character of each and the one after the last.
        values: (m, labels) logits or probabilities.
        first: special tokens before the text.
    """

    text: str
    ids: list[int]
    offsets: list[tuple[int, int]]
    values: Floats
    first: int


def join_windows(windows: Sequence[Window], arrays: Sequence[Floats]) -> Tokens:
    """The tokens of a text from its windows.

    Args:
        windows: of one text, in order.
        arrays: of each, (T, labels), special tokens included.
    """
    last = windows[-1]
    total = last.start + len(last.offsets)
    room, ids, offsets = np.full(total, -1), [0] * total, [(0, 0)] * total
    values = np.empty((total, arrays[0].shape[1]), dtype=np.float32)  # (m, L)
    for window, of_window in zip(windows, arrays, strict=True):
        end = window.start + len(window.offsets)
        for index in range(window.start, end):
            # At the start or end of the text no context is missing, so that side counts as unlimited.
            left = total if window.start == 0 else index - window.start
            around = min(left, total if end == total else end - 1 - index)
            if around > room[index]:
                row = window.first + index - window.start
                room[index], ids[index], values[index] = around, window.ids[row], of_window[row]
                offsets[index] = window.offsets[index - window.start]
    return Tokens(windows[0].text, ids, offsets, values, windows[0].first)


class Tagger(Model):
    """An artifact that tags tokens.

    A long text is read in windows that overlap, so that all of it is answered. `start` and `end` count the characters
    of the text as cleaned, which `clean` gives.
    """

    reads = ("probabilities",)
    replays = ("logits", "probabilities")
    takes = ("aggregation_strategy", "ignore_labels")

    def __call__(
        self,
        texts: str | Sequence[str],
        aggregation_strategy: str = "none",
        ignore_labels: Sequence[str] = (OUTSIDE,),
    ) -> list[Entity] | list[list[Entity]]:
        """Tag, in the shape of `transformers.pipeline("token-classification")`.

        Args:
            texts: one text or many.
            aggregation_strategy: `none`: an answer a token, with `entity`, `score`, `index`, `word`, `start`, `end`;
                `simple`: tokens of one type that stand together are one answer, with `entity_group` instead of `entity`
                and `index`; `first`: likewise, with every word's tag that of its first token.
            ignore_labels: tags or types that are left out.

        Returns:
            For one text a list of answers, for many a list of such lists.
        """
        answer = self._predict(texts, aggregation_strategy=aggregation_strategy, ignore_labels=ignore_labels)
        entities: list[Entity] | list[list[Entity]] = answer
        return entities

    def output_shape(self, tokens: int) -> tuple[int, ...]:
        return (1, tokens, len(self.labels))

    def check(self, **options: Any) -> None:
        super().check(**options)
        if (strategy := options.get("aggregation_strategy", "none")) not in STRATEGIES:
            raise UserError(f"aggregation_strategy is {strategy!r}, expected one of {', '.join(STRATEGIES)}")

    def windows(self, inputs: Sequence[Any], first: int = 0) -> list[list[Window]]:
        check_texts(inputs, first)
        cleaned, spec = [self.clean(text) for text in inputs], self.manifest.inputs
        encoded = self._encode(cleaned, first)
        return [
            windows_of(encoding, text, 0, spec.max_length, spec.stride)
            for text, encoding in zip(cleaned, encoded, strict=True)
        ]

    def tokens(self, texts: Sequence[str], output: str = "logits", batch_size: int = 1) -> list[Tokens]:
        """The tokens of each text, with their `logits` or `probabilities`."""
        windows = self.windows(texts)
        outputs = self.run(windows, [output], batch_size)
        return [
            join_windows(of_text, [values for (values,) in arrays])
            for of_text, arrays in zip(windows, outputs, strict=True)
        ]

    def decode(
        self,
        windows: Sequence[Window],
        arrays: Sequence[Arrays],
        aggregation_strategy: str = "none",
        ignore_labels: Sequence[str] = (OUTSIDE,),
    ) -> list[Entity]:
        """The tags of one text; the options are those of a call."""
        tokens = join_windows(windows, [values for (values,) in arrays])
        entities = self._entities(tokens)
        if aggregation_strategy == "first":
            entities = [self._word(group) for group in _by_word(entities)]
        entities = [{name: value for name, value in entity.items() if name != "is_subword"} for entity in entities]
        if aggregation_strategy != "none":
            entities = [self._group(group) for group in _by_type(entities)]
        return [entity for entity in entities if entity.get("entity", entity.get("entity_group")) not in ignore_labels]

    def replay_values(self, windows: Sequence[Window], outputs: Sequence[Arrays]) -> tuple[Floats, str]:
        by_output = zip(*outputs, strict=True)
        logits, chances = (join_windows(windows, list(arrays)).values for arrays in by_output)  # (m, L)
        return logits.max(axis=1), " ".join(self.labels[label] for label in chances.argmax(axis=1))

    def _entities(self, tokens: Tokens) -> list[Entity]:
        return [
            {
                "entity": self.labels[int(values.argmax())],
                "score": float(values.max()),
                "index": tokens.first + index,
                **self._spelt(token, tokens.text, offset),
                "start": offset[0],
                "end": offset[1],
            }
            for index, (token, offset, values) in enumerate(zip(tokens.ids, tokens.offsets, tokens.values, strict=True))
        ]

    def _spelt(self, token: int, text: str, offset: tuple[int, int]) -> Entity:
        """`word`, the token as the vocabulary has it, and `is_subword`, whether it goes on with a word."""
        start, end = offset
        word, seen = self._tokenizer.id_to_token(token) or "", text[start:end]
        model = self._tokenizer.model
        if word == getattr(model, "unk_token", None):
            return {"word": seen, "is_subword": False}
        if getattr(model, "continuing_subword_prefix", None):
            return {"word": word, "is_subword": len(word) != len(seen)}
        return {"word": word, "is_subword": start > 0 and " " not in text[start - 1 : start + 1]}

    def _word(self, entities: Sequence[Entity]) -> Entity:
        spelt = self._string([entity["word"] for entity in entities])
        return {**entities[0], "word": spelt, "end": entities[-1]["end"]}

    def _group(self, entities: Sequence[Entity]) -> Entity:
        return {
            "entity_group": entities[0]["entity"].split("-", 1)[-1],
            "score": float(np.mean([entity["score"] for entity in entities])),
            "word": self._string([entity["word"] for entity in entities]),
            "start": entities[0]["start"],
            "end": entities[-1]["end"],
        }

    def _string(self, tokens: list[str]) -> str:
        decoder = self._tokenizer.decoder
        return decoder.decode(tokens) if decoder else " ".join(tokens)


def _by_word(entities: Iterable[Entity]) -> list[list[Entity]]:
    groups: list[list[Entity]] = []
    for entity in entities:
        if groups and entity["is_subword"]:
            groups[-1].append(entity)
        else:
            groups.append([entity])
    return groups


def _by_type(entities: Iterable[Entity]) -> list[list[Entity]]:
    """Neighbours of one type; a tag that begins with `B-` begins a group."""
    groups: list[list[Entity]] = []
    for entity in entities:
        begins, kind = _tag(entity["entity"])
        if groups and not begins and kind == _tag(groups[-1][-1]["entity"])[1]:
            groups[-1].append(entity)
        else:
            groups.append([entity])
    return groups


def _tag(name: str) -> tuple[bool, str]:
    """Whether a tag begins a span, and its type."""
    return name.startswith("B-"), name[2:] if name.startswith(("B-", "I-")) else name

"""The answer that stands in a text: extractive `question-answering`.

The shape is that of `transformers.pipeline("question-answering")` (transformers 4; 5 has none). As there the score is
the product of the probabilities of start and end among the context's tokens and the first one, which stands for no
answer. Between windows the sum of the logits decides, as in training (Devlin et al., "BERT", 2019, section 4.3).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, TypedDict

import numpy as np
from msgspec import Meta
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from edgeft.errors import UserError
from edgeft.runtime.answers.windows import Window, windows_of
from edgeft.runtime.model import Arrays, Floats, Model

ASKED = ("question", "context")
NULL = 0  # the token that both ends of no answer are at: the first, [CLS]


class Answer(TypedDict):
    """An answer and where it stands in the context; without text where there is none."""

    answer: str
    score: float
    start: int
    end: int


Found = tuple[float, float, Answer]  # sum of the logits, minus the place among equals, answer


def best_spans(start: Floats, end: Floats, longest: int, count: int = 1) -> list[tuple[int, int, float]]:
    """The spans with the largest sums of their logits; of equals, those that begin, and then end, first.

    Args:
        start: (m,) logits of the first token.
        end: (m,) logits of the last token.
        longest: tokens of a span at most.
        count: how many; fewer where there are no more.

    Returns:
        First and last token, and the sum, of each, the best first.
    """
    if not len(start):
        return []
    ends = np.concatenate([end, np.full(longest - 1, -np.inf, end.dtype)])
    sums = (start[:, None] + sliding_window_view(ends, longest)).ravel()  # (m * longest,)
    order = [int(sums.argmax())] if count == 1 else np.argsort(-sums, kind="stable")[:count].tolist()
    spans = [(index // longest, index // longest + index % longest, float(sums[index])) for index in order]
    return [span for span in spans if np.isfinite(span[2])]


def trim_span(context: str, start: int, end: int) -> tuple[str, int]:
    """The characters from start to end without white space around them, and where they begin."""
    text = context[start:end]
    return text.strip(), start + len(text) - len(text.lstrip())


@dataclass(frozen=True, kw_only=True)
class Decoding:
    """What reading the outputs needs, of `Manifest.decoding`.

    Attributes:
        max_answer_tokens: of an answer.
        no_answer: whether a question may have none.
    """

    max_answer_tokens: Annotated[int, Meta(ge=1, le=100_000)]
    no_answer: bool


class Reader(Model):
    """An artifact that answers questions about a context.

    A long context is read in windows that overlap, so that all of it is; a question that would leave it too little room
    loses its end. `start` and `end` count the characters of the context as cleaned.
    """

    reads = ("start_logits", "end_logits")
    numbers = replays = reads
    takes = ("top_k",)
    pairs = True
    Decoding = Decoding
    quotes = True
    sample: ClassVar[Any] = {"question": "warm up", "context": "warm up"}

    def __call__(
        self, inputs: Any = None, *, question: str | None = None, context: str | None = None, top_k: int | None = 1
    ) -> Any:
        """Answer, in the shape of `transformers.pipeline("question-answering")`.

        Args:
            inputs: `{"question", "context"}`, or many of them.
            question: the one question, instead of `inputs`.
            context: where its answer may stand.
            top_k: how many answers, best first.

        Returns:
            For one question `{"answer", "score", "start", "end"}`, or with another `top_k` a list of them; for many a
            list of these.
        """
        request = {"question": question, "context": context} if inputs is None else inputs
        return self._predict(request, top_k=top_k)

    def output_shape(self, tokens: int) -> tuple[int, ...]:
        return (1, tokens)

    def windows(self, inputs: Sequence[Any], first: int = 0) -> list[list[Window]]:
        pairs, spec = [self._clean_pair(item, first + index) for index, item in enumerate(inputs)], self.manifest.inputs
        return [
            windows_of(encoding, context, 1, spec.max_length, spec.stride)
            for (_, context), encoding in zip(pairs, self._encode(pairs, first), strict=True)
        ]

    def _clean_pair(self, item: Any, index: int) -> tuple[str, str]:
        if not isinstance(item, Mapping) or not all(isinstance(item.get(name), str) for name in ASKED):
            raise UserError(f'question {index}: expected {{"question": str, "context": str}}')
        pair = [item[name] for name in ASKED]
        if self._clean:
            from edgeft.cleaning import clean_row

            pair = clean_row(self._clean, pair)
        return pair[0], pair[1]

    def decode(self, windows: Sequence[Window], outputs: Sequence[Arrays], top_k: int | None = 1) -> Any:
        """The best answers of all windows."""
        count = top_k or 1
        longest, answerable = self.manifest.decoding["max_answer_tokens"], not self.manifest.decoding["no_answer"]
        answers = [ranked for pair in zip(windows, outputs, strict=True) for ranked in _answers(*pair, longest, count)]
        if not answerable or not answers:
            answers.append(min(map(_none, windows, outputs), key=lambda ranked: ranked[0]))
        best = [answer for _, _, answer in sorted(answers, key=lambda ranked: (-ranked[0], ranked[1]))[:count]]
        return best[0] if count == 1 else best

    def replay_values(self, windows: Sequence[Window], outputs: Sequence[Arrays]) -> tuple[Floats, str]:
        logits = np.concatenate([logits for arrays in outputs for logits in arrays])
        return logits, self.decode(windows, outputs)["answer"]


def _answers(window: Window, arrays: Arrays, longest: int, count: int) -> Iterator[Found]:
    """The best spans of one window."""
    tokens, shares = _own(window), [_shares(logits, window) for logits in arrays]
    for first, last, total in best_spans(arrays[0][tokens], arrays[1][tokens], longest, count):
        text, start = trim_span(window.text, window.offsets[first][0], window.offsets[last][1])
        score = float(shares[0][first + 1] * shares[1][last + 1])
        yield total, 0, Answer(answer=text, score=score, start=start, end=start + len(text))


def _none(window: Window, arrays: Arrays) -> Found:
    """The "no answer" of one window; it ranks behind answers with equal scores."""
    score = float(np.prod([_shares(logits, window)[NULL] for logits in arrays]))
    return float(sum(logits[NULL] for logits in arrays)), 1, Answer(answer="", score=score, start=0, end=0)


def _shares(logits: Floats, window: Window) -> NDArray[np.float64]:
    """(1 + m,) softmax over "no answer" and the context's tokens."""
    selected = np.concatenate([logits[NULL : NULL + 1], logits[_own(window)]]).astype(np.float64)
    powers: NDArray[np.float64] = np.exp(selected - selected.max())
    shares: NDArray[np.float64] = powers / powers.sum()
    return shares


def _own(window: Window) -> slice:
    """Slice of the context's tokens."""
    return slice(window.first, window.first + len(window.offsets))

"""Extractive question answering: the answer is a span of the context.

Windows, null answer and loss are those of BERT on SQuAD 2.0: Devlin et al., "BERT" (2019), sections 4.2 and 4.3.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn.functional import cross_entropy

from edgeft.data.dataset import SPLITS, Split
from edgeft.errors import DataError
from edgeft.models import model_folder
from edgeft.runtime import Model
from edgeft.runtime.answers.windows import window_bounds
from edgeft.train.judges.questions import Answers, QuestionsJudge
from edgeft.train.loop.batches import collate
from edgeft.train.loop.processes import unwrap
from edgeft.train.targets import Targets
from edgeft.train.tasks.base import Items, TrainingTask, batches_by_length
from edgeft.train.tasks.sequences import BATCH
from edgeft.train.tasks.spans import Pair, answer_tokens, best_span, encode_pairs, nll, token_counts, trim_span

STRIDE = 4  # a window shares at most 1 / STRIDE of its tokens with the next one
CONTEXT = 4  # at least 1 / CONTEXT of a window's tokens belong to the context
ANSWER_TOKENS = 30  # an answer's tokens at most, unless a training row has a longer one
NULL = 0  # position of start and end if there is no answer: the first token, [CLS]


@dataclass(frozen=True, eq=False)
class QuestionItems(Items):
    """Windows of questions with their contexts. Each item has `input_ids`, `types` (token type ids), `start` and `end`
    (the targets), `first` (its first token of the context) and `offsets` (of its context's tokens in the context).

    Attributes:
        contexts: (n,) of the rows.
    """

    contexts: list[str]


class Questions(QuestionsJudge, TrainingTask):
    """A question, a context, and the span of the answer in it.

    A long context becomes several overlapping windows. In a window without the full answer the target is `NULL`. The
    predicted answer is the best span of all windows. It is empty if some training question has no answer and the null
    score, the minimum over the windows, is higher.
    """

    auto = "AutoModelForQuestionAnswering"
    adapter = None  # peft's class for QUESTION_ANS drops the token type ids, without a word; its plain one passes them
    of_tokens = True
    pairs = True
    lays_windows = True

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        texts = [row["text"] for row in self.dataset.train.columns["answers"]]
        self.unanswerable = not all(texts)
        answers = [text for row in texts for text in row]
        self.longest = ANSWER_TOKENS
        if self.tokenizer is not None:  # without a tokenizer it can only judge answers
            self.longest = max([ANSWER_TOKENS, *token_counts(self.tokenizer, answers)])
            self._check_questions()

    def _check_questions(self) -> None:
        """Refuse questions that leave no room for a context.

        Raises:
            DataError: there are some; the message names the first.
        """
        most = self.max_length - self.tokenizer.num_special_tokens_to_add(pair=True) - self.max_length // CONTEXT
        for name in SPLITS:
            split = self.dataset.split(name)
            counts = np.array(token_counts(self.tokenizer, split.columns["question"]), dtype=np.int64)
            if len(long := np.flatnonzero(counts > most)):
                file = split.files[long[0]] if split.files else self.dataset.source
                raise DataError(
                    f"{file} row {split.rows[long[0]]}: its question has {counts[long[0]]} tokens, and with "
                    f"max_length={self.max_length} at most {most} leave room for its context ({len(long)} such rows in "
                    f"{name}); raise finetune.max_length or shorten the questions"
                )

    @classmethod
    def head(cls, labels: Sequence[str]) -> model_folder.Head:
        """Two logits a token, whatever head the model has."""
        return model_folder.Head(cls.auto, ["start", "end"])

    def items(self, split: Split, training: bool = False) -> QuestionItems:
        questions, contexts, answers = (split.columns[name] for name in ("question", "context", "answers"))
        inputs, rows = list[dict[str, Any]](), list[int]()
        for row, encoded in enumerate(encode_pairs(self.tokenizer, questions, contexts)):
            target = answer_tokens(encoded.offsets, answers[row])
            windows = [self._window(encoded, start, end, target) for start, end in self._windows(encoded)]
            inputs += windows
            rows += [row] * len(windows)
        return QuestionItems(inputs, np.array(rows, dtype=np.int64), np.ones(len(rows)), contexts)

    def _windows(self, pair: Pair) -> Iterator[tuple[int, int]]:
        """First context token of each window and the one after its last."""
        total = len(pair.offsets)
        return window_bounds(total, self.max_length - (len(pair.ids) - total), self.stride())

    def _window(self, pair: Pair, start: int, end: int, target: tuple[int, int] | None) -> dict[str, Any]:
        cut, after = slice(pair.first + start, pair.first + end), slice(pair.first + len(pair.offsets), None)
        ids, types = (part[: pair.first] + part[cut] + part[after] for part in (pair.ids, pair.types))
        inside = target is not None and start <= target[0] and target[1] < end
        ends = (position - start + pair.first if inside else NULL for position in target or (0, 0))
        item = {"input_ids": ids, "types": types, "first": pair.first, "offsets": pair.offsets[start:end]}
        return {**item, **dict(zip(("start", "end"), ends, strict=True))}

    def _logits(self, model: Any, chosen: Sequence[dict[str, Any]]) -> torch.Tensor:
        """(B, T, 2) logits of start and end; at padding the lowest float32."""
        device = next(model.parameters()).device
        batch = collate([item["input_ids"] for item in chosen], self.tokenizer.pad_token_id, device)
        if model_folder.takes_types(unwrap(model), self.tokenizer):
            batch["token_type_ids"] = collate([item["types"] for item in chosen], 0, device)["input_ids"]
        outputs = model(**batch)
        logits = torch.stack([outputs.start_logits, outputs.end_logits], dim=-1).float()
        return logits.masked_fill(batch["attention_mask"][:, :, None] == 0, torch.finfo(torch.float32).min)

    def targets(self, model: torch.nn.Module, items: Items, indices: Sequence[int]) -> Targets:
        """Start and end of each window, over its tokens."""
        chosen = [items.inputs[index] for index in indices]
        logits = self._logits(model, chosen).transpose(1, 2).flatten(0, 1)  # (2B, T)
        truth = torch.tensor([end for item in chosen for end in (item["start"], item["end"])], device=logits.device)
        return Targets(logits, truth, torch.arange(len(chosen), device=logits.device).repeat_interleave(2))

    def target_counts(self, items: Items) -> NDArray[np.int64]:
        return np.full(len(items), 2)

    def target_losses(self, targets: Targets) -> torch.Tensor:
        """Half the cross-entropy, so that a window's loss is the mean over start and end."""
        return 0.5 * cross_entropy(targets.logits, targets.truth, reduction="none")

    def predict(self, model: Any, items: Items) -> Answers:
        assert isinstance(items, QuestionItems), type(items)
        logits: list[Any] = [None] * len(items)
        model.eval()
        with torch.inference_mode():
            for indices in batches_by_length(items.lengths, BATCH):
                batch_logits = self._logits(model, [items.inputs[index] for index in indices]).cpu().numpy()
                for index, of_item in zip(indices, batch_logits, strict=True):
                    logits[index] = of_item[: len(items.inputs[index]["input_ids"])]  # (T, 2)
        return self.best_answers(items, logits)

    def best_answers(self, items: QuestionItems, logits: Sequence[NDArray[np.float32]]) -> Answers:
        """The best answer to each question.

        Args:
            items: all windows of all rows.
            logits: of each window, (T, 2).
        """
        n = len(items.contexts)
        scores, null = np.full(n, -np.inf, np.float32), np.full(n, np.inf, np.float32)
        characters = np.zeros((n, 2), dtype=np.int64)  # first character of the best span, and the one after it
        for row, item, of_item in zip(items.rows.tolist(), items.inputs, logits, strict=True):
            null[row] = min(null[row], of_item[NULL].sum())
            of_context = of_item[item["first"] : item["first"] + len(item["offsets"])]
            first, last, score = best_span(of_context[:, 0], of_context[:, 1], self.longest)
            if score > scores[row]:
                scores[row] = score
                characters[row] = item["offsets"][first][0], item["offsets"][last][1]
        answerless = (null > scores) if self.unanswerable else np.isneginf(scores)
        spans = [trim_span(context, *ends) for context, ends in zip(items.contexts, characters.tolist(), strict=True)]
        return Answers(
            ["" if none else text for (text, _), none in zip(spans, answerless, strict=True)],
            [-1 if none else start for (_, start), none in zip(spans, answerless, strict=True)],
            np.where(answerless, null, scores),
            np.concatenate(logits),
            [len(of_item) for of_item in logits],
            float(np.mean([_nll(*window) for window in zip(items.inputs, logits, strict=True)])),
        )

    def predict_artifact(self, model: Model, split: Split) -> Answers:
        answers = super().predict_artifact(model, split)
        if self.tokenizer is None:
            return answers
        items, logits = self.items(split).inputs, np.split(answers.logits, np.cumsum(answers.tokens)[:-1])
        return replace(answers, nll=float(np.mean([_nll(*window) for window in zip(items, logits, strict=True)])))

    def outputs(self, model: Any, batch: dict[str, torch.Tensor]) -> tuple[torch.Tensor, ...]:
        outputs = model(**batch)
        return outputs.start_logits, outputs.end_logits

    def decoding_options(self, model: Any) -> dict[str, Any]:
        return {"max_answer_tokens": self.longest, "no_answer": self.unanswerable}

    def stride(self) -> int:
        return self.max_length // STRIDE

    def logits_to_compare(self, predictions: Answers) -> NDArray[np.float32]:
        return predictions.logits


def _nll(item: dict[str, Any], logits: NDArray[np.float32]) -> float:
    return nll(logits[:, 0], logits[:, 1], (item["start"], item["end"]))

"""Rows of `question-answering` in the shape of SQuAD: question, context, answers with their start in the context."""

from __future__ import annotations

from typing import Any, ClassVar

from edgeft import tasks
from edgeft.cleaning import clean_row
from edgeft.data.formats.base import BadRow, Cleaner, Columns, Kind, is_unicode, need, structure, text_problem


class Squad(Kind):
    """A question, a context and answers that are spans of it; no answers means unanswerable."""

    form = tasks.SQUAD
    roles = ("question", "context", "answers")
    types: ClassVar = {"question": "text", "context": "text", "answers": "answers"}
    text_columns = ("question", "context")
    near_within = False

    def parse(self, *values: Any) -> tuple[Any, ...]:
        question, context, value = values
        need(text_problem(question, "question"), text_problem(context, "context"))
        return question, context, _answers(structure(value, "answers", self.limits), context)

    def inputs(self, columns: Columns) -> list[str]:
        pairs = zip(columns["question"], columns["context"], strict=True)
        return [f"{question}\n{context}" for question, context in pairs]

    def texts_to_measure(self, columns: Columns) -> dict[str, list[str]]:
        alone = {name: columns[name] for name in self.text_columns}
        return {"question and context": self.inputs(columns), **alone}

    def split_keys(self, columns: Columns) -> list[str]:
        """The context: all questions about one text stay together."""
        return columns["context"]

    def targets(self, columns: Columns) -> list[str]:
        return ["\0".join(sorted(set(answers["text"]))) for answers in columns["answers"]]

    def texts_to_compare(self, columns: Columns) -> list[str]:
        """The context: questions about one context are different rows."""
        return columns["context"]

    def clean(self, columns: Columns, clean: Cleaner) -> tuple[Columns, list[int]]:
        """Clean and locate every answer in the cleaned context; a row with an answer that can't be located is lost."""
        new_columns: Columns = {name: [] for name in self.types}
        lost = []
        rows = zip(columns["question"], columns["context"], columns["answers"], strict=True)
        for i, (question, context, answers) in enumerate(rows):
            cleaned = clean_row(clean, [question, context, *answers["text"]])
            moved = _relocate_answers(answers, context, cleaned[1], cleaned[2:])
            if moved is None or not all(text.strip() for text in cleaned):
                lost.append(i)
            for name, cell in zip(new_columns, (cleaned[0], cleaned[1], moved or answers), strict=True):
                new_columns[name].append(cell)
        return new_columns, lost


def _answers(value: Any, context: str) -> dict[str, list[Any]]:
    """Texts and starts, checked against the context."""
    if value is None:
        raise BadRow("no answers (a question that can't be answered has empty lists)")
    if isinstance(value, list | tuple) and all(isinstance(answer, dict) for answer in value):
        value = {key: [answer.get(key) for answer in value] for key in ("text", "answer_start")}
    if not isinstance(value, dict) or not {"text", "answer_start"} <= value.keys():
        raise BadRow("answers without text and answer_start")
    texts, starts = value["text"], value["answer_start"]
    if not isinstance(texts, list) or not isinstance(starts, list) or len(texts) != len(starts):
        raise BadRow("answers whose text and answer_start are not two lists of one length")
    for text, start in zip(texts, starts, strict=True):
        if not isinstance(text, str) or not text.strip() or not is_unicode(text):
            raise BadRow("an answer that is no text")
        if not isinstance(start, int) or isinstance(start, bool) or start < 0:
            raise BadRow("an answer_start that is no place in the context")
        if context[start : start + len(text)] != text:
            raise BadRow(f"an answer that doesn't stand at its answer_start ({start})")
    return {"text": texts, "answer_start": starts}


def _relocate_answers(
    answers: dict[str, list[Any]], before: str, after: str, cleaned: list[str]
) -> dict[str, list[Any]] | None:
    """The answers with their starts in the cleaned context; None if one can't be located.

    An answer that was the second of three occurrences of its text must be the second of three after cleaning.
    """
    if before == after:
        return answers
    starts = []
    for text, new, start in zip(answers["text"], cleaned, answers["answer_start"], strict=True):
        old_starts, new_starts = _occurrences(before, text), _occurrences(after, new)
        if len(old_starts) != len(new_starts):
            return None
        starts.append(new_starts[old_starts.index(start)])
    return {"text": cleaned, "answer_start": starts}


def _occurrences(context: str, text: str) -> list[int]:
    """Every index at which a text occurs, overlaps included."""
    starts: list[int] = []
    start = context.find(text) if text else -1
    while start >= 0:
        starts.append(start)
        start = context.find(text, start + 1)
    return starts

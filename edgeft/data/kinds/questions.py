"""Rows of `question-answering` in the shape of SQuAD: question, context, answers with their place in the context."""

from __future__ import annotations

from typing import Any, ClassVar

from edgeft.data.kinds.base import BadRow, Cleaner, Columns, Kind, is_unicode, need, structure, text_problem


class Squad(Kind):
    """A question, a context, and answers that stand in it; no answer at all says that it can't be answered."""

    name = "squad"
    roles = ("question", "context", "answers")
    types: ClassVar = {"question": "text", "context": "text", "answers": "answers"}
    text_columns = ("question", "context")

    def parse(self, *values: Any) -> tuple[Any, ...]:
        question, context, value = values
        need(text_problem(question, "question"), text_problem(context, "context"))
        return question, context, _answers(structure(value, "answers"), context)

    def inputs(self, columns: Columns) -> list[str]:
        pairs = zip(columns["question"], columns["context"], strict=True)
        return [f"{question}\n{context}" for question, context in pairs]

    def places(self, columns: Columns) -> list[str]:
        """The context: all questions about one text stay together."""
        return columns["context"]

    def targets(self, columns: Columns) -> list[str]:
        return ["\0".join(sorted(set(answers["text"]))) for answers in columns["answers"]]

    def clean(self, columns: Columns, clean: Cleaner) -> tuple[Columns, list[int]]:
        """Every answer is found again in the cleaned context; a row where one is not is lost."""
        made, lost = super().clean(columns, clean)
        missing = set(lost)
        made["answers"] = []
        for i, answers in enumerate(columns["answers"]):
            moved = _moved(answers, columns["context"][i], made["context"][i], clean)
            made["answers"].append(moved or answers)
            if moved is None:
                missing.add(i)
        return made, sorted(missing)


def _answers(value: Any, context: str) -> dict[str, list[Any]]:
    """Texts and starts, checked against the context."""
    if value is None:
        raise BadRow("no answers (a question that can't be answered has empty lists)")
    if isinstance(value, list | tuple) and all(isinstance(one, dict) for one in value):
        value = {key: [one.get(key) for one in value] for key in ("text", "answer_start")}
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
            raise BadRow(f"an answer that doesn't stand at its answer_start {start}")
    return {"text": texts, "answer_start": starts}


def _moved(answers: dict[str, list[Any]], before: str, after: str, clean: Cleaner) -> dict[str, list[Any]] | None:
    """The answers at their places in the cleaned context, None where one is gone."""
    if before == after:
        return answers
    texts = [clean(text) for text in answers["text"]]
    starts = []
    for text, start in zip(texts, answers["answer_start"], strict=True):
        place = _nearest(after, text, len(clean(before[:start])))
        if not text or place is None:
            return None
        starts.append(place)
    return {"text": texts, "answer_start": starts}


def _nearest(context: str, text: str, wanted: int) -> int | None:
    """The occurrence of a text that begins nearest to a place."""
    later = context.find(text, wanted)
    earlier = context.rfind(text, 0, wanted + len(text))
    found = [place for place in (earlier, later) if place >= 0]
    return min(found, key=lambda place: abs(place - wanted), default=None)

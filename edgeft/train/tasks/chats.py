"""Chats: what the assistant says is learnt, in the model's own template."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from edgeft import tasks
from edgeft.data.dataset import Split
from edgeft.data.formats import Columns
from edgeft.errors import ModelError, require
from edgeft.train.tasks.generation import Document, LanguageModel


class Messages(LanguageModel):
    """Chats in the model's own template; what the assistant says is learnt, with what the template ends it with."""

    form = tasks.MESSAGES
    cut = "they lose their end"

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        require("jinja2", "to render a chat template")
        if not self.tokenizer.chat_template:
            raise ModelError(
                "the model's tokenizer has no chat template, which messages need; take a chat model, "
                "or turn the rows into prompt and completion"
            )

    @classmethod
    def measured_texts(cls, columns: Columns, tokenizer: Any) -> list[list[str]]:
        if not tokenizer.chat_template:
            return super().measured_texts(columns, tokenizer)
        return [[tokenizer.apply_chat_template(chat, tokenize=False) for chat in columns["messages"]]]

    def documents(self, split: Split) -> list[Document]:
        found = [self._rendered(chat, row) for row, chat in zip(split.rows, split.columns["messages"], strict=True)]
        texts = [text for text, _ in found]
        encoded = self.tokenizer(texts, add_special_tokens=False, return_offsets_mapping=True, verbose=False)
        return [
            Document(list(ids), [_inside(offset, spans) for offset in offsets])
            for ids, offsets, (_, spans) in zip(encoded["input_ids"], encoded["offset_mapping"], found, strict=True)
        ]

    def _rendered(self, chat: list[dict[str, str]], row: int) -> tuple[str, list[tuple[int, int]]]:
        """The text of a chat, and from where to where in it the assistant speaks.

        Raises:
            ModelError: the template renders a chat otherwise than its beginning, or refuses it.
        """
        spans: list[tuple[int, int]] = []
        text = self._render(chat, row)
        for place, message in enumerate(chat):
            if message["role"] != "assistant":
                continue
            before = self._render(chat[:place], row, add_generation_prompt=True)
            after = self._render(chat[: place + 1], row)
            if not (after.startswith(before) and text.startswith(after)):
                raise ModelError(
                    f"row {row}: the chat template renders the messages before answer {len(spans) + 1} otherwise once "
                    "more messages follow, so what to learn can't be told; turn the rows into prompt and completion"
                )
            spans.append((len(before), len(after)))
        return text, spans

    def _render(self, chat: list[dict[str, str]], row: int, **options: bool) -> str:
        template_error = require("jinja2", "to render a chat template").TemplateError
        if not chat:
            return ""
        try:
            return str(self.tokenizer.apply_chat_template(chat, tokenize=False, **options))
        except template_error as error:
            roles = ", ".join(message["role"] for message in chat)
            raise ModelError(f"row {row}: the chat template refuses its messages ({roles}): {error}") from None

    def fitted(self, document: Document) -> list[Document]:
        return [document.part(0, self.max_length)]


def _inside(offset: tuple[int, int], spans: Sequence[tuple[int, int]]) -> bool:
    """Whether a token stands wholly in one of the spans, both in characters."""
    return any(start <= offset[0] < offset[1] <= stop for start, stop in spans)

"""Chats: the model learns the assistant's messages, in its own chat template."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from edgeft import tasks
from edgeft.data.dataset import Split
from edgeft.data.formats import Columns
from edgeft.errors import ModelError, require
from edgeft.train.tasks.generation import Document, LanguageModel


class Messages(LanguageModel):
    """Chats in the model's own template; the targets are the assistant's messages, with the template's end of turn."""

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
        rendered = [
            self._render_with_spans(chat, row) for row, chat in zip(split.rows, split.columns["messages"], strict=True)
        ]
        texts = [text for text, _ in rendered]
        encoded = self.tokenizer(texts, add_special_tokens=False, return_offsets_mapping=True, verbose=False)
        return [
            Document(list(ids), [_is_inside(offset, spans) for offset in offsets])
            for ids, offsets, (_, spans) in zip(encoded["input_ids"], encoded["offset_mapping"], rendered, strict=True)
        ]

    def _render_with_spans(self, chat: list[dict[str, str]], row: int) -> tuple[str, list[tuple[int, int]]]:
        """The text of a chat, and the spans of the assistant's messages in it.

        Raises:
            ModelError: the template renders a chat's beginning differently from the whole chat, or refuses the chat.
        """
        spans: list[tuple[int, int]] = []
        text = self._render(chat, row)
        for index, message in enumerate(chat):
            if message["role"] != "assistant":
                continue
            before = self._render(chat[:index], row, add_generation_prompt=True)
            after = self._render(chat[: index + 1], row)
            if not (after.startswith(before) and text.startswith(after)):
                raise ModelError(
                    f"row {row}: the chat template renders the messages before answer {len(spans) + 1} differently "
                    "once more messages follow, so the targets can't be told; turn the rows into prompt and completion"
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

    def cut_to_length(self, document: Document) -> list[Document]:
        return [document.part(0, self.max_length)]


def _is_inside(offset: tuple[int, int], spans: Sequence[tuple[int, int]]) -> bool:
    """Whether a token lies wholly inside one of the spans, both in characters."""
    return any(start <= offset[0] < offset[1] <= stop for start, stop in spans)

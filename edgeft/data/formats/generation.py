"""Rows of `text-generation` (chat, prompt with completion, plain text) and of `text2text-generation` (pairs)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

from edgeft import tasks
from edgeft.cleaning import clean_row
from edgeft.data.formats.base import BadRow, Cleaner, Columns, Kind, is_unicode, need, structure, text_problem
from edgeft.recipe import DataConfig

ROLES = ("system", "user", "assistant", "tool")


class PlainText(Kind):
    """A text to be continued."""

    form = tasks.TEXT
    roles = ("text",)
    types: ClassVar = {"text": "text"}
    text_columns = ("text",)

    def parse(self, *values: Any) -> tuple[Any, ...]:
        need(text_problem(values[0]))
        return values


class PromptCompletion(Kind):
    """A prompt and its completion."""

    form = tasks.PROMPT_COMPLETION
    roles = ("prompt", "completion")
    types: ClassVar = {"prompt": "text", "completion": "text"}
    text_columns = ("prompt", "completion")

    @classmethod
    def matches(cls, config: DataConfig, present: Sequence[str]) -> bool:
        return config.prompt_column in present or config.completion_column in present

    def parse(self, *values: Any) -> tuple[Any, ...]:
        need(*(text_problem(value, role) for value, role in zip(values, self.roles, strict=True)))
        return values

    def inputs(self, columns: Columns) -> list[str]:
        first, second = self.text_columns
        return [f"{a}\n{b}" for a, b in zip(columns[first], columns[second], strict=True)]

    def texts_to_measure(self, columns: Columns) -> dict[str, list[str]]:
        alone = {name: columns[name] for name in self.text_columns}
        return {"prompt and completion": self.inputs(columns), **alone}

    def split_keys(self, columns: Columns) -> list[str]:
        """The prompt: all its completions stay together."""
        return columns[self.text_columns[0]]


class Pairs(PromptCompletion):
    """A source text and its target text."""

    form = tasks.PAIRS
    roles = ("source", "target")
    types: ClassVar = {"source": "text", "target": "text"}
    text_columns = ("source", "target")
    target_follows_length = True

    @classmethod
    def matches(cls, config: DataConfig, present: Sequence[str]) -> bool:
        return True

    def texts_to_measure(self, columns: Columns) -> dict[str, list[str]]:
        return {name: columns[name] for name in self.text_columns}


class Messages(Kind):
    """A chat: messages with role and content; the assistant's are the targets."""

    form = tasks.MESSAGES
    roles = ("messages",)
    types: ClassVar = {"messages": "messages"}

    @classmethod
    def matches(cls, config: DataConfig, present: Sequence[str]) -> bool:
        return config.messages_column in present

    def parse(self, *values: Any) -> tuple[Any, ...]:
        messages = structure(values[0], "messages", self.limits)
        if messages is None:
            raise BadRow("no messages")
        if not isinstance(messages, list | tuple):
            raise BadRow(f"messages of type {type(messages).__name__} instead of a list")
        checked = [_message(message) for message in messages]
        if not any(message["role"] == "assistant" for message in checked):
            raise BadRow("messages without an answer of the assistant")
        return (checked,)

    def inputs(self, columns: Columns) -> list[str]:
        return [_join_messages(messages) for messages in columns["messages"]]

    def texts_to_measure(self, columns: Columns) -> dict[str, list[str]]:
        return {"whole chat": self.inputs(columns)}

    def split_keys(self, columns: Columns) -> list[str]:
        """The messages before the last answer: all answers to one question stay together."""
        return [
            _join_messages(messages[: _last_answer(messages)]) or _join_messages(messages)
            for messages in columns["messages"]
        ]

    def texts_to_compare(self, columns: Columns) -> list[str]:
        """The conversation without system messages, which all chats may share."""
        return [_join_messages([m for m in messages if m["role"] != "system"]) for messages in columns["messages"]]

    def texts_of(self, columns: Columns, index: int) -> list[str]:
        return [message["content"] for message in columns["messages"][index]]

    def clean(self, columns: Columns, clean: Cleaner) -> tuple[Columns, list[int]]:
        cleaned = [_clean_messages(messages, clean) for messages in columns["messages"]]
        lost = [i for i, messages in enumerate(cleaned) if not all(message["content"].strip() for message in messages)]
        return {"messages": cleaned}, lost


def _clean_messages(messages: list[dict[str, str]], clean: Cleaner) -> list[dict[str, str]]:
    contents = clean_row(clean, [message["content"] for message in messages])
    return [{"role": message["role"], "content": text} for message, text in zip(messages, contents, strict=True)]


def _message(message: Any) -> dict[str, str]:
    if not isinstance(message, dict) or not {"role", "content"} <= message.keys():
        raise BadRow("a message without role and content")
    role, content = message["role"], message["content"]
    if role not in ROLES:
        raise BadRow(f"a message whose role is none of {', '.join(ROLES)}")
    if not isinstance(content, str) or not content.strip() or not is_unicode(content):
        raise BadRow("a message whose content is no text")
    return {"role": role, "content": content}


def _last_answer(messages: list[dict[str, str]]) -> int:
    return max(i for i, message in enumerate(messages) if message["role"] == "assistant")


def _join_messages(messages: list[dict[str, str]]) -> str:
    return "\n".join(f"{message['role']}: {message['content']}" for message in messages)

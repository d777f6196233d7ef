"""How messages spell an option: as a flag of the running command if it has one, else for --set."""

from __future__ import annotations

import contextlib
import shlex
import sys
from collections.abc import Iterator, Mapping
from contextvars import ContextVar
from typing import Any

import yaml

_FLAGS: ContextVar[Mapping[str, str] | None] = ContextVar("flags of the command that runs", default=None)


@contextlib.contextmanager
def spelled_with(flags: Mapping[str, str]) -> Iterator[None]:
    """Spell options as the flags of a command.

    Args:
        flags: option, as in `data.text_column` -> flag, as in `--text-column`.
    """
    token = _FLAGS.set(flags)
    try:
        yield
    finally:
        _FLAGS.reset(token)


def name_option(path: str) -> str:
    """An option without its value, as in --text-column or data.text_column."""
    return (_FLAGS.get() or {}).get(path, path)


def spell_option(path: str, value: Any) -> str:
    """An option and its value as typed in a shell, as in `--test-fraction 0.2` or `--set data.test_fraction=0.2`."""
    flag = (_FLAGS.get() or {}).get(path)
    return f"--set {shlex.quote(setting(path, value))}" if flag is None else shlex.join(flag_words(flag, value))


def spell_data_option(option: str, value: Any) -> str:
    """An option of the rows, as `Limits.flag` spells it."""
    return spell_option(f"data.{option}", value)


def flag_words(flag: str, value: Any) -> list[str]:
    """A flag and its value, as one word if the value looks like a flag; for a list, one flag for each item."""
    if isinstance(value, list):
        return [word for item in value for word in flag_words(flag, item)]
    if isinstance(value, bool):
        return [flag if value else flag.replace("--", "--no-", 1)]
    text = str(value)
    return [f"{flag}={text}"] if text.startswith("-") else [flag, text]


def setting(name: str, value: Any) -> str:
    """One option for --set, its value as YAML in flow style on one line; `parse_settings` reads it back."""
    shown = _on_one_line(value)
    words = value if isinstance(value, list) else [value]
    # YAML's single quotes are unreadable inside the shell's, and only its double quotes keep the value on one line.
    if ("'" in shown or not shown.isprintable()) and all(isinstance(word, str) for word in words):
        shown = _on_one_line(value, '"')
    return f"{name}={shown}"


def _on_one_line(value: Any, style: str | None = None) -> str:
    dumped = yaml.safe_dump(
        value, default_flow_style=True, default_style=style, width=sys.maxsize, allow_unicode=True, sort_keys=False
    )
    return dumped.removesuffix("...\n").removesuffix("\n")

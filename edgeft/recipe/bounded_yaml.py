"""Untrusted YAML: read only if its size, nesting, aliases and numbers are within bounds."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

MAX_CHARACTERS = 2**18
MAX_NESTING = 32
MAX_VALUES = 20_000  # of a document, each alias counted as the values that it expands to
MAX_DIGITS = 400
LONG_NUMBER = re.compile(rf"[0-9_:.]{{{MAX_DIGITS + 1}}}")


class BadYaml(ValueError):
    """A text that isn't YAML, or YAML beyond a bound; phrased to follow a colon."""


def text_of(file: Path) -> str:
    """The text of a file; of a file that is too large, just enough to tell."""
    with file.open(encoding="utf-8") as opened:
        return opened.read(MAX_CHARACTERS + 1)


def read(text: str) -> Any:
    """The value of a YAML text, without custom constructors.

    Raises:
        BadYaml: not YAML, or beyond a bound.
    """
    if len(text) > MAX_CHARACTERS:
        raise BadYaml(f"more than {MAX_CHARACTERS:,} characters, which no recipe has")
    try:
        _check(yaml.parse(text, Loader=yaml.SafeLoader))
        return yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise BadYaml(" ".join(str(error).split())) from None
    except (ValueError, TypeError, LookupError, AttributeError, ArithmeticError) as error:
        if isinstance(error, BadYaml):
            raise
        # PyYAML converts a scalar by its tag and doesn't catch the errors of int, float or date.
        raise BadYaml(f"a value can't be read ({' '.join(str(error).split())[:200]}); put it in quotes") from None


def _check(events: Iterator[Any]) -> None:
    """Refuse a document that would be too large to compose.

    Raises:
        BadYaml: nested too deep, too many values, a number that is too long, or an alias inside its own anchor.
    """
    sizes: dict[str | None, int] = {}  # values of each completed anchor
    open_nodes: list[tuple[str | None, int]] = []  # anchor, and the values before it
    count = 0
    for event in events:
        if isinstance(event, yaml.AliasEvent):
            if event.anchor not in sizes and any(anchor == event.anchor for anchor, _ in open_nodes):
                raise BadYaml(f"the alias *{event.anchor} stands inside what it stands for")
            count += sizes.get(event.anchor, 1)
        elif isinstance(event, yaml.ScalarEvent):
            _check_digits(event)
            count += 1
            sizes[event.anchor] = 1
        elif isinstance(event, yaml.CollectionStartEvent):
            open_nodes.append((event.anchor, count))
            count += 1
        elif isinstance(event, yaml.CollectionEndEvent):
            anchor, before = open_nodes.pop()
            sizes[anchor] = count - before
        if len(open_nodes) > MAX_NESTING:
            raise BadYaml(f"lists or mappings nest more than {MAX_NESTING} deep")
        if count > MAX_VALUES:
            raise BadYaml(f"more than {MAX_VALUES:,} values, aliases written out")


def _check_digits(event: Any) -> None:
    if event.style is None and LONG_NUMBER.search(event.value):
        raise BadYaml(f"a number has more than {MAX_DIGITS} digits; a text goes in quotes")

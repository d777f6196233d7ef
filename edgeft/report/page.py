"""What the HTML pages share: the environment of their templates, which include `style.html`."""

from __future__ import annotations

from collections.abc import Callable
from importlib import resources
from typing import Any

from edgeft.errors import require


def template(name: str, purpose: str, **filters: Callable[..., str]) -> Any:
    """A template of this folder.

    Args:
        name: its file.
        purpose: ends the message where jinja2 is missing.
        filters: what it calls besides jinja2's own.

    Raises:
        MissingExtraError: jinja2 is not installed.
    """
    jinja = require("jinja2", purpose)
    environment = jinja.Environment(
        autoescape=True,
        undefined=jinja.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        loader=jinja.FunctionLoader(_source),
    )
    environment.filters.update(filters)
    return environment.get_template(name)


def _source(name: str) -> str:
    return (resources.files("edgeft.report") / "templates" / name).read_text(encoding="utf-8")

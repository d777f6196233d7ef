"""Documents generated from the declarations: the JSON Schema and docs/recipe.md."""

from __future__ import annotations

import types
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import msgspec

from edgeft.recipe.options import leaves
from edgeft.recipe.stages import Recipe


def json_schema() -> dict[str, Any]:
    """The JSON Schema of a recipe."""
    return msgspec.json.schema(Recipe)


def _type_name(hint: Any) -> str:
    if get_origin(hint) is Annotated:
        hint = get_args(hint)[0]
    origin = get_origin(hint)
    if origin in (Union, types.UnionType):
        return " or ".join(_type_name(part) for part in get_args(hint) if part is not type(None))
    if origin is Literal:
        return ", ".join(f"`{choice}`" for choice in get_args(hint))
    if origin is list:
        return f"list of {_type_name(get_args(hint)[0])}"
    return str(getattr(hint, "__name__", hint))


def markdown() -> str:
    """docs/recipe.md: every option with type, default and help."""
    lines = [
        "# The recipe",
        "",
        "Written by `edgeft recipe docs` from the dataclasses in `edgeft/recipe/`; change it there.",
        "Any option can be set with `--set PATH=VALUE`.",
        "",
        "| path | type | default | what it is |",
        "|---|---|---|---|",
    ]
    for path, option in leaves(Recipe):
        default = "unset" if option.default is None else f"`{option.default}`"
        lines.append(f"| `{path}` | {_type_name(option.type)} | {default} | {option.help} |")
    return "\n".join(lines) + "\n"

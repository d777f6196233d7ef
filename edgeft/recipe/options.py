"""How an option is declared: once, with its type, default, help, unit and bounds."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Annotated, Any, TypeVar, dataclass_transform, get_args, get_type_hints

import msgspec

C = TypeVar("C")


def option(
    help: str,
    unit: str | None = None,
    ge: float | None = None,
    gt: float | None = None,
    le: float | None = None,
    lt: float | None = None,
    min_length: int | None = None,
) -> msgspec.Meta:
    """The help, unit and bounds of one field."""
    bounds: dict[str, Any] = {"ge": ge, "gt": gt, "le": le, "lt": lt, "min_length": min_length}
    return msgspec.Meta(description=help, extra_json_schema={"unit": unit} if unit else None, **bounds)


@dataclass_transform(kw_only_default=True, frozen_default=True)
def config(**defaults: object) -> Callable[[type[C]], type[C]]:
    """A frozen keyword-only dataclass whose docstring lists its options.

    Args:
        defaults: new defaults for fields, so that an inherited one stays declared once. None: the field may be unset
            in a recipe; its static type stays, as stages get a config in which every option is decided.
    """

    def wrap(cls: type[C]) -> type[C]:
        for name, default in defaults.items():
            owner = next(base for base in cls.__mro__ if name in inspect.get_annotations(base))
            hint = get_type_hints(owner, include_extras=True)[name]
            cls.__annotations__[name] = _unset_able(hint) if default is None else hint
            setattr(cls, name, default)
        frozen = dataclass(frozen=True, kw_only=True)(cls)
        lines = [f"    {field.name}: {field.help}" for field in options(frozen)]
        # An inherited field's type is a name in its own module, so the signature gets the resolved types.
        frozen.__init__.__annotations__ = get_type_hints(frozen, include_extras=True)
        frozen.__doc__ = f"{cls.__doc__}\n\nAttributes:\n" + "\n".join(lines)
        return frozen

    return wrap


def _unset_able(hint: Any) -> Any:
    """The type of a field that may also be unset; its bounds go inside the union, where msgspec needs them."""
    kind, meta = get_args(hint)
    if type(None) in get_args(kind):
        return hint
    bounds = {name: getattr(meta, name) for name in ("ge", "gt", "le", "lt", "min_length")}
    about = msgspec.Meta(
        description=f"{meta.description}; unset: chosen automatically", extra_json_schema=meta.extra_json_schema
    )
    return Annotated[Annotated[kind, msgspec.Meta(**bounds)] | None, about]


@dataclass(frozen=True)
class Option:
    """One field of a config, for flags, schema and docs."""

    name: str
    type: Any
    default: Any
    help: str
    unit: str | None


def options(config: type) -> Iterator[Option]:
    """The options of a config class, in the order of their declaration."""
    hints = get_type_hints(config, include_extras=True)
    for field in dataclasses.fields(config):
        meta = next((m for m in getattr(hints[field.name], "__metadata__", ()) if isinstance(m, msgspec.Meta)), None)
        help = (meta.description if meta else None) or ""
        unit = ((meta.extra_json_schema if meta else None) or {}).get("unit")
        default = None if field.default is dataclasses.MISSING else field.default
        yield Option(field.name, hints[field.name], default, f"{help} [{unit}]" if unit else help, unit)


def is_config(hint: Any) -> bool:
    """Whether a field's type is itself a config."""
    return dataclasses.is_dataclass(hint)


def leaves(cls: type, path: str = "") -> Iterator[tuple[str, Option]]:
    """Every option of the recipe with its dotted path."""
    for option in options(cls):
        where = f"{path}.{option.name}" if path else option.name
        if is_config(option.type):
            yield from leaves(option.type, where)
        else:
            yield where, option

"""The budget of an artifact, as in `p99<=15ms,size<=30MB,drop<=1pt`."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from edgeft.errors import RecipeError

# quantity -> unit -> factor to the unit of the measurement
UNITS: dict[str, dict[str, float]] = {
    "p50": {"ms": 1.0, "us": 1e-3, "s": 1e3},
    "p90": {"ms": 1.0, "us": 1e-3, "s": 1e3},
    "p99": {"ms": 1.0, "us": 1e-3, "s": 1e3},
    "size": {"MB": 1e6, "kB": 1e3, "KB": 1e3, "MiB": 2.0**20, "KiB": 2.0**10, "B": 1.0},
    "drop": {"pt": 1.0, "pts": 1.0},
}
LIMIT = re.compile(r"^\s*(?P<quantity>[a-z0-9]+)\s*<=\s*(?P<number>\d+(?:\.\d+)?)\s*(?P<unit>[A-Za-z]+)\s*$")


@dataclass(frozen=True, kw_only=True)
class Limit:
    """One limit.

    Attributes:
        quantity: p50, p90, p99 (ms), size (bytes) or drop (points of the lead metric below the teacher).
        bound: the largest value allowed, in that unit.
        text: as the user wrote it.
    """

    quantity: str
    bound: float
    text: str


def parse(budget: str) -> tuple[Limit, ...]:
    """The limits of a budget.

    Raises:
        RecipeError: a limit that can't be read, with the valid forms.
    """
    return tuple(_limit(part) for part in budget.split(",") if part.strip())


def _limit(part: str) -> Limit:
    match = LIMIT.match(part)
    units = UNITS.get(match["quantity"]) if match else None
    if not match or not units or match["unit"] not in units:
        raise RecipeError(
            f'budget: can\'t read "{part.strip()}"; limits look like p99<=15ms, size<=30MB, drop<=1pt '
            f"(quantities: {', '.join(UNITS)})"
        )
    return Limit(quantity=match["quantity"], bound=float(match["number"]) * units[match["unit"]], text=part.strip())


def broken(limits: tuple[Limit, ...], measured: Mapping[str, float]) -> list[str]:
    """One line for each limit that the measured quantities exceed; unmeasured quantities exceed none."""
    return [
        describe(limit, measured[limit.quantity])
        for limit in limits
        if limit.quantity in measured and not measured[limit.quantity] <= limit.bound  # NaN exceeds it
    ]


def describe(limit: Limit, value: float) -> str:
    """A limit with the measured value, as in "size<=30MB: measured 12.1MB"."""
    return f"{limit.text}: measured {_shown(limit, value)}"


def _shown(limit: Limit, value: float) -> str:
    """A measured quantity in the unit of its limit."""
    match = LIMIT.match(limit.text)
    assert match is not None
    return f"{value / UNITS[limit.quantity][match['unit']]:.4g}{match['unit']}"


def relaxed(limit: Limit, value: float) -> str:
    """The limit, as a user would write it, that a measured value just keeps: rounded up to three digits."""
    match = LIMIT.match(limit.text)
    assert match is not None
    unit = match["unit"]
    number = value / UNITS[limit.quantity][unit]
    digits = 2 - math.floor(math.log10(number))
    text = f"{math.ceil(number * 10.0**digits - 1e-9) / 10.0**digits:.{max(digits, 0)}f}"
    if float(text) * UNITS[limit.quantity][unit] < value:  # floating-point rounding went below the value
        text = f"{float(text) + 10.0**-digits:.{max(digits, 0)}f}"
    return f"{limit.quantity}<={text}{unit}"


def excess(limit: Limit, value: float) -> float:
    """By which share of its bound a value exceeds a limit; negative: the limit holds with room."""
    return (value - limit.bound) / (limit.bound or 1.0)


def tightest(limits: Sequence[Limit], quantity: str) -> float | None:
    """The tightest bound of a quantity; None: it has no limit."""
    return min((limit.bound for limit in limits if limit.quantity == quantity), default=None)

from __future__ import annotations

import pytest

from edgeft.errors import RecipeError
from edgeft.recipe import budget
from edgeft.recipe.budget import Limit


@pytest.mark.parametrize(
    ("text", "quantity", "bound"),
    [
        ("p99<=15ms", "p99", 15.0),
        ("p50<=250us", "p50", 0.25),
        ("p90<=1.5s", "p90", 1500.0),
        ("size<=30MB", "size", 30e6),
        ("size<=30MiB", "size", 31_457_280.0),
        ("size<=512kB", "size", 512e3),
        ("size<=512KiB", "size", 524_288.0),
        ("size<=7B", "size", 7.0),
        ("drop<=1pt", "drop", 1.0),
        (" drop <= 0.5 pts ", "drop", 0.5),
    ],
)
def test_units(text: str, quantity: str, bound: float) -> None:
    (limit,) = budget.parse(text)
    assert limit == Limit(quantity=quantity, bound=limit.bound, text=text.strip())
    assert limit.bound == pytest.approx(bound)


def test_several_limits_in_their_order() -> None:
    assert [limit.quantity for limit in budget.parse("p99<=15ms, size<=30MB,drop<=1pt,")] == ["p99", "size", "drop"]
    assert budget.parse("") == ()


@pytest.mark.parametrize(
    "part",
    ["p99<15ms", "p99<=15", "p99<=15MB", "p95<=15ms", "size<=-1MB", "size<=1.MB", "drop<=1%", "fast", "p99=>1ms"],
)
def test_what_can_not_be_read_is_quoted_with_what_can(part: str) -> None:
    with pytest.raises(RecipeError) as caught:
        budget.parse(f"drop<=1pt,{part}")
    assert f'"{part}"' in str(caught.value)
    assert "p99<=15ms, size<=30MB, drop<=1pt" in str(caught.value)
    assert "p50, p90, p99, size, drop" in str(caught.value)


def test_broken_limits_have_both_numbers_and_equality_holds() -> None:
    limits = budget.parse("p99<=15ms,size<=30MB,drop<=1pt")
    assert budget.broken(limits, {"p99": 15.0, "size": 30e6, "drop": 1.0}) == []
    assert budget.broken(limits, {"p99": 15.5, "size": 1, "drop": 2.0}) == [
        "p99<=15ms: measured 15.5ms",
        "drop<=1pt: measured 2pt",
    ]


def test_what_was_not_measured_breaks_nothing_but_nan_does() -> None:
    limits = budget.parse("p99<=15ms,drop<=1pt")
    assert budget.broken(limits, {}) == []
    assert budget.broken(limits, {"drop": float("nan")}) == ["drop<=1pt: measured nanpt"]

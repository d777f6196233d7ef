"""Slices and identity terms on the page: places of the bars by hand, undefined figures, what users wrote."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest
from support_report import NOBODY, make, parse

from edgeft.report import facts, run_report, slice_sections
from edgeft.report.run_report import render

pytest.importorskip("jinja2")
pytest.importorskip("matplotlib")


def part(value: float | None, low: float | None, high: float | None, rows: int = 100) -> dict[str, Any]:
    return {"rows": rows, "value": value, "low": low, "high": high, "small": rows < 20}


WHOLE = {"value": 0.8, "low": 0.7, "high": 0.9}


def looked(**columns: dict[str, Any]) -> dict[str, Any]:
    return {
        "intervals": {"accuracy": WHOLE, "macro_f1": {"value": 0.79, "low": 0.68, "high": 0.9}},
        "slices": {
            "metric": "accuracy",
            "unit": "words",
            "by_length": {"1-9": part(0.85, 0.75, 0.9), "10-40": part(0.75, 0.65, 0.85)},
            "by_label": {"up": part(0.9, 0.8, 1.0)},
            "by_column": columns or {"country": {"fr": part(0.6, 0.5, 0.7), "de": part(None, None, None, 1)}},
        },
        "counterfactual": {
            "texts": 50,
            "flip_rate": 0.1,
            "by_kind": {"gender": {"texts": 40, "flip_rate": 0.125}, "religion": {"texts": 10, "flip_rate": 0.0}},
        },
    }


FLIP = {"text": "He's the king of France", "swapped": "She's the king of France", "kind": "gender", "row": 7}
FLIPS = [{**FLIP, "before": "up", "after": "down"}]


def test_bars_stand_where_their_figures_are() -> None:
    found = slice_sections.context({"teacher": looked(), "artifact": looked()}, [])["by_slice"]
    # From 0.5 to 1.0, 4% of that free on the left, and no share beyond 1: from 0.48 to 1.
    assert found["ends"] == ("48.0%", "100.0%")
    assert found["all"] == pytest.approx((0.8 - 0.48) / 0.52)
    country, label = found["tables"]
    assert (country.title, label.title) == ("by country", "by true label")
    french, german = country.rows
    places = {"low": 0.02 / 0.52, "high": 0.22 / 0.52, "at": 0.12 / 0.52, "beside": 0.12 / 0.52}
    assert french.marks == pytest.approx(places)
    assert (french.value, french.interval, french.rows, french.below) == ("60.0%", "50.0 to 70.0", 100, True)
    assert (german.value, german.interval, german.marks, german.small, german.below) == ("–", "–", None, True, False)
    assert found["below"] == 1


def test_slices_of_few_rows_do_not_stretch_the_axis_and_are_not_marked() -> None:
    axis = slice_sections.axis_of("accuracy", [part(0.5, 0.0, 1.0, 3), part(0.8, 0.75, 0.85)], WHOLE)
    assert (axis.low, axis.high) == pytest.approx((0.7 - 0.008, 0.9 + 0.008))
    assert (axis.place(0.0), axis.place(1.0), axis.place(None)) == (0.0, 1.0, None)
    few = slice_sections.axis_of("accuracy", [part(0.5, 0.2, 1.0, 3)], WHOLE)
    assert (few.low, few.high) == pytest.approx((0.2 - 0.032, 1.0))
    found = slice_sections.context({"teacher": looked(a={"x": part(0.0, 0.0, 0.0, 1)})}, [])["by_slice"]
    assert found["below"] == 0


def test_a_metric_that_is_no_share() -> None:
    axis = slice_sections.axis_of("pearson", [part(None, None, None)], {"value": -0.1, "low": -0.3, "high": 0.1})
    assert (axis.low, axis.high) == pytest.approx((-0.316, 0.116))
    assert axis.ends == ("-0.316", "0.116")
    flat = slice_sections.axis_of("pearson", [], {"value": None, "low": None, "high": None})
    assert flat.low < flat.high
    assert facts.figure("pearson", 0.81234) == "0.812"
    assert facts.figure("micro_f1", 0.81234) == "81.2%"
    assert facts.figure("mae", None) == "–"
    assert facts.interval("pearson", 0.5, 0.75) == "0.500 to 0.750"
    assert facts.name("macro_f1") == "macro F1"


def test_swaps_by_kind() -> None:
    found = slice_sections.context({"teacher": looked()}, FLIPS)["identity"]
    assert [(row["name"], row["texts"], row["changed"], row["value"]) for row in found["rows"]] == [
        ("any of them", 50, 5, "10.0%"),
        ("gender", 40, 5, "12.5%"),
        ("religion", 10, 0, "0.0%"),
    ]
    # Wilson's interval of 0 of 10.
    assert found["rows"][2]["interval"] == "0.0 to 27.8"
    assert found["examples"][0]["parts"] == [("out", "He"), ("in", "She"), ("same", "'s the king of France")]


def test_differences_of_texts() -> None:
    assert slice_sections.text_difference("a b", "a b") == [("same", "a b")]
    assert slice_sections.text_difference("éa он c", "éa она c") == [
        ("same", "éa "),
        ("out", "он"),
        ("in", "она"),
        ("same", " c"),
    ]
    long = slice_sections.text_difference("x " * 500 + "he" + " y" * 500, "x " * 500 + "she" + " y" * 500)
    assert [how for how, _ in long] == ["same", "out", "in", "same"]
    assert long[0][1].startswith("…")
    assert long[0][1].endswith("x ")
    assert long[3][1].endswith("…")
    assert max(len(words) for _, words in long) < 2 * slice_sections.AROUND


def test_the_lowest_slices_leave_few_rows_and_undefined_ones_out() -> None:
    found = looked(a={"x": part(0.1, 0, 1, 3), "y": part(None, None, None), "z": part(0.7, 0.6, 0.8)})
    assert [name for name, _ in slice_sections.lowest_slices(found, 2)] == ["a: z", "length in words: 10-40"]
    assert [name for name, _ in slice_sections.lowest_slices(found, 9)] == [
        "a: z",
        "length in words: 10-40",
    ]  # others are no lower
    assert list(slice_sections.lowest_slices({}, 3)) == []


@pytest.mark.parametrize(
    "changes",
    [
        {"scrutiny": {"teacher": looked(), "artifact": looked()}, "flips": FLIPS},
        {"scrutiny": {"teacher": looked()}, "flips": FLIPS, "shipped": False, "forms": {}},
        {"scrutiny": {"teacher": looked()}, "shipped": False, "lead_metric": "pearson", "labels": [], **NOBODY,
         "test_labels": None, "second_metric": None},
        {"scrutiny": {"artifact": {"intervals": looked()["intervals"]}}},
        {"scrutiny": {"teacher": {**looked(), "counterfactual": {"texts": 0, "flip_rate": None, "by_kind": {}}}}},
    ],
    ids=["both", "teacher-alone", "no-label", "intervals-alone", "no-terms"],
)  # fmt: skip
def test_renders_whatever_was_looked_at(changes: dict[str, Any]) -> None:
    page = render(make(**changes))
    parsed = parse(page)
    assert len(parsed.ids) == len(set(parsed.ids))
    assert set(re.findall(r"href=\"#([^\"]+)", page)) <= set(parsed.ids)
    assert not re.search(r"https?://|<script|<link", page)


def test_the_headline_has_the_interval_of_the_bootstrap() -> None:
    metrics = {"artifact": {"accuracy": 0.8}, "teacher": {"accuracy": 0.82, "macro_f1": 0.81}}
    both = make(metrics=metrics, scrutiny={"teacher": looked(), "artifact": looked()})
    assert run_report.headlines(both)[0].notes == ["teacher 82.0%", "95% interval 70.0 to 90.0", "60 texts"]
    teacher = make(metrics=metrics, scrutiny={"teacher": looked()}, shipped=False, bench={})
    names = {line.name: line.value for line in run_report.headlines(teacher)}
    assert names == {
        "accuracy, test split": "82.0%", "macro F1, test split": "81.0%", "size": "90.0 MB", "latency, p50": "12.0 ms"
    }  # fmt: skip


def test_what_users_wrote_is_escaped() -> None:
    evil = '<script>"x"&'
    flips = [{**FLIP, "text": f"he {evil}", "swapped": f"she {evil}", "before": evil, "after": evil}]
    page = render(make(scrutiny={"teacher": looked(**{evil: {evil: part(0.5, 0.4, 0.6)}})}, flips=flips))
    assert "<script" not in page
    parse(page)


def test_equal_inputs_give_equal_bytes() -> None:
    inputs = make(scrutiny={"teacher": looked(), "artifact": looked()}, flips=FLIPS)
    assert render(inputs) == render(inputs)
    assert isinstance(inputs.test_labels, np.ndarray)

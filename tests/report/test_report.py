"""The report renders whatever was measured, escapes what users wrote, and needs no network."""

from __future__ import annotations

import re

import numpy as np
import pytest
from support_report import LATENCY, NOBODY, make, parse

from edgeft.bench.race import ratio, summary
from edgeft.report import run_report
from edgeft.report.run_report import GateRow, ReportInputs, render

pytest.importorskip("jinja2")
pytest.importorskip("matplotlib")


@pytest.mark.parametrize(
    "inputs",
    [
        make(),
        make(number=20),
        make(number=40, rows=200),
        make(bench={}),
        make(calibration={}, parity={}, data={}, versions={}),
        make(curves={}),
        make(curves={"distill": [], "prune": [{"step": 1}], "finetune": [{"step": 3, "loss": 0.5}]}),
        make(gates=[]),
        make(gates=[GateRow(stage="artifact")]),
        make(gates=[GateRow(stage="artifact", lead=0.5, latency_ms=1.0, bytes=None)]),
        make(mistakes=0),
        make(**NOBODY),
    ],
    ids=[
        "whole", "twenty-labels", "forty-labels", "no-bench", "no-checks", "no-curves", "empty-curves", "no-gates",
        "unmeasured", "one-gate", "no-mistakes-shown", "no-test-rows",
    ],
)  # fmt: skip
def test_renders_one_whole_page_without_network(inputs: ReportInputs) -> None:
    page = render(inputs)
    assert page.lstrip().startswith("<!doctype html>")
    assert not re.search(r"https?://|//cdn|<script|<link|@import|url\((?!#)", page)
    parsed = parse(page)
    assert len(parsed.ids) == len(set(parsed.ids))
    used = set(re.findall(r"(?:href=\"|url\()#([^\")]+)", page))
    assert used <= set(parsed.ids)


def test_headlines_prefer_the_test_split() -> None:
    metrics = {"teacher": {"accuracy": 0.91}, "artifact": {"accuracy": 0.9}, "baseline": {"accuracy": 0.8}}
    quality, size, latency, speedup = run_report.headlines(make(metrics=metrics))
    assert (quality.name, quality.value) == ("accuracy, test split", "90.0%")
    assert quality.notes[0] == "teacher 91.0%, baseline 80.0%"
    assert (size.value, size.notes[0]) == ("9.00 MB", "teacher 90.0 MB, 10.0 times as large")
    assert latency.value == "2.00 ms"
    assert speedup.value == "–"
    assert run_report.headlines(make())[0].name == "accuracy, validation split"


def test_speedup_takes_latencies_as_they_come_from_a_race() -> None:
    teacher, own = summary([8.0] * 9), summary([2.0] * 9)
    race = {"teacher": teacher, "artifact": own, "ratio": ratio(teacher, own)}
    inputs = make(bench={"latency": LATENCY, "against_teacher": race})
    assert run_report.headlines(inputs)[3].value == "4.0×"
    assert "in turns: teacher" in render(inputs)


def test_one_mistake_and_a_label_that_is_never_predicted() -> None:
    after = np.array([[0.9, 0.08, 0.02], [0.2, 0.75, 0.05], [0.7, 0.1, 0.2]])
    one = make(number=3, rows=3, test_labels=np.array([0, 1, 2]), probabilities=after, forms={})
    text = " ".join(parse(render(one)).text)
    assert "1 of 3 test texts are answered wrongly; this is the one" in text
    assert "row 102" in text
    assert "0.0%" in text


def test_what_users_wrote_is_escaped() -> None:
    evil = "<script>alert('x')</script> & $a$ \"q\""
    inputs = make(
        title=evil,
        labels=[evil, "b<i>"],
        test_texts=[evil] * 60,
        recipe_yaml=f"name: {evil}",
        gates=[GateRow(stage=evil, lead=0.5, latency_ms=1.0, bytes=10, note=evil)],
        curves={evil: [{"step": 1, "loss": 1.0}, {"step": 2, "loss": 0.5}]},
        budget=[evil],
        data={evil: 1, "labels": {evil: 2}},
        versions={evil: evil},
        mistakes=60,
    )
    page = render(inputs)
    assert "<script" not in page
    assert "b<i>" not in page
    assert page.count("&lt;script&gt;") > 10
    parse(page)


def test_equal_inputs_give_equal_bytes() -> None:
    assert render(make()) == render(make())


def test_reliability_of_every_form_and_of_what_ships() -> None:
    chosen = {"threshold": 0.8, "max_error": 0.05, "confidence": 0.95, "share": {"test": 0.5}}
    page = render(make(calibration={"method": "temperature", "answers": {"test": {}}, "selective": chosen}))
    section = page[page.index('<section id="reliability"') : page.index('<section id="confusion"')]
    text = " ".join(parse(section).text)
    names = re.findall(r'<th scope="row">([^<]+)</th>', section)
    assert names == ["teacher", "distilled", "before calibration", "after calibration"]
    assert re.findall(r"<figcaption><b>([^<]+)</b>", section) == names
    assert "answers below 0.8000 abstain; the others: at most 5.0% of them wrong, with 95% confidence" in text
    assert "Selective prediction" not in render(make())


def test_long_texts_are_cut() -> None:
    page = render(make(test_texts=["x" * 5000] * 60))
    assert "x" * run_report.TEXT_CHARACTERS + " …" in page
    assert "x" * (run_report.TEXT_CHARACTERS + 1) not in page


def test_plots_follow_the_page_colours() -> None:
    page = render(make())
    drawings = re.findall(r"<svg.*?</svg>", page, flags=re.S)
    assert len(drawings) == 6
    for drawing in drawings:
        colours = set(re.findall(r"(?:fill|stroke): ?(#[0-9a-f]{6}|var\(--\w+\))", drawing))
        assert not {colour for colour in colours if colour.startswith("#")}
        assert 'role="img"' in drawing

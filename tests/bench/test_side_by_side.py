"""The command behind `make bench`: parts of documents, peers that can't be had."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest
import side_by_side

from edgeft.bench.harness.subjects.subject import Subject
from edgeft.report import facts

SUBJECTS = Path(__file__).parent / "harness" / "subjects.py"


def test_a_part_of_a_document_is_exchanged() -> None:
    text = "# A\n<!-- make bench: demo -->\nold\n<!-- end of demo -->\nrest\n"
    new = "# A\n<!-- make bench: demo -->\none\ntwo\n<!-- end of demo -->\nrest\n"
    assert side_by_side.replaced(text, "demo", ["one", "two"]) == new
    assert side_by_side.replaced(new, "demo", ["old"]) == text
    with pytest.raises(ValueError, match="no part engines"):
        side_by_side.replaced(text, "engines", [])


def test_the_documents_have_their_parts() -> None:
    root = side_by_side.ROOT
    for file, part in (("README.md", "demo"), ("docs/benchmarks.md", "engines"), ("docs/benchmarks.md", "embeddings")):
        emptied = side_by_side.replaced((root / file).read_text(encoding="utf-8"), part, [])
        assert f"<!-- make bench: {part} -->\n<!-- end of {part} -->" in emptied


def test_a_peer_that_answers_and_why_others_dont() -> None:
    def opened(function: str) -> Subject:
        return Subject(name="it", kind="callable", place="", opener=f"{SUBJECTS}:{function}", options={"seconds": 0.0})

    def absent() -> Subject:
        raise OSError("no such\npackage")

    missing: dict[str, str] = {}
    assert side_by_side.tried(lambda: opened("waits"), "waits", missing) == [opened("waits")]
    assert missing == {}
    assert side_by_side.tried(absent, "absent", missing) == []
    assert side_by_side.tried(lambda: opened("nothing"), "broken", missing) == []
    assert missing["absent"] == "no such package"
    assert "has no attribute 'nothing'" in missing["broken"]


def test_what_takes_too_long_is_given_up() -> None:
    with pytest.raises(TimeoutError, match="took longer than 1 s"), side_by_side.at_most(1):
        time.sleep(5)


def document(low: float, high: float, margin: float, verdict: str) -> dict[str, Any]:
    """Of two subjects, the other one 14.8 times as fast as the first."""
    asked = {"queries": 700, "texts": 9, "settled_rounds": 8}
    subjects = [
        {"name": name, "single_stream": {"p50_ms": ms, "p99_ms": 2 * ms, **asked}, "facts": {}}
        for name, ms in (("first", 14.8), ("other", 1.0))
    ]
    ratio = {"median": 1 / 14.8, "low": low, "high": high, "margin": margin, "verdict": verdict}
    rounds = {"repeated": 4, "disturbed": 2, "margin": margin}
    return {
        "subjects": subjects,
        "ratios": {"other": ratio},
        "plan": {"rounds": 8, "tokens": None},
        "texts": 9,
        "noise": {
            "seen": ["a fixed piece of work took 0.404 ms before and 0.460 after (3% allowed)"],
            "rounds": rounds,
        },
    }


def test_no_line_under_a_table_takes_its_figures_back() -> None:
    """14.8 times on a machine whose clock moved by 14%: the figure stands, its interval is wider, and noise is said."""
    found = document(1 / 17.4, 1 / 12.6, 1.14, "faster")
    lines = "\n".join([*side_by_side.engine_table(found), *side_by_side.notes(found, {})])
    assert "| 14.8 (12.6 to 17.4) |" in lines
    assert "Noise: 4 of 8 rounds were measured again because of it, 2 of the rounds used are still noisy, " in lines
    assert "which widens the ratios' intervals by a factor of 1.14 at both ends." in lines
    assert "too noisy" not in lines.lower()
    unclear = document(0.5, 1.2, 1.6, "not reported as faster: noise can explain it")
    assert "; not reported as faster: noise can explain it |" in side_by_side.engine_table(unclear)[-1]


def test_the_readme_s_table_and_sentence_are_of_one_race(real_run: dict[str, Any]) -> None:
    *table, _, said = side_by_side.demo_table(real_run["folder"])
    latency = {row.split("|")[1].strip(): row.split("|")[-2].strip() for row in table[2:]}
    forms = real_run["json"]["stages"]["bench"]["metrics"]["race"]["forms"]
    shown = {side_by_side.FORMS[name]: facts.milliseconds(forms[name]["p50_ms"]) for name in side_by_side.FORMS}
    assert shown.items() <= latency.items()
    ratio = forms["teacher"]["p50_ms"] / forms["artifact"]["p50_ms"]
    assert f"{ratio:.1f} times as fast as its teacher" in said or f"{ratio:.2f} times its speed" in said

"""What a data profile looks like: the page is one file that quotes nothing, the terminal fits its width."""

from __future__ import annotations

import io
from importlib import resources
from typing import Any

import pytest
from rich.console import Console

from edgeft.data.profile import cleaning_preview, profile_facts
from edgeft.data.profile.profile_report import report
from edgeft.report import terminal
from edgeft.report.page import render
from edgeft.terminal.printing import visible


def counted(count: int, *rows: tuple[int, ...], file: str = "a.csv") -> dict[str, Any]:
    names = ("row", "other_row")
    return {
        "count": count,
        "rows": [
            {"file": file, **dict(zip(names, row, strict=False))} | ({"other_file": "a.csv"} if len(row) > 1 else {})
            for row in rows
        ],
    }


NONE = counted(0)
ODD = dict.fromkeys(profile_facts.ODD, NONE)


def document(**changes: Any) -> dict[str, Any]:
    part = {
        "percentiles": {"min": 1, "p50": 9.0, "p90": 20.0, "p95": 24.0, "p99": 31.0, "max": 70},
        "cut": {"16": 0.4, "32": 0.0005, "64": 0.0},
        "histogram": {"edges": [0.0, 10.0, 20.0, 40.0], "counts": [5, 3, 2], "beyond": 1},
    }
    made: dict[str, Any] = {
        "schema_version": 1,
        "task": "text-classification",
        "kind": "single-label",
        "source": "a.csv",
        "rows": {
            "total": 11,
            "files": [{"field": "file", "file": "a.csv", "rows": 11}],
            "skipped": {"no label": counted(1, (12,))},
        },
        "cleaning": {"steps": ["html"], "changed": {"html": 1}, "replaced": {}, "emptied": []},
        "targets": {
            "labels": {"<b>x</b>": {"rows": 9, "share": 0.9}, "y\x1b[31m": {"rows": 1, "share": 0.1}},
            "imbalance": 9.0,
        },
        "lengths": {"unit": "tokens", "counted_by": "me", "rows": 10, "of": 11, "parts": {"text": part}},
        "texts": {
            "characters": {"median": 40.0, "p95": 90.0, "max": 300},
            **ODD,
            "rows": 11,
            "of": 11,
            "would_change": {"unicode": counted(1, (4,))},
            "personal": {"email": {"pieces": 2, **counted(1, (5,))}},
        },
        "duplicates": counted(3, (7, 1), (8, 2), (9, 3)),
        "conflicts": {"inputs": 1, **counted(2, (1,), (6,))},
        "leaks": {"train_in_test": counted(1, (2, 3))},
        "near_duplicates": {"similarity": 0.7, "found": {"train": counted(1, (10, 4))}},
        "splits": {
            "refused": None,
            "rows": {"train": 8, "validation": 1, "test": 2},
            "labels": {"<b>x</b>": {"train": 7, "validation": 1, "test": 1}},
        },
        "label_errors": {
            "count": 1,
            "rows": [{"file": "a.csv", "row": 3, "given": "x", "suggested": "y"}],
            "kinds": [{"given": "x", "suggested": "y", "rows": 1}],
            "judged": 5,
            "of": 11,
        },
        "languages": {"shares": {"en": 1.0}, "texts": 11, "of": 11},
        "notes": ["rensa is not installed"],
        "todo": [
            {"level": "set", "option": "data.clean", "value": "duplicates", "why": "3 rows repeat"},
            {"level": "set", "option": "finetune.max_length", "value": 32, "why": "cuts <0.1%"},
            {"level": "look", "option": None, "value": None, "why": "1 row is long"},
        ],
    }
    return made | changes


def printed(found: dict[str, Any], width: int) -> str:
    stream = io.StringIO()
    terminal.show(report(found), Console(file=stream, width=width, highlight=False))
    return stream.getvalue()


@pytest.mark.parametrize("width", [80, 120])
def test_the_terminal_shows_everything_in_its_width(width: int) -> None:
    shown = printed(document(), width)
    assert max(map(len, shown.splitlines())) <= width
    for words in ("11 rows", "7–9 as 1–3", "label x, likely y", "personal data: email", "--clean duplicates", "<0.1%"):
        assert words in shown
    assert "rensa is not installed" in shown
    assert "\x1b" not in shown


def test_the_page_is_one_file_without_network_and_escapes_names() -> None:
    page = render(report(document()))
    assert page == render(report(document()))
    assert "http://" not in page.replace("http://www.w3.org", "")
    assert "https://" not in page
    assert "<script" not in page
    assert "&lt;b&gt;x&lt;/b&gt;" in page
    assert "<b>x</b>" not in page
    assert "\x1b" not in page
    assert page.count("<svg") == 2
    assert "--clean duplicates" in page
    assert "lengths: 10 of 11 rows" in page


def test_both_pages_have_one_style() -> None:
    templates = resources.files("edgeft.report") / "templates"
    shared, *pages = (
        (templates / name).read_text(encoding="utf-8") for name in ("style.html", "page.html", "report.html")
    )
    rules = {line for line in shared.splitlines() if line.startswith((".", "body", "h1", "table"))}
    assert all('{% include "style.html" %}' in page and not rules & set(page.splitlines()) for page in pages)
    assert shared in render(report(document()))


def test_what_is_not_rehearsed_is_said() -> None:
    assert "Not rehearsed: balance" in render(report(document()))
    assert "before balance" in printed(document(), 100)


def test_a_profile_with_nothing_to_say_renders() -> None:
    empty = document(
        duplicates=NONE,
        conflicts={"inputs": 0, **NONE},
        leaks={},
        near_duplicates={},
        splits={"refused": "no"},
        languages={},
        label_errors={},
        notes=[],
        todo=[],
        targets={},
    )
    empty["rows"]["skipped"] = {}
    empty["texts"] |= {"would_change": {}, "personal": {}}
    assert "Nothing: train" in render(report(empty))
    assert "Nothing: train" in printed(empty, 80)


def test_numbers_have_a_histogram() -> None:
    histogram = {"edges": [0.0, 1.0, 2.0], "counts": [1, 2], "beyond": 0}
    targets = {"numbers": {"min": 0.0, "median": 1.0, "max": 2.0}, "different": 3, "histogram": histogram}
    assert render(report(document(targets=targets))).count("<svg") == 3


def test_many_labels_are_shortened() -> None:
    labels = [(f"label {n}", n, n / 100) for n in range(50)]
    shown, left_out = profile_facts.most(labels, 3)
    assert [name for name, _, _ in shown] == ["label 47", "label 48", "label 49"]
    assert left_out == 47


def test_rows_of_another_file_are_named_with_it() -> None:
    found = document()
    found["rows"]["files"].append({"field": "test_file", "file": "folder/b.csv", "rows": 3})
    found["conflicts"] = {"inputs": 1, **counted(12, (4,), (5,), (9,), file="folder/b.csv")}
    words = {finding.name: finding.where for finding in profile_facts.findings(found)}
    assert words["conflicts (one text, several answers)"] == "b.csv 4–5, b.csv 9 and 9 more"


def test_what_a_terminal_would_act_on_is_escaped() -> None:
    assert visible("é \x1b[2J\u202e\u200b") == "é \\x1b[2J\\u202e\\u200b"


def test_options_are_shown_as_they_are_typed() -> None:
    assert profile_facts.flag("data.clean", "html") == "--clean html"
    assert profile_facts.flag("data.anonymise", True) == "--anonymise"
    assert profile_facts.flag("finetune.max_length", 64) == "pipeline --set finetune.max_length=64"
    assert profile_facts.flag(None, None) == ""


def test_shares_are_short() -> None:
    assert [profile_facts.cut(share) for share in (0, 0.0004, 0.042, 0.42)] == ["0", "<0.1%", "4.2%", "42%"]


def test_a_preview_shows_the_difference() -> None:
    before, after = cleaning_preview.around("x" * 100 + "cafÃ© and on", "x" * 100 + "café and on")
    assert before.plain == "…" + "x" * 37 + "cafÃ© and on"
    assert after.plain == "…" + "x" * 37 + "café and on"
    stream = io.StringIO()
    change = {"file": "a.csv", "row": 3, "steps": ["control"], "before": "a\x1bb", "after": "ab"}
    cleaning_preview.show([change], 2, Console(file=stream, width=80, highlight=False))
    assert "- a\\x1bb" in stream.getvalue()
    assert "1 rows change, no more" not in stream.getvalue()
    assert "1 row changes, no more" in stream.getvalue()

"""Every page says what it may load, which is nothing, and needs nothing else."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from edgeft.report import page

FOLDER = Path(page.__file__).parent / "templates"
PAGES = sorted(file.name for file in FOLDER.glob("*.html") if "<html" in file.read_text(encoding="utf-8"))


def test_there_are_pages() -> None:
    assert {"page.html", "report.html"} <= set(PAGES)


@pytest.mark.parametrize("name", PAGES)
def test_the_policy_stands_before_all_that_it_governs(name: str) -> None:
    source = (FOLDER / name).read_text(encoding="utf-8")
    assert '<head>\n{% include "head.html" %}\n<title>' in source
    head = (FOLDER / "head.html").read_text(encoding="utf-8")
    policy = re.search(r'http-equiv="Content-Security-Policy" content="([^"]+)"', head)
    assert policy
    rules = dict(rule.strip().split(" ", 1) for rule in policy[1].split(";"))
    assert rules == {
        "default-src": "'none'",
        "style-src": "'unsafe-inline'",
        "img-src": "data:",
        "base-uri": "'none'",
        "form-action": "'none'",
    }


@pytest.mark.parametrize("name", [*PAGES, "style.html", "scrutiny.html"])
def test_a_page_needs_no_script_and_no_network(name: str) -> None:
    source = (FOLDER / name).read_text(encoding="utf-8")
    assert not re.search(r"<script|<iframe|<object|<embed|<link|<form|\son\w+=|javascript:|@import|url\(", source, re.I)
    assert not re.search(r"(src|href)=\"(?!#|\{\{)", source)

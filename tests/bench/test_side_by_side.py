"""The command behind `make bench`: parts of documents, peers that can't be had."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
import side_by_side

from edgeft.bench.harness.subject import Subject

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

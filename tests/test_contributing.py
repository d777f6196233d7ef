"""CONTRIBUTING.md names files that are there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PATH = re.compile(r"`((?:[\w.]+/)*[\w.]+(?:\.(?:py|c|md|toml)|/))`")
NAMED = sorted(set(PATH.findall((ROOT / "CONTRIBUTING.md").read_text())))
FILES = [
    path.relative_to(ROOT).as_posix()
    for folder in ("edgeft", "tests", "docs")
    for path in (ROOT / folder).rglob("*")
    if "__pycache__" not in path.parts
]


@pytest.mark.parametrize("name", NAMED)
def test_a_named_file_is_there(name: str) -> None:
    wanted = name.rstrip("/")
    assert (ROOT / wanted).exists() or any(file.endswith(f"/{wanted}") for file in FILES)


def test_files_are_named() -> None:
    assert len(NAMED) > 20

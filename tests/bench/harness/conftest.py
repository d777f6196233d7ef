"""What the harness's tests share."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from edgeft.bench.harness.subjects.subject import Subject

FILE = Path(__file__).parent / "subjects.py"


@pytest.fixture
def subject() -> Callable[..., Subject]:
    """Makes a subject of a function of subjects.py."""

    def made(function: str, name: str = "it", **options: Any) -> Subject:
        return Subject(name=name, kind="callable", place="x", opener=f"{FILE}:{function}", options=options)

    return made

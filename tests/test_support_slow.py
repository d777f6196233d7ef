"""Slow tests are found by names that exist."""

from __future__ import annotations

import importlib
from pathlib import Path

import pytest
from support_slow import COMMANDS, PARTS, WHOLES

import edgeft
from edgeft.cli import app

PACKAGE = Path(edgeft.__file__).parent


@pytest.mark.parametrize("name", [*PARTS, *WHOLES])
def test_what_takes_long_is_still_called_so(name: str) -> None:
    module, _, function = name.rpartition(".")
    files = sorted(PACKAGE.rglob(f"{module}.py"))
    modules = [".".join(file.relative_to(PACKAGE.parent).with_suffix("").parts) for file in files]
    assert any(callable(getattr(importlib.import_module(path), function, None)) for path in modules)


def test_commands_that_take_long_are_still_called_so() -> None:
    assert set(app) >= COMMANDS

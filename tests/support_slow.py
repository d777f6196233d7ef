"""Which tests are slow: those that reach a training, a capture or a process by their fixtures and helpers.

Nobody keeps a list. What a test and its fixtures name is looked up, through the helpers in tests/; a stage says itself
that torch decides what it writes.
"""

from __future__ import annotations

import dis
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import CodeType, FunctionType, ModuleType
from typing import Any

import pytest
from support_processes import Forked

from edgeft.stage import Stage

TESTS = Path(__file__).parent
PROCESSES = (subprocess.Popen, subprocess.run)
# What trains, captures or runs many stages without being a stage.
PARTS, WHOLES = ("capture", "capture_candidates", "captures"), ("compress", "run_pipeline", "search")


def slowness(item: pytest.Item) -> int:
    """How much a test or one of its fixtures does: 0 nothing slow; 1 a training, a capture or a process; 2 many."""
    if not isinstance(item, pytest.Function):
        return 0
    fixtures = [one.func for several in item._fixtureinfo.name2fixturedefs.values() for one in several]
    return max(map(_work_of, (item.function, *fixtures)))


_known: dict[FunctionType, int] = {}


def _work_of(function: Any) -> int:
    """How much a function does, with the helpers that it calls."""
    function = getattr(function, "__wrapped__", function)
    if not isinstance(function, FunctionType):
        return 0
    if function not in _known:
        _known[function] = 0  # where it calls itself
        values = list(_named(function))
        helpers = [helper for value in values for helper in _helpers(value)]
        _known[function] = max([0, *map(_work, values), *map(_work_of, helpers)])
    return _known[function]


def _named(function: FunctionType) -> Iterator[Any]:
    """What a function's code names: globals, modules that it imports, and attributes of modules."""
    instructions = list(_instructions(function.__code__))
    values = [function.__globals__.get(one.argval) for one in instructions if one.opname == "LOAD_GLOBAL"]
    values += [sys.modules.get(one.argval) for one in instructions if one.opname == "IMPORT_NAME"]
    yield from values
    attributes = {one.argval for one in instructions if one.opname in ("LOAD_ATTR", "LOAD_METHOD", "IMPORT_FROM")}
    for module in values:
        if isinstance(module, ModuleType):
            yield from (vars(module).get(name) for name in attributes)


def _instructions(code: CodeType) -> Iterator[dis.Instruction]:
    yield from dis.get_instructions(code)
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _instructions(constant)


def _work(value: Any) -> int:
    """How much it is to call something."""
    if isinstance(value, Stage):
        return int("torch" in value.libraries)
    if isinstance(value, FunctionType) and value.__module__.startswith("edgeft."):
        return 2 * (value.__name__ in WHOLES) or int(value.__name__ in PARTS)
    return 2 * (value is Forked) or int(any(value is one for one in PROCESSES))


def _helpers(value: Any) -> list[Any]:
    """The functions of something that is defined in tests/."""
    value = getattr(value, "__wrapped__", value)
    file = getattr(sys.modules.get(getattr(value, "__module__", "")), "__file__", None)
    if file is None or TESTS not in Path(file).parents:
        return []
    return list(vars(value).values()) if isinstance(value, type) else [value]

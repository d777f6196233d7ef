"""Which tests are slow: those that reach a training, a capture or a process by their fixtures and helpers.

Nobody keeps a list. What a test and its fixtures name is looked up, through the helpers in tests/ and benchmarks/; a
stage says itself that torch decides what it writes, and a module of edgeft shows whether it starts processes. A test
that runs a command in this process names it in words.
"""

from __future__ import annotations

import dis
import functools
import multiprocessing
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import CodeType, FunctionType, ModuleType
from typing import Any

import pytest
from support_processes import Forked

from edgeft.stage import Stage

HELPERS = (Path(__file__).parent, Path(__file__).parents[1] / "benchmarks")
PROCESSES = (subprocess.Popen, subprocess.run, multiprocessing.get_context, os.fork)
# What trains, captures, compares thousands of texts or runs many stages without being a stage, by module.
PARTS = ("capture.capture", "capture.captures", "candidates.capture_candidates", "single_file.write")
WHOLES = ("run.compress", "run.run_pipeline", "run.search")
# Commands that train, capture or start processes.
COMMANDS = {"bench", "compress", "distill", "export", "finetune", "latency", "pipeline", "prune", "search", "update"}


def slowness(item: pytest.Item) -> int:
    """How much a test or one of its fixtures does: 0 nothing slow; 1 a training, a capture or a process; 2 many."""
    if not isinstance(item, pytest.Function):
        return 0
    fixtures = [one.func for several in item._fixtureinfo.name2fixturedefs.values() for one in several]
    runs_command = "run" in item.fixturenames and bool(COMMANDS & set(_words(item.function.__code__)))
    return max(int(runs_command), *map(_work_of, (item.function, *fixtures)))


def _words(constant: Any) -> Iterator[str]:
    """The strings in a function's code, also those in tuples."""
    if isinstance(constant, str):
        yield constant
    for inside in (
        constant.co_consts if isinstance(constant, CodeType) else constant if isinstance(constant, tuple) else ()
    ):
        yield from _words(inside)


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
    module, name = getattr(value, "__module__", None) or "", getattr(value, "__name__", "")
    if module.startswith("edgeft.") and isinstance(value, FunctionType | type):
        known = f"{module.rpartition('.')[2]}.{name}"
        return 2 * (known in WHOLES) or int(known in PARTS or _starts_a_process(value))
    return 2 * (value is Forked) or int(any(value is one for one in PROCESSES))


@functools.cache
def _starts_a_process(value: FunctionType | type) -> bool:
    """Whether something of edgeft, with what it calls of its own module, starts a process."""
    known: set[Any] = set()
    waiting: list[Any] = [value]
    while waiting:
        part = waiting.pop()
        if part in known or getattr(part, "__module__", None) != value.__module__:
            continue
        known.add(part)
        for function in vars(part).values() if isinstance(part, type) else [part]:
            if isinstance(function, FunctionType):
                values = [named for named in _named(function) if callable(named)]
                if any(named is process for named in values for process in PROCESSES):
                    return True
                waiting += [named for named in values if isinstance(named, FunctionType | type)]
    return False


def _helpers(value: Any) -> list[Any]:
    """The functions of something that is defined in tests/ or benchmarks/."""
    value = getattr(value, "__wrapped__", value)
    file = getattr(sys.modules.get(getattr(value, "__module__", "")), "__file__", None)
    if file is None or not set(HELPERS) & set(Path(file).parents):
        return []
    return list(vars(value).values()) if isinstance(value, type) else [value]

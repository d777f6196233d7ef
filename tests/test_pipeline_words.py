"""What the commands of a pipeline say: the stages in their help, threads, and the packages that an extra brings."""

from __future__ import annotations

import io
import re
import tomllib
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from rich.console import Console

from edgeft.pipeline import summary
from edgeft.pipeline.preflight import modules_needed
from edgeft.pipeline.shipping import budget_check
from edgeft.pipeline.stages import MODULES
from edgeft.recipe import Recipe

ROOT = Path(__file__).resolve().parents[1]
PACKAGE_OF = {"sklearn": "scikit-learn", "torch_pruning": "torch-pruning"}
OF_UPDATES = {"update", "update_artifact"}


@pytest.mark.parametrize(("command", "missing"), [("run", OF_UPDATES), ("update", set())])
def test_the_help_of_until_names_every_stage(command: str, missing: set[str]) -> None:
    text = (ROOT / "edgeft" / "cli" / f"{command}.py").read_text(encoding="utf-8")
    listed = re.search(r"until: the last stage to run: (.*?)[;]", text, re.DOTALL)
    assert listed is not None
    assert set(re.findall(r"[a-z_]+", listed[1])) - {"or"} == {*MODULES, "artifact"} - missing


def test_train_brings_what_a_run_requires_before_it_starts() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    brought = {re.split(r"[<>=]", line)[0] for line in project["optional-dependencies"]["train"]}
    needed = {PACKAGE_OF.get(module, module) for module in modules_needed(Recipe(), {*MODULES, "artifact"})}
    assert {"jinja2", "matplotlib", "torch-pruning"} < needed
    # The runtime is a choice: [cpu] and [gpu] provide the same module, so [train] can bring neither.
    assert needed - brought == {"onnxruntime"}


@pytest.mark.parametrize(("threads", "words"), [(1, "(1 thread)"), (2, "(2 threads)")])
def test_threads_are_counted(threads: int, words: str) -> None:
    def stage(**metrics: Any) -> Any:
        return SimpleNamespace(metrics=metrics, seconds=1.0, peak_memory_bytes=1000)

    results = {
        "bench": stage(latency={"p50_ms": 1.0, "p99_ms": 2.0}, threads=threads),
        "artifact": stage(bytes=1000),
        "calibrate": stage(),
    }
    shown = io.StringIO()
    summary._print_headline(results, Console(file=shown, width=200))
    assert words in shown.getvalue()


def test_a_report_shows_each_limit_with_what_was_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(budget_check, "measure_quantities", lambda results: {"p99": 3.2, "size": 2.1e6, "drop": 0.25})
    chosen = Recipe(budget="p99<=4ms,size<=3MB,drop<=1pt")
    assert budget_check.budget_lines(chosen, {}, {"p99": [3.9, 4.1, 3.8]}) == [
        "p99<=4ms: p99 3.9, 4.1, 3.8 ms in three processes; the budget is 4 ms",
        "size<=3MB: measured 2.1MB",
        "drop<=1pt: measured 0.25pt",
    ]
    assert budget_check.budget_lines(Recipe(), {}, {}) == []

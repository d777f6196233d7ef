"""Whether an artifact holds the budget of its recipe, and what was measured."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from edgeft.errors import GateError
from edgeft.files import write_json
from edgeft.pipeline import gates
from edgeft.pipeline.bench_stage import shipped
from edgeft.pipeline.shipping import budget_latency
from edgeft.progress import say
from edgeft.recipe import Recipe, budget
from edgeft.recipe.budget import Limit
from edgeft.stage_folder import StageResult

BUDGET = "budget.json"  # in the run folder: that the artifact holds its budget, and what was measured

Results = Mapping[str, StageResult]


def measure_quantities(results: Results) -> dict[str, float]:
    """The measured quantities that a budget can limit."""
    latency, size = results["bench"].metrics["latency"], results["package"].metrics["bytes"]
    lead, _ = gates.measures(results)
    drop = 100 * (results["finetune"].metrics["validation"][lead] - shipped(results)["validation"][lead])
    quantiles = {name: latency[f"{name}_ms"] for name in ("p50", "p90", "p99")}
    return {**quantiles, "size": float(size), "drop": drop}


def check_budget(chosen: Recipe, results: Results, run_dir: Path) -> None:
    """Refuse to ship an artifact that exceeds the budget; an artifact of an earlier run stays, and the error names it.

    If the budget holds, its measurements are stored in budget.json and not repeated. If not, nothing is stored, so that
    the same command measures the latencies again.

    Raises:
        GateError: each exceeded limit with both numbers.
    """
    file, limits = run_dir / BUDGET, budget.parse(chosen.budget or "")
    decided_for = {"budget": chosen.budget, "bench": results["bench"].key}
    if limits and read_budget(run_dir).get("decided_for") == decided_for:
        return
    file.unlink(missing_ok=True)
    if not limits:
        return
    bench, folders = results["bench"].metrics, (run_dir / "package", run_dir / "data")
    seen = budget_latency.settle(limits, bench, *folders, chosen.bench)
    problems = broken_limits(limits, {**measure_quantities(results), **budget_latency.medians(seen)}, seen)
    if problems:
        earlier = run_dir / "artifact"
        old = f" ({earlier} is that of an earlier run)" if earlier.exists() else ""
        again = "; the same command measures them anew" if seen else ""
        raise GateError(f"budget: {'; '.join(problems)}; no artifact was written{old}, the stages are kept{again}")
    lines = [budget_latency.describe(limit, seen[limit.quantity]) for limit in limits if limit.quantity in seen]
    for line in lines:
        say(f"budget: {line}")
    write_json(file, {"decided_for": decided_for, "seen_ms": seen, "lines": lines})


def broken_limits(limits: Sequence[Limit], figures: Mapping[str, float], seen: budget_latency.Seen) -> list[str]:
    """One line for each exceeded limit with the measured value, or with one for each process if there were several."""
    lines = []
    for limit in limits:
        if problems := budget.broken((limit,), figures):
            again = seen.get(limit.quantity)
            lines.append(f"{limit.text}: {budget_latency.describe(limit, again)}" if again else problems[0])
    return lines


def read_budget(run_dir: Path) -> dict[str, Any]:
    """The measurements that `check_budget` stored; empty if there are none."""
    try:
        return msgspec.json.decode((run_dir / BUDGET).read_bytes(), type=dict[str, Any])
    except (FileNotFoundError, msgspec.DecodeError, UnicodeDecodeError):
        return {}


def budget_lines(chosen: Recipe, results: Results, seen: budget_latency.Seen) -> list[str]:
    """One line for each limit of the recipe with the measured value, or one for each process if measured again."""
    limits = budget.parse(chosen.budget or "")
    figures = measure_quantities(results) if limits else {}
    return [
        f"{limit.text}: {budget_latency.describe(limit, seen[limit.quantity])}"
        if limit.quantity in seen
        else budget.describe(limit, figures[limit.quantity])
        for limit in limits
    ]

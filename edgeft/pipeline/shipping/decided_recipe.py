"""The recipe with what a run decided written out, and the reasons."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from edgeft import recipe
from edgeft.compress.prune import goals
from edgeft.recipe import PruneConfig, Recipe
from edgeft.stage_folder import StageResult

Results = Mapping[str, StageResult]


def decided_recipe(chosen: Recipe, results: Results) -> Recipe:
    """The recipe with the run's decisions written out, so that repeating it gives the same bytes."""
    export = dataclasses.replace(
        chosen.export,
        precision=results["export"].metrics["precision"],
        float_layers=results["export"].metrics["quantization"]["float_layers"],
        smoothing=results["export"].metrics["quantization"]["smoothing"],
    )
    return dataclasses.replace(
        finetuned_recipe(chosen, results), export=export, prune=reached_pruning(chosen.prune, results)
    )


def reached_pruning(chosen: PruneConfig, results: Results) -> PruneConfig:
    """The pruning options, with the ratios that a limit on parameters or milliseconds came to."""
    candidate = results["prune"].metrics["kept"] if "prune" in results else None
    if candidate is None or not goals.has_goal(chosen):
        return chosen
    shares = {name: results["prune"].metrics["tried"][candidate][name] for name in ("head_ratio", "channel_ratio")}
    return dataclasses.replace(chosen, **shares, max_parameters=None, max_latency_ms=None, latency_table=None)


def finetuned_recipe(chosen: Recipe, results: Results) -> Recipe:
    """The recipe with what fine-tuning decided."""
    values = {option: decision["value"] for option, decision in _finetune_decisions(results).items()}
    return dataclasses.replace(chosen, finetune=dataclasses.replace(chosen.finetune, **values))


def _finetune_decisions(results: Results) -> dict[str, dict[str, Any]]:
    """What fine-tuning decided: option -> `value` and `reason`."""
    decisions: dict[str, dict[str, Any]] = results["finetune"].metrics["decided"] if "finetune" in results else {}
    return decisions


def decided_yaml(chosen: Recipe, results: Results) -> str:
    """The decided recipe as YAML, the reasons beside the values."""
    return recipe.to_yaml(decided_recipe(chosen, results), _reasons(results))


def finetuned_yaml(chosen: Recipe, results: Results) -> str:
    """The recipe of a run without an artifact as YAML, with what fine-tuning decided and why."""
    return recipe.to_yaml(finetuned_recipe(chosen, results), _reasons(results))


def _reasons(results: Results) -> dict[str, str]:
    return {f"finetune.{option}": decision["reason"] for option, decision in _finetune_decisions(results).items()}

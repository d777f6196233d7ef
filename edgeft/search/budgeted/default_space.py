"""The space of a budgeted search: the user's own, or the one for a teacher."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

from edgeft.compress.prune import goals
from edgeft.data.formats import form_of
from edgeft.errors import RecipeError
from edgeft.export.quantize import rounding
from edgeft.models import model_facts, model_folder, shapes
from edgeft.pipeline.stages import in_run
from edgeft.recipe import Recipe
from edgeft.search import space as spaces
from edgeft.search.engine import value_at
from edgeft.search.space import Choices, Range, Scope, Space
from edgeft.train import tasks

GATES = "it is a gate, which no search may lower"
BUDGET = "the budget decides what may be lost"
SCOPE = Scope(
    ("distill", "prune", "export"),
    {
        **spaces.NEVER,
        "enabled": "a trial that cuts nothing leaves the stage out by itself",
        "max_drop_points": BUDGET,
        "max_teacher_drop_points": BUDGET,
        "min_agreement": GATES,
        "min_speedup": GATES,
        "parity_rows": GATES,
        "parity_tolerance": GATES,
        "latency_queries": GATES,
    },
    "distill.num_layers",
)
DEPTHS = (1, 2, 3, 4, 6, 8, 12, 16, 24)
SHARES = (0.0, 0.25, 0.5, 0.75)
VOCABULARIES = (16000, 8000, 6000)


def read_space(text: str | None, base: Recipe, run: Path) -> Space:
    """The user's space, of a file or as text, or the default one.

    Raises:
        RecipeError: every problem, one line each.
    """
    if text is None:
        return default_space(base, in_run(run)["finetune"])
    if ":" in text and not Path(text).is_file():
        return include_recipe(base, spaces.parse(text, "--space", base, SCOPE))
    return include_recipe(base, spaces.read(Path(text), base, SCOPE))


def default_space(base: Recipe, teacher: Path) -> dict[str, Choices | Range]:
    """Layers, shares of heads and channels and whether layers compete, vocabulary and bits, as far as teacher, rows and
    precision allow.
    """
    facts, distills = model_facts.read_facts(str(teacher)), form_of(base).can_be_distilled
    precision = base.export.precision
    rounded = [option for option, precisions in rounding.OPTIONS.items() if precision in precisions]
    values: dict[str, tuple[Any, ...]] = {f"export.{option}": (getattr(base.export, option), 4) for option in rounded}
    if distills and base.distill.enabled and base.distill.student is None and base.distill.layers is None:
        values["distill.num_layers"] = tuple(depth for depth in DEPTHS if depth < facts.layers)
    student = model_facts.read_facts(base.distill.student).kind if base.distill.student else facts.kind
    if distills and shapes.prunable(student) and not goals.has_goal(base.prune):
        tokens = len(model_folder.load_tokenizer(base.distill.student or str(teacher)))
        values |= {"prune.head_ratio": SHARES, "prune.channel_ratio": SHARES}
        values["prune.across_layers"] = (False,) if base.prune.layer_ratio else (False, True)
        if not tasks.task_class(form_of(base).name).of_tokens:
            values["prune.vocabulary_size"] = (None, *(size for size in VOCABULARIES if size < tokens))
    space: dict[str, Choices | Range] = {path: Choices(tuple(dict.fromkeys(values[path]))) for path in sorted(values)}
    return {path: options for path, options in include_recipe(base, space).items() if len(values_of(options)) > 1}


def values_of(options: Choices | Range) -> tuple[Any, ...]:
    """The choices; a range has none."""
    return options.values if isinstance(options, Choices) else (options.low, options.high)


def include_recipe(base: Recipe, space: Space) -> dict[str, Choices | Range]:
    """The space with the recipe's own values among the choices: the search starts there.

    Raises:
        RecipeError: an option that does nothing, or a range without the recipe's own value.
    """
    check_options_count(base, space)
    included: dict[str, Choices | Range] = {}
    for path, options in space.items():
        own = value_at(base, path)
        if isinstance(options, Range) and not options.contains(own):
            raise RecipeError(
                f"--space: {path}: the recipe's own {own!r}, where the search starts, is not in the range; "
                f"widen it, or start elsewhere with --set {path}=VALUE"
            )
        missing = isinstance(options, Choices) and not options.contains(own)
        included[path] = Choices((*values_of(options), own)) if missing else options
    return included


def check_options_count(base: Recipe, space: Space) -> None:
    """Whether every option of the space does something.

    Raises:
        RecipeError: names the first that doesn't.
    """
    for path in space:
        if path.startswith("distill.") and not base.distill.enabled:
            raise RecipeError(f"--space: {path}: the recipe doesn't distill; take it out")
        if path.startswith("prune.") and not form_of(base).can_be_distilled:
            raise RecipeError(f"--space: {path}: pruning takes no {form_of(base).name} rows; take it out")
        if path.startswith("prune.vocabulary") and tasks.task_class(form_of(base).name).of_tokens:
            raise RecipeError(f"--space: {path}: {form_of(base).name} rows are learnt token by token; take it out")
        option = path.removeprefix("export.")
        if option in rounding.OPTIONS and "export.precision" not in space:
            four: dict[str, Any] = {option: 4}
            rounding.check(dataclasses.replace(base.export, **four))
        for named in ("layers", "student"):
            if path == "distill.num_layers" and getattr(base.distill, named) is not None:
                raise RecipeError(
                    f"--space: {path}: distill.{named} decides that in this recipe; --set distill.{named}=null"
                )

"""What a budget search has: the run, the recipe of each trial, and the space where the user names none."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from edgeft import artifact, recipe
from edgeft.compress.prune import goals, prune
from edgeft.data.formats import form_of
from edgeft.errors import RecipeError
from edgeft.export.quantize import rounding
from edgeft.models import model_folder, shapes
from edgeft.pipeline.preflight import feasible
from edgeft.recipe import PruneConfig, Recipe
from edgeft.recipe.budget import Limit
from edgeft.search import space as spaces
from edgeft.search.space import Choices, Range, Scope, Space
from edgeft.search.trial import value_at
from edgeft.train import tasks

STAGES = "stages"
POINTS = "points"
DIGITS = 8  # of the digest that names a point
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
ANY_DROP = 1000.0  # points; no metric can lose so many


@dataclass(frozen=True)
class Job:
    """A budget search.

    Attributes:
        run: the run folder whose teacher is compressed; it is read only.
        folder: of the search.
        base: the recipe of the first trial, resolved.
        limits: of the budget.
        space: what is searched.
        trials: how many there are to be.
    """

    run: Path
    folder: Path
    base: Recipe
    limits: tuple[Limit, ...]
    space: Space
    trials: int

    @property
    def latencies(self) -> list[str]:
        """The quantiles that are to be small: those that the budget limits, the highest first; of none, p99."""
        limited = {limit.quantity for limit in self.limits}
        return [name for name in ("p99", "p90", "p50") if name in limited] or ["p99"]

    @property
    def latency(self) -> str:
        """The quantile that the sampler makes small and that is shown: the highest."""
        return self.latencies[0]

    def bound(self, quantity: str) -> float | None:
        """The tightest limit of a quantity."""
        return tightest(self.limits, quantity)

    def first(self) -> dict[str, Any]:
        """The recipe's own options, with which the search starts."""
        return {path: value_at(self.base, path) for path in self.space}

    def recipe_of(self, number: int, options: Mapping[str, Any]) -> Recipe:
        """The recipe of a trial: of the first the base itself; of the others pruning is judged by the budget alone.

        Raises:
            RecipeError: the options don't go together.
        """
        if number == 0:
            return self.base
        made = recipe.from_tree(recipe.with_settings(msgspec.to_builtins(self.base), options))
        if any(path.startswith("prune.") for path in self.space):
            judged: dict[str, Any] = {"max_drop_points": ANY_DROP, "max_teacher_drop_points": None}
            whole = not (made.prune.head_ratio or made.prune.channel_ratio or goals.aimed(made.prune))
            judged["across_layers"] = made.prune.across_layers and not whole  # nothing competes otherwise
            cut = dataclasses.replace(made.prune, enabled=cuts(made.prune), **judged)
            made = dataclasses.replace(made, prune=cut)
        if made.prune.enabled:
            goals.check(made.prune, form_of(made).name)
        return feasible(made)

    def place(self, options: Mapping[str, Any]) -> Path:
        """The run folder of a trial that is worth keeping; under another budget the same trial has the same one."""
        text = json.dumps(options, sort_keys=True)
        return self.folder / POINTS / hashlib.sha256(text.encode()).hexdigest()[:DIGITS]

    def command(self, options: Mapping[str, Any]) -> str:
        """The command that remakes a trial that is worth keeping, or finds its stages complete where they are there."""
        place = self.place(options)
        return shlex.join(["edgeft", "pipeline", str(place / artifact.RECIPE), "--run-dir", str(place)])


def tightest(limits: Sequence[Limit], quantity: str) -> float | None:
    """The tightest limit of a quantity; None: it has none."""
    return min((limit.bound for limit in limits if limit.quantity == quantity), default=None)


def cuts(config: PruneConfig) -> bool:
    """Whether pruning takes anything away."""
    shares = any(getattr(config, name) for name in prune.RATIOS)
    return shares or goals.aimed(config) or config.vocabulary_size is not None or config.vocabulary_min_count > 0


def without_idle(base: Recipe) -> Recipe:
    """The recipe, the shares of a pruning that is off written as the nothing that they are."""
    if base.prune.enabled:
        return base
    nothing: dict[str, Any] = {**dict.fromkeys(prune.RATIOS, 0.0), "vocabulary_size": None, "vocabulary_min_count": 0}
    return dataclasses.replace(base, prune=dataclasses.replace(base.prune, **nothing))


def default_space(base: Recipe, teacher: Path) -> dict[str, Choices | Range]:
    """Layers, shares of heads and channels and whether layers compete, vocabulary and bits, as far as teacher, rows and
    precision allow.
    """
    facts, distills = model_folder.facts(str(teacher)), form_of(base).can_be_distilled
    precision = base.export.precision
    read = [option for option, precisions in rounding.OPTIONS.items() if precision in precisions]
    found: dict[str, tuple[Any, ...]] = {f"export.{option}": (getattr(base.export, option), 4) for option in read}
    if distills and base.distill.enabled and base.distill.student is None and base.distill.layers is None:
        found["distill.num_layers"] = tuple(depth for depth in DEPTHS if depth < facts.layers)
    student = model_folder.facts(base.distill.student).kind if base.distill.student else facts.kind
    if distills and shapes.prunable(student) and not goals.aimed(base.prune):
        tokens = len(model_folder.load_tokenizer(base.distill.student or str(teacher)))
        found |= {"prune.head_ratio": SHARES, "prune.channel_ratio": SHARES}
        found["prune.across_layers"] = (False,) if base.prune.layer_ratio else (False, True)
        if not tasks.class_of(form_of(base).name).of_tokens:
            found["prune.vocabulary_size"] = (None, *(size for size in VOCABULARIES if size < tokens))
    space: dict[str, Choices | Range] = {path: Choices(tuple(dict.fromkeys(found[path]))) for path in sorted(found)}
    return {path: one for path, one in with_own(base, space).items() if len(values_of(one)) > 1}


def values_of(options: Choices | Range) -> tuple[Any, ...]:
    """The choices; a range has none."""
    return options.values if isinstance(options, Choices) else (options.low, options.high)


def with_own(base: Recipe, space: Space) -> dict[str, Choices | Range]:
    """The space with the recipe's own values among the choices: the search starts there.

    Raises:
        RecipeError: an option that does nothing, or a range without the recipe's own value.
    """
    check_read(base, space)
    made: dict[str, Choices | Range] = {}
    for path, options in space.items():
        own = value_at(base, path)
        if isinstance(options, Range) and not options.contains(own):
            raise RecipeError(
                f"--space: {path}: the recipe's own {own!r}, where the search starts, is not in the range; "
                f"widen it, or start elsewhere with --set {path}=VALUE"
            )
        missing = isinstance(options, Choices) and not options.contains(own)
        made[path] = Choices((*values_of(options), own)) if missing else options
    return made


def check_read(base: Recipe, space: Space) -> None:
    """Whether every option of the space does something.

    Raises:
        RecipeError: names the first that doesn't.
    """
    for path in space:
        if path.startswith("distill.") and not base.distill.enabled:
            raise RecipeError(f"--space: {path}: the recipe doesn't distill; take it out")
        if path.startswith("prune.") and not form_of(base).can_be_distilled:
            raise RecipeError(f"--space: {path}: pruning takes no {form_of(base).name} rows; take it out")
        if path.startswith("prune.vocabulary") and tasks.class_of(form_of(base).name).of_tokens:
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

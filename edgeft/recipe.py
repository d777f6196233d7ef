"""The recipe: every option of every stage, declared once.

The YAML keys, `--set stage.field=value`, the command-line flags, the JSON Schema and docs/recipe.md all come from
these dataclasses.
"""

from __future__ import annotations

import dataclasses
import difflib
import inspect
import math
import types
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import (
    Annotated,
    Any,
    Literal,
    TypeVar,
    Union,
    cast,
    dataclass_transform,
    get_args,
    get_origin,
    get_type_hints,
)

import msgspec
import yaml

from edgeft.errors import RecipeError

C = TypeVar("C")
# Bounds of a field that may be unset stand inside the union, where msgspec wants them.
Rows = Annotated[int, msgspec.Meta(ge=2)]
Rate = Annotated[float, msgspec.Meta(gt=0)]
Seed = Annotated[int, msgspec.Meta(ge=0, lt=2**32)]  # what NumPy's global generator takes


def _option(
    help: str,
    unit: str | None = None,
    ge: float | None = None,
    gt: float | None = None,
    le: float | None = None,
    lt: float | None = None,
) -> msgspec.Meta:
    """The help, unit and bounds of one field."""
    bounds: dict[str, Any] = {"ge": ge, "gt": gt, "le": le, "lt": lt}
    return msgspec.Meta(description=help, extra_json_schema={"unit": unit} if unit else None, **bounds)


@dataclass_transform(kw_only_default=True, frozen_default=True)
def _config(**defaults: object) -> Callable[[type[C]], type[C]]:
    """A frozen keyword-only dataclass whose docstring lists its options.

    Args:
        defaults: new defaults for inherited fields, so that a field stays declared once.
    """

    def wrap(cls: type[C]) -> type[C]:
        for name, default in defaults.items():
            owner = next(base for base in cls.__mro__ if name in inspect.get_annotations(base))
            cls.__annotations__[name] = inspect.get_annotations(owner)[name]
            setattr(cls, name, default)
        made = dataclass(frozen=True, kw_only=True)(cls)
        lines = [f"    {field.name}: {field.help}" for field in options(made)]
        made.__doc__ = f"{cls.__doc__}\n\nAttributes:\n" + "\n".join(lines)
        return made

    return wrap


@dataclass(frozen=True)
class Option:
    """One field of a config as the outside sees it."""

    name: str
    type: Any
    default: Any
    help: str
    unit: str | None


def options(config: type) -> Iterator[Option]:
    """The options of a config class, in the order of their declaration."""
    hints = get_type_hints(config, include_extras=True)
    for field in dataclasses.fields(config):
        meta = next((m for m in getattr(hints[field.name], "__metadata__", ()) if isinstance(m, msgspec.Meta)), None)
        help = (meta.description if meta else None) or ""
        unit = ((meta.extra_json_schema if meta else None) or {}).get("unit")
        default = None if field.default is dataclasses.MISSING else field.default
        yield Option(field.name, hints[field.name], default, f"{help} [{unit}]" if unit else help, unit)


@_config()
class StageConfig:
    """What every stage has."""

    seed: Annotated[Seed | None, _option("random seed; unset: the recipe's own")] = None


@_config()
class TrainingConfig(StageConfig):
    """What every stage that trains has."""

    epochs: Annotated[float, _option("passes over the training rows", gt=0)] = 3.0
    batch_size: Annotated[int, _option("rows in one forward pass", "rows", ge=1)] = 16
    gradient_accumulation: Annotated[int, _option("forward passes before an optimizer step", ge=1)] = 1
    learning_rate: Annotated[Rate | None, _option("peak learning rate of AdamW; unset: by method")] = None
    warmup_fraction: Annotated[float, _option("share of the steps with a rising rate", ge=0, le=1)] = 0.1
    weight_decay: Annotated[float, _option("AdamW's decay of matrices (not of biases and norms)", ge=0)] = 0.01
    max_grad_norm: Annotated[float, _option("gradients are clipped to this norm", gt=0)] = 1.0
    evaluations_per_epoch: Annotated[int, _option("looks at the validation split in each epoch", ge=1)] = 2
    early_stopping_patience: Annotated[int, _option("looks without improvement before stopping; 0: never", ge=0)] = 4
    checkpoint_steps: Annotated[int, _option("optimizer steps between resumable checkpoints", "steps", ge=1)] = 50
    device: Annotated[Literal["auto", "cpu", "cuda"], _option("where to train; auto: a GPU where there is one")] = (
        "auto"
    )


@_config()
class DataConfig(StageConfig):
    """Reading, checking and splitting the labelled file."""

    file: Annotated[
        str | None,
        _option("labelled rows: CSV, TSV, JSONL or Parquet file, Hugging Face dataset id or folder, or demo:NAME"),
    ] = None
    text_column: Annotated[str, _option("column with the text")] = "text"
    label_column: Annotated[str, _option("column with the label")] = "label"
    validation_file: Annotated[str | None, _option("your own validation rows instead of a split")] = None
    test_file: Annotated[str | None, _option("your own test rows instead of a split")] = None
    validation_fraction: Annotated[float, _option("share of each label's rows for validation", gt=0, lt=1)] = 0.1
    test_fraction: Annotated[float, _option("share of each label's rows for the test", gt=0, lt=1)] = 0.1
    max_train_rows: Annotated[
        Rows | None,
        _option("at most so many labelled training rows; the rest serves as unlabelled text", "rows"),
    ] = None
    max_eval_rows: Annotated[Rows | None, _option("at most so many rows in each of validation and test", "rows")] = None


@_config()
class BaselineConfig(StageConfig):
    """TF-IDF with logistic regression on the same rows."""

    enabled: Annotated[bool, _option("whether to train the baseline")] = True
    max_features: Annotated[int, _option("words and word pairs kept", ge=10)] = 50_000


@_config()
class FinetuneConfig(TrainingConfig):
    """Fine-tuning the teacher."""

    model: Annotated[str | None, _option("model folder, Hugging Face id, or demo:NAME")] = None
    method: Annotated[Literal["full", "lora", "qlora"], _option("which weights train, and how the rest is kept")] = (
        "lora"
    )
    max_length: Annotated[int, _option("longer texts are truncated", "tokens", ge=4)] = 128
    lora_rank: Annotated[int, _option("rank of the LoRA matrices", ge=1)] = 16
    lora_alpha: Annotated[int, _option("LoRA's scale is alpha / rank", ge=1)] = 32
    lora_dropout: Annotated[float, _option("dropout before the LoRA matrices", ge=0, lt=1)] = 0.05
    merge_tolerance: Annotated[
        float,
        _option("largest difference of logits, merged against adapter, relative to the largest logit", gt=0),
    ] = 1e-4


@_config()
class DistillationConfig(TrainingConfig):
    """What learning from a teacher has."""

    temperature: Annotated[float, _option("softens both distributions of the soft-label loss", gt=0)] = 2.0
    soft_weight: Annotated[float, _option("weight of the soft-label loss", ge=0)] = 1.0
    hard_weight: Annotated[float, _option("weight of the cross-entropy on the labels", ge=0)] = 0.5
    hidden_weight: Annotated[float, _option("weight of the cosine loss on the last hidden states", ge=0)] = 1.0
    unlabelled: Annotated[bool, _option("also learn from the training rows kept without label")] = True


@_config(epochs=4.0, learning_rate=1e-4)
class DistillConfig(DistillationConfig):
    """Distilling the teacher into a student."""

    enabled: Annotated[bool, _option("off: the teacher itself goes on")] = True
    student: Annotated[str | None, _option("checkpoint of the student; unset: layers of the teacher")] = None
    layers: Annotated[
        list[int] | None, _option("the teacher's layers that the student starts from; unset: evenly spread")
    ] = None
    num_layers: Annotated[int, _option("how many layers, where they are not named", ge=1)] = 3


@_config(epochs=1.0, learning_rate=5e-5)
class PruneConfig(DistillationConfig):
    """Pruning heads and feed-forward channels, then recovery under the teacher."""

    enabled: Annotated[bool, _option("whether to prune")] = True
    head_ratio: Annotated[float, _option("share of the attention heads removed in each layer", ge=0, lt=1)] = 0.25
    channel_ratio: Annotated[float, _option("share of the feed-forward channels removed", ge=0, lt=1)] = 0.25
    importance: Annotated[
        Literal["taylor", "magnitude", "random"], _option("what decides which heads and channels go")
    ] = "taylor"
    importance_rows: Annotated[int, _option("training rows behind the Taylor importance", "rows", ge=1)] = 256
    max_drop_points: Annotated[
        float,
        _option("a larger loss of the lead metric on validation is retried at half the ratios", "points", ge=0),
    ] = 1.5


@_config()
class ExportConfig(StageConfig):
    """Capture to ONNX, int8, and the gates between them."""

    precision: Annotated[
        Literal["auto", "int8", "fp32"], _option("auto: int8 where it is smaller, clearly faster and agrees")
    ] = "auto"
    opset: Annotated[int, _option("ONNX operator set", ge=17)] = 18
    parity_rows: Annotated[int, _option("validation rows of the parity check", "rows", ge=1)] = 256
    parity_tolerance: Annotated[float, _option("largest difference of fp32 logits from torch", gt=0)] = 1e-4
    min_agreement: Annotated[float, _option("smallest share of answers that int8 shares with fp32", gt=0, le=1)] = 0.97
    min_speedup: Annotated[
        float, _option("int8 must be so many times faster than fp32; less than this is a tie", ge=1)
    ] = 1.05
    float_layers: Annotated[
        list[str] | None,
        _option("weights kept in fp32 inside the int8 graph; unset: decided by measured sensitivity"),
    ] = None
    latency_queries: Annotated[int, _option("queries of the int8 against fp32 race", ge=10)] = 100


@_config()
class CalibrateConfig(StageConfig):
    """Temperature scaling, fitted on the validation logits of the graph that ships."""

    enabled: Annotated[bool, _option("off: temperature 1")] = True
    bins: Annotated[int, _option("equal-width bins of the expected calibration error", ge=2)] = 15


@_config()
class BenchConfig(StageConfig):
    """Measuring the artifact on this machine."""

    queries: Annotated[int, _option("timed queries for each contender", ge=10)] = 300
    warmup: Annotated[int, _option("queries before the timed ones", ge=0)] = 20
    threads: Annotated[int, _option("threads of the engine", "threads", ge=1)] = 1
    batch_size: Annotated[int, _option("texts in one throughput call", "rows", ge=1)] = 8
    against_teacher: Annotated[
        bool, _option("race the teacher in transformers.pipeline, interleaved in one process")
    ] = True


@_config()
class ReportConfig(StageConfig):
    """The HTML report."""

    mistakes: Annotated[int, _option("most confident mistakes shown with their text", ge=0)] = 20


@_config()
class Recipe:
    """From a labelled file to an artifact."""

    name: Annotated[str, _option("names the run folder, runs/NAME")] = "run"
    task: Annotated[str, _option("the ecosystem's tag of the task")] = "text-classification"
    seed: Annotated[int, _option("random seed of every stage that has none of its own", ge=0, lt=2**32)] = 0
    budget: Annotated[str | None, _option('limits of the artifact, as in "p99<=15ms,size<=30MB,drop<=1pt"')] = None
    data: DataConfig = DataConfig()
    baseline: BaselineConfig = BaselineConfig()
    finetune: FinetuneConfig = FinetuneConfig()
    distill: DistillConfig = DistillConfig()
    prune: PruneConfig = PruneConfig()
    export: ExportConfig = ExportConfig()
    calibrate: CalibrateConfig = CalibrateConfig()
    bench: BenchConfig = BenchConfig()
    report: ReportConfig = ReportConfig()


# ---------------------------------------------------------------------------------------------- reading and checking


def _is_config(hint: Any) -> bool:
    return dataclasses.is_dataclass(hint)


def _walk(cls: type, tree: Any, path: str, problems: list[str]) -> dict[str, Any]:
    """Check one mapping against one config class; problems are collected, good values are returned converted."""
    if not isinstance(tree, Mapping):
        problems.append(f"{path or 'recipe'}: expected a mapping of options, got {tree!r}")
        return {}
    hints = get_type_hints(cls, include_extras=True)
    good: dict[str, Any] = {}
    for key, value in tree.items():
        where = f"{path}.{key}" if path else str(key)
        if key not in hints:
            problems.append(f"{where}: unknown key{_nearest(str(key), hints, path)}")
        elif _is_config(hints[key]):
            good[key] = _build(hints[key], _walk(hints[key], {} if value is None else value, where, problems))
        else:
            converted = _convert(value, hints[key], where, problems)
            if converted is not _BAD:
                good[key] = converted
    return good


_BAD = object()


def _convert(value: Any, hint: Any, where: str, problems: list[str]) -> Any:
    try:
        converted = msgspec.convert(value, hint, strict=not isinstance(value, str))
        if not isinstance(converted, float) or math.isfinite(converted):
            return converted
        problems.append(f"{where}: {value} is not a finite number")
        return _BAD
    except msgspec.ValidationError as error:
        problems.append(f"{where}: {_plain(str(error))}, got {value!r}{_choices(hint)}")
        return _BAD


def _plain(message: str) -> str:
    return message.split(" - at ")[0][:1].lower() + message.split(" - at ")[0][1:]


def _choices(hint: Any) -> str:
    bare = get_args(hint)[0] if get_origin(hint) is Annotated else hint
    return f"; one of {', '.join(map(str, get_args(bare)))}" if get_origin(bare) is Literal else ""


def _nearest(key: str, hints: Mapping[str, Any], path: str) -> str:
    """`; did you mean ...`: among this config's own keys first, then among the keys of all stages."""
    everywhere = {name.rsplit(".", 1)[-1]: name for name, _ in reversed(list(leaves()))}
    close = difflib.get_close_matches(key, hints, n=1, cutoff=0.5)
    if close and key not in everywhere:
        return f"; did you mean {path + '.' if path else ''}{close[0]}?"
    close = difflib.get_close_matches(key, everywhere, n=1, cutoff=0.7)
    return f"; did you mean {everywhere[close[0]]}?" if close else f"; the keys here are {', '.join(hints)}"


def _build(cls: type[C], good: Mapping[str, Any]) -> C:
    return cls(**good)


def leaves(cls: type = Recipe, path: str = "") -> Iterator[tuple[str, Option]]:
    """Every option of the recipe with its dotted path."""
    for option in options(cls):
        where = f"{path}.{option.name}" if path else option.name
        if _is_config(option.type):
            yield from leaves(option.type, where)
        else:
            yield where, option


def _cross_checks(recipe: Recipe) -> Iterator[str]:
    """Rules that need more than one field."""
    from edgeft import budget, tasks

    data = recipe.data
    if data.validation_fraction + data.test_fraction >= 1:
        yield (
            f"data: validation_fraction {data.validation_fraction} + test_fraction {data.test_fraction} "
            "leave no training rows; their sum must stay under 1"
        )
    if recipe.distill.layers is not None and not recipe.distill.layers:
        yield "distill.layers: the list is empty; name at least one layer, or leave it unset"
    if not recipe.name or "/" in recipe.name or recipe.name in (".", ".."):
        yield f"name: {recipe.name!r} can't name a folder"
    for check, value in ((tasks.get, recipe.task), (budget.parse, recipe.budget)):
        try:
            if value is not None:
                cast(Callable[[str], object], check)(value)
        except RecipeError as error:
            yield str(error)


def from_tree(tree: Mapping[str, Any]) -> Recipe:
    """Check a tree of plain values and make the recipe of it.

    Raises:
        RecipeError: one line for each problem, all of them at once.
    """
    problems: list[str] = []
    recipe = Recipe(**_walk(Recipe, tree, "", problems))
    problems.extend(_cross_checks(recipe))
    if problems:
        raise RecipeError("\n".join(problems))
    return recipe


def check_stage(name: str, config: StageConfig) -> None:
    """Check a config that was made from flags.

    Raises:
        RecipeError: one line for each problem.
    """
    problems: list[str] = []
    _walk(type(config), msgspec.to_builtins(config), name, problems)
    if problems:
        raise RecipeError("\n".join(problems))


def builtin_names() -> list[str]:
    """The names of the recipes that ship with edgeft."""
    folder = resources.files("edgeft") / "recipes"
    return sorted(item.name.removesuffix(".yaml") for item in folder.iterdir() if item.name.endswith(".yaml"))


def _read_text(source: str) -> str:
    path = Path(source)
    if path.is_file():
        return path.read_text(encoding="utf-8")
    if source in builtin_names():
        return (resources.files("edgeft") / "recipes" / f"{source}.yaml").read_text(encoding="utf-8")
    names = builtin_names()
    close = difflib.get_close_matches(source, names, n=1)
    hint = f"; did you mean {close[0]}?" if close else f"; the built-in ones are {', '.join(names)}"
    raise RecipeError(f"recipe {source!r} is neither a file nor a built-in recipe{hint}")


def read_tree(source: str) -> dict[str, Any]:
    """The plain tree of a recipe file or of a built-in recipe.

    Raises:
        RecipeError: no such recipe, or not YAML.
    """
    try:
        tree = yaml.safe_load(_read_text(source)) or {}
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        detail = " ".join(str(error).split())
        raise RecipeError(f"recipe {source!r} is not YAML: {detail}") from None
    if not isinstance(tree, dict):
        raise RecipeError(f"recipe {source!r}: expected a mapping of options, got {type(tree).__name__}")
    return tree


def with_settings(tree: Mapping[str, Any], settings: Mapping[str, Any]) -> dict[str, Any]:
    """A copy of the tree with dotted settings laid over it, as in `{"distill.epochs": 2}`.

    Raises:
        RecipeError: a setting under something that is not a mapping.
    """
    copy: dict[str, Any] = msgspec.to_builtins(dict(tree))
    for path, value in settings.items():
        *stages, last = path.split(".")
        node = copy
        for stage in stages:
            if node.get(stage) is None:
                node[stage] = {}
            node = node[stage]
            if not isinstance(node, dict):
                raise RecipeError(f"{path}: {stage} is {node!r}, not a mapping of options")
        node[last] = value
    return copy


def parse_settings(items: Sequence[str]) -> dict[str, Any]:
    """`["distill.epochs=2"]` as a mapping; values are read as YAML.

    Raises:
        RecipeError: an item without `=`.
    """
    settings: dict[str, Any] = {}
    for item in items:
        path, equals, value = item.partition("=")
        if not equals:
            raise RecipeError(f"--set {item}: expected stage.field=value, as in --set distill.epochs=2")
        try:
            settings[path.strip()] = yaml.safe_load(value)
        except yaml.YAMLError:
            raise RecipeError(f"--set {item}: the value is not YAML") from None
    return settings


def load(source: str | None, settings: Mapping[str, Any] | None = None) -> Recipe:
    """Read a recipe and lay settings over it.

    Args:
        source: a file, the name of a built-in recipe, or None for the defaults.
        settings: dotted paths to values.

    Raises:
        RecipeError: every problem, one line each.
    """
    return from_tree(with_settings(read_tree(source) if source else {}, settings or {}))


def resolve(recipe: Recipe) -> Recipe:
    """The recipe with every seed written out."""
    stages: dict[str, Any] = {}
    for field in dataclasses.fields(recipe):
        stage = getattr(recipe, field.name)
        if isinstance(stage, StageConfig) and stage.seed is None:
            stages[field.name] = dataclasses.replace(stage, seed=recipe.seed)
    return dataclasses.replace(recipe, **stages)


def to_yaml(recipe: Recipe) -> str:
    """The recipe as YAML that `load` reads back to an equal recipe."""
    return yaml.safe_dump(msgspec.to_builtins(recipe), sort_keys=False, allow_unicode=True)


def json_schema() -> dict[str, Any]:
    """The JSON Schema of a recipe."""
    return msgspec.json.schema(Recipe)


# ----------------------------------------------------------------------------------------------------- documentation


def _type_name(hint: Any) -> str:
    if get_origin(hint) is Annotated:
        hint = get_args(hint)[0]
    origin = get_origin(hint)
    if origin in (Union, types.UnionType):
        return " or ".join(_type_name(part) for part in get_args(hint) if part is not type(None))
    if origin is Literal:
        return ", ".join(f"`{choice}`" for choice in get_args(hint))
    if origin is list:
        return f"list of {_type_name(get_args(hint)[0])}"
    return str(getattr(hint, "__name__", hint))


def markdown() -> str:
    """docs/recipe.md: every option with type, default and help."""
    lines = [
        "# The recipe",
        "",
        "Written by `edgeft recipe docs` from the dataclasses in `edgeft/recipe.py`; change it there.",
        "Any option can be set with `--set PATH=VALUE`.",
        "",
        "| path | type | default | what it is |",
        "|---|---|---|---|",
    ]
    for path, option in leaves():
        default = "unset" if option.default is None else f"`{option.default}`"
        lines.append(f"| `{path}` | {_type_name(option.type)} | {default} | {option.help} |")
    return "\n".join(lines) + "\n"

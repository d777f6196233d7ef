from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any, get_args, get_type_hints

import msgspec
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from edgeft import recipe
from edgeft.errors import RecipeError
from edgeft.recipe import Recipe

ROOT = Path(__file__).parents[1]
CONFIGS = [value for value in vars(recipe).values() if isinstance(value, type) and dataclasses.is_dataclass(value)]
CONFIGS = [config for config in CONFIGS if config is not recipe.Option]


def problems_of(tree: dict[Any, Any]) -> list[str]:
    with pytest.raises(RecipeError) as caught:
        recipe.from_tree(tree)
    return str(caught.value).splitlines()


# ------------------------------------------------------------------------------------------------------------ checking


def test_all_problems_are_told_at_once_each_with_its_path_and_remedy() -> None:
    tree = {
        "nmae": "x",
        "distill": {"epoch": 2, "temperature": 0, "num_layers": "three"},
        "finetune": {"method": "galore"},
        "data": {"validation_fraction": 0.6, "test_fraction": 0.5},
        "prune": [1],
    }
    assert problems_of(tree) == [
        "nmae: unknown key; did you mean name?",
        "distill.epoch: unknown key; did you mean distill.epochs?",
        "distill.temperature: expected `float` > 0.0, not 0",
        "distill.num_layers: expected `int`, not 'three'",
        "finetune.method: expected one of the choices, not 'galore'; "
        "one of full, head, lora, dora, rslora, qlora, ia3, peanut, prompt, prefix, p_tuning",
        "prune: expected a mapping of options, got [1]",
        "data: validation_fraction 0.6 + test_fraction 0.5 leave no training rows; their sum must stay under 1",
    ]


@pytest.mark.parametrize(
    ("tree", "nearest"),
    [
        ({"distil": {}}, "did you mean distill?"),
        ({"distill": {"lora_rank": 4}}, "did you mean finetune.lora_rank?"),
        ({"learning_rate": 1e-3}, "did you mean finetune.learning_rate?"),
        ({"report": {"zzzzzz": 4}}, "the keys here are seed, mistakes"),
        ({1: 2}, "1: unknown key"),
    ],
)
def test_an_unknown_key_names_the_nearest_one(tree: dict[Any, Any], nearest: str) -> None:
    (problem,) = problems_of(tree)
    assert nearest in problem


@pytest.mark.parametrize(
    ("path", "bad", "good"),
    [
        ("finetune.epochs", 0, 0.5),
        ("finetune.batch_size", 0, 1),
        ("finetune.learning_rate", 0, 1e-9),
        ("finetune.warmup_fraction", 1.01, 1),
        ("finetune.lora_dropout", 1, 0),
        ("data.max_train_rows", 1, 2),
        ("data.test_fraction", 0, 0.01),
        ("prune.head_ratio", 1, 0.99),
        ("export.opset", 17, 18),
        ("seed", -1, 2**32 - 1),
        ("prune.seed", -1, 0),
        ("prune.seed", 2**32, None),
        ("distill.epochs", True, 1),
        ("distill.epochs", float("nan"), 1),
        ("distill.epochs", float("inf"), 1),
        ("distill.epochs", "inf", "2.5"),
        ("distill.num_layers", 2.5, 2),
        ("distill.enabled", "maybe", True),
        ("distill.layers", [1, "x"], [0, 2]),
        ("distill.layers", [], None),
        ("data.text_column", 5, "body"),
        ("name", "a/b", "a b"),
        ("name", "", "x"),
        ("task", "text-clasification", "text-classification"),
        ("task", "feature-extraction", "text-classification"),
        ("budget", "p99<15ms", "p99<=15ms"),
    ],
)
def test_bounds_and_types(path: str, bad: Any, good: Any) -> None:
    (problem,) = problems_of(recipe.with_settings({}, {path: bad}))
    assert problem.startswith((f"{path}: ", "budget: "))
    recipe.load(None, {path: good})


def test_numbers_that_yaml_reads_as_words_are_numbers() -> None:
    assert recipe.load(None, recipe.parse_settings(["distill.learning_rate=1e-3"])).distill.learning_rate == 1e-3


@given(st.recursive(st.none() | st.booleans() | st.floats() | st.text(), lambda c: st.dictionaries(st.text(), c)))
@settings(max_examples=50, deadline=None)
def test_any_tree_is_a_recipe_or_a_recipe_error(value: Any) -> None:
    for path in ("name", "distill", "distill.layers", "prune.importance", "finetune.learning_rate"):
        message = ""
        try:
            made = recipe.from_tree(recipe.with_settings({}, {path: value}))
        except RecipeError as error:
            message = str(error)
        assert path.split(".")[0] in message or recipe.resolve(made)


# ----------------------------------------------------------------------------------------------- reading and settings


def test_settings_are_laid_over_the_file(tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text("name: mine\ndistill:\n  epochs: 5\n  num_layers: 2\nprune:\n")
    made = recipe.load(str(file), recipe.parse_settings(["distill.epochs=2", "prune.enabled=off", "name=a=b"]))
    assert (made.distill.epochs, made.distill.num_layers, made.prune.enabled, made.name) == (2.0, 2, False, "a=b")


def test_an_optional_value_can_be_unset_and_a_list_given() -> None:
    assert recipe.load(None, recipe.parse_settings(["prune.learning_rate=null"])).prune.learning_rate is None
    assert recipe.load(None, recipe.parse_settings(["prune.learning_rate="])).prune.learning_rate is None
    assert recipe.load(None, recipe.parse_settings(["distill.layers=[0, 2]"])).distill.layers == [0, 2]


@pytest.mark.parametrize("item", ["distill.epochs", "", "distill.layers=[1"])
def test_a_setting_that_can_not_be_read(item: str) -> None:
    with pytest.raises(RecipeError, match="--set"):
        recipe.parse_settings([item])


def test_a_setting_under_something_that_is_not_a_mapping_is_an_error() -> None:
    with pytest.raises(RecipeError, match=r"distill\.epochs: distill is 5, not a mapping"):
        recipe.with_settings({"distill": 5}, {"distill.epochs": 2})


def test_settings_leave_the_tree_alone() -> None:
    tree = {"distill": {"epochs": 5}}
    recipe.with_settings(tree, {"distill.epochs": 2})
    assert tree == {"distill": {"epochs": 5}}


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"a: [", "is not YAML"),
        (b"\xff\xfe\xfa", "is not YAML"),
        (b"- a", "expected a mapping"),
        (b"5", "expected a map"),
    ],
)
def test_a_file_that_is_no_recipe_is_one_line(tmp_path: Path, content: bytes, words: str) -> None:
    file = tmp_path / "bad.yaml"
    file.write_bytes(content)
    with pytest.raises(RecipeError, match=words) as caught:
        recipe.load(str(file))
    assert "\n" not in str(caught.value)


def test_an_empty_file_is_the_defaults(tmp_path: Path) -> None:
    (tmp_path / "empty.yaml").write_text("# nothing\n")
    assert recipe.load(str(tmp_path / "empty.yaml")) == Recipe()


def test_a_missing_recipe_names_the_nearest_builtin() -> None:
    with pytest.raises(RecipeError, match="did you mean demo"):
        recipe.load("demmo")
    with pytest.raises(RecipeError, match="the built-in ones are"):
        recipe.load("zzz.yaml")


def test_no_object_can_be_made_by_a_recipe(tmp_path: Path) -> None:
    file = tmp_path / "bad.yaml"
    file.write_text("name: !!python/object/apply:os.getcwd []\n")
    with pytest.raises(RecipeError, match="is not YAML"):
        recipe.load(str(file))


@pytest.mark.parametrize("name", recipe.builtin_names())
def test_builtin_recipes_hold_and_are_named_after_their_file(name: str) -> None:
    assert recipe.load(name).name == name


def test_check_stage_checks_what_flags_made() -> None:
    recipe.check_stage("prune", recipe.PruneConfig())
    with pytest.raises(RecipeError, match=r"prune\.head_ratio: expected `float` < 1.0, not 2"):
        recipe.check_stage("prune", dataclasses.replace(recipe.PruneConfig(), head_ratio=2))


# --------------------------------------------------------------------------------------------------------- round trips


@given(
    st.builds(
        recipe.DistillConfig,
        epochs=st.floats(1e-9, 1e9),
        learning_rate=st.none() | st.floats(1e-12, 1),
        layers=st.none() | st.lists(st.integers(0, 99), min_size=1),
        student=st.none() | st.text(st.characters(codec="utf-8", exclude_categories=["Cc", "Cs"]), min_size=1),
        enabled=st.booleans(),
        seed=st.none() | st.integers(0, 2**32 - 1),
    )
)
@settings(max_examples=50, deadline=None)
def test_yaml_round_trip(config: recipe.DistillConfig) -> None:
    made = Recipe(distill=config, name="ünïcode: #1")
    assert recipe.from_tree(yaml.safe_load(recipe.to_yaml(made))) == made


def test_resolve_writes_every_seed_out_and_once() -> None:
    made = recipe.resolve(recipe.load(None, {"seed": 7, "prune.seed": 3}))
    assert (made.data.seed, made.prune.seed, made.report.seed) == (7, 3, 7)
    assert recipe.resolve(made) == made
    assert recipe.from_tree(yaml.safe_load(recipe.to_yaml(made))) == made


# ------------------------------------------------------------------------------------------------------- documentation


def test_every_option_has_help_and_a_default() -> None:
    for path, option in recipe.leaves(recipe.Recipe):
        assert option.help, path
        assert option.default is not None or type(None) in get_args(get_args(option.type)[0]), path


def test_the_defaults_pass_their_own_checks() -> None:
    assert recipe.from_tree(msgspec.to_builtins(Recipe())) == Recipe()


def test_new_defaults_of_inherited_options_keep_help_and_bounds() -> None:
    base, derived = (get_type_hints(c, include_extras=True) for c in (recipe.TrainingConfig, recipe.PruneConfig))
    assert base["epochs"] == derived["epochs"]
    assert (recipe.TrainingConfig().epochs, recipe.PruneConfig().epochs) == (3.0, 1.0)


@pytest.mark.parametrize("config", CONFIGS, ids=lambda config: config.__name__)
def test_the_docstring_of_a_config_has_every_option(config: type) -> None:
    assert config.__doc__
    for option in recipe.options(config):
        assert f"    {option.name}: {option.help}" in config.__doc__


def test_the_schema_names_every_option_with_its_unit() -> None:
    schema = recipe.json_schema()
    json.dumps(schema)
    stages = {field.name: field.type for field in dataclasses.fields(Recipe) if str(field.type).endswith("Config")}
    for stage, config in stages.items():
        properties = schema["$defs"][config]["properties"]
        for option in recipe.options(getattr(recipe, str(config))):
            assert properties[option.name].get("unit") == option.unit, f"{stage}.{option.name}"
    assert schema["$defs"]["PruneConfig"]["properties"]["importance_rows"]["unit"] == "rows"
    assert schema["$defs"]["FinetuneConfig"]["properties"]["method"]["enum"][:3] == ["dora", "full", "head"]


def test_the_document_lists_every_leaf_once() -> None:
    rows = [line for line in recipe.markdown().splitlines() if line.startswith("| `")]
    assert [row.split("`")[1] for row in rows] == [path for path, _ in recipe.leaves(recipe.Recipe)]
    assert {row.count("|") for row in rows} == {5}
    assert "| `distill.learning_rate` | float | `0.0001` |" in recipe.markdown()
    assert "| `distill.layers` | list of int | unset |" in recipe.markdown()


def test_the_document_in_docs_is_today_s() -> None:
    assert (ROOT / "docs" / "recipe.md").read_text(encoding="utf-8") == recipe.markdown()


# --------------------------------------------------------------------------------------------------- rules of the rows


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        ({"test_from": "2024-01-01"}, "data.test_from: there is no data.time_column"),
        (
            {"time_column": "at", "test_from": 3, "test_file": "t.csv"},
            "data.test_from: data.test_file has the test rows",
        ),
        ({"anonymise_kinds": ["email"]}, "data.anonymise_kinds: nothing is anonymised; set data.anonymise=true"),
        ({"anonymise_names": "en_core_web_sm"}, "data.anonymise_names: nothing is anonymised"),
        ({"clean": ["html", "label_errors"]}, "data.clean: label_errors is gone: of the rows that it took out of"),
        ({"clean": ["label_errors"]}, "only 36 to 40% had a wrong label; take it off the list, and look at the rows"),
        ({"clean": "html"}, "data.clean: expected a list, as in [one, two], not 'html'"),
        ({"clean": ["htlm"]}, "data.clean: 'htlm' is none of unicode, html"),
        ({"clean": ["htlm"]}, "(did you mean html?)"),
        ({"label_delimiter": ""}, "data.label_delimiter: expected"),
        ({"delimiter": "::"}, "data.delimiter: '::' is not one character"),
        ({"task": "text-regression"}, "data.task: text-regression is not the recipe's task, text-classification"),
    ],
)
def test_an_option_that_would_do_nothing_is_an_error(data: dict[str, Any], expected: str) -> None:
    with pytest.raises(RecipeError) as caught:
        recipe.from_tree({"data": data})
    assert expected in str(caught.value)


def test_what_yaml_reads_as_a_date_is_a_time() -> None:
    settings = recipe.parse_settings(["data.time_column=at", "data.test_from=2024-01-20", "data.validation_from=17"])
    found = recipe.load(None, settings).data
    assert (found.test_from, found.validation_from) == ("2024-01-20", 17.0)


def test_flags_of_the_rows_are_checked_like_a_recipe() -> None:
    with pytest.raises(RecipeError, match=r"data\.validation_from: there is no data\.time_column"):
        recipe.check_stage("data", recipe.DataConfig(file="a.csv", validation_from="2024"))
    with pytest.raises(RecipeError, match=r"conflicts: in text-generation one input may well have several answers"):
        recipe.check_stage("data", recipe.DataConfig(task="text-generation", clean=["conflicts"]))

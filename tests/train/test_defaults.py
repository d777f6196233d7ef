"""What is unset gets a value by a rule, with a reason; what is set stays; repeating the values repeats the model."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml

from edgeft import recipe
from edgeft.data.dataset import load as load_dataset
from edgeft.errors import RecipeError
from edgeft.models.model_facts import Facts
from edgeft.models.model_folder import load_tokenizer
from edgeft.pipeline.shipping.decided_recipe import decided_recipe, decided_yaml
from edgeft.recipe import FinetuneConfig, TrainingConfig
from edgeft.train import defaults, lengths
from edgeft.train.defaults import Workload, decide_options
from edgeft.train.finetune import run as finetune
from edgeft.train.loop.loop import plan


def setting(**others: Any) -> Workload:
    usual: dict[str, Any] = {"task": "text-classification", "rows": 7000, "tokens": [20] * 99 + [60], "positions": 512}
    return Workload(**{**usual, "width": 384, **others})


def test_a_middling_set() -> None:
    """7,000 rows: 16,000 / 7,000 rounds up to 3 epochs; 99 of 100 texts have 20 tokens, and 24 is the next eight."""
    config, reasons = decide_options(FinetuneConfig(method="full"), setting())
    assert (config.epochs, config.batch_size, config.learning_rate) == (3.0, 16, 5e-5)
    assert (config.warmup_fraction, config.max_length) == (0.1, 24)
    assert set(reasons) == {"epochs", "batch_size", "learning_rate", "warmup_fraction", "max_length"}
    assert all(reasons.values())
    assert "99% of the training texts have up to 20 tokens" in reasons["max_length"]
    made = plan(config, 7000)
    assert (made.steps, made.warmup) == (3 * 438, 131)


def test_what_is_set_stays() -> None:
    chosen = FinetuneConfig(epochs=2.0, batch_size=5, learning_rate=1e-6, warmup_fraction=0.0, max_length=9)
    assert decide_options(chosen, setting(tokens=[])) == (chosen, {})
    assert decide_options(dataclasses.replace(chosen, epochs=None), setting(tokens=[]))[1].keys() == {"epochs"}  # type: ignore[arg-type]


def test_deciding_twice_is_deciding_once() -> None:
    for method in defaults.LEARNING_RATES:
        config, reasons = decide_options(FinetuneConfig(method=method), setting())  # type: ignore[arg-type]
        assert decide_options(config, setting()) == (config, {})
        assert ("virtual_tokens" in reasons) == (method in ("prompt", "p_tuning"))


@pytest.mark.parametrize(
    ("rows", "task", "expected"),
    [
        (100, "text-classification", 20),  # 160, at most 20
        (2_000, "text-classification", 8),
        (2_001, "text-classification", 8),
        (16_000, "text-classification", 3),  # 1, at least 3
        (100, "text-generation", 3),
        (100, "text2text-generation", 3),
    ],
)
def test_small_sets_get_more_epochs(rows: int, task: str, expected: int) -> None:
    config, reasons = decide_options(FinetuneConfig(), setting(rows=rows, task=task))
    assert config.epochs == expected
    assert f"{rows:,} training rows, {expected} times" in reasons["epochs"]


@pytest.mark.parametrize(
    ("rows", "accumulation", "expected"),
    [(10, 1, 4), (64, 1, 4), (127, 1, 4), (128, 1, 8), (255, 1, 8), (256, 1, 16), (256, 2, 8)],
)
def test_tiny_sets_get_smaller_batches(rows: int, accumulation: int, expected: int) -> None:
    """An epoch has 16 steps of 16, 8, or at least 4 rows."""
    config, _ = decide_options(FinetuneConfig(gradient_accumulation=accumulation), setting(rows=rows))
    assert config.batch_size == expected


@pytest.mark.parametrize(
    ("method", "width", "expected"),
    [
        ("full", 384, 5e-5),
        ("full", 768, 5e-5),
        ("full", 1024, 3.8e-5),  # 5e-5 * 0.75, two digits
        ("qlora", 4096, 2.2e-4),  # QLoRA, table 9: 2e-4 for 7 B; 5e-4 * sqrt(0.1875)
        ("qlora", 8192, 1.5e-4),  # 1e-4 for 65 B
        ("lora", 0, 5e-4),
        ("head", 4096, 1e-3),
        ("ia3", 4096, 8e-3),
    ],
)
def test_wide_models_learn_more_slowly(method: Any, width: int, expected: float) -> None:
    config, reasons = decide_options(FinetuneConfig(method=method), setting(width=width))
    assert config.learning_rate == pytest.approx(expected, rel=1e-9)
    assert (f"768 / {width}" in reasons["learning_rate"]) == (expected not in defaults.LEARNING_RATES.values())


def test_sgd_gets_a_rate_of_its_own() -> None:
    assert decide_options(FinetuneConfig(optimizer="sgd"), setting())[0].learning_rate == 1e-2


@pytest.mark.parametrize(
    ("tokens", "positions", "method", "expected", "why"),
    [
        ([8], 512, "lora", 8, "rounded up to a multiple of 8"),
        ([9], 512, "lora", 16, "rounded up"),
        ([2], 512, "lora", 8, "rounded up"),
        (list(range(1, 101)), 512, "lora", 104, "up to 99 tokens"),
        ([600], 8192, "lora", 512, "attention over more than 512 is expensive"),
        ([100], 64, "lora", 64, "64 positions for them"),
        ([100], 64, "prompt", 44, "64 positions for them and 20 virtual tokens"),
    ],
)
def test_the_length_holds_nearly_every_text(
    tokens: list[int], positions: int, method: Any, expected: int, why: str
) -> None:
    config, reasons = decide_options(FinetuneConfig(method=method), setting(tokens=tokens, positions=positions))
    assert config.max_length == expected
    assert why in reasons["max_length"]


def test_packed_texts_count_as_the_items_that_they_fill() -> None:
    """7,000 texts of 20.4 tokens on average are 142,800 tokens, 278.9 items of 512."""
    config, reasons = decide_options(FinetuneConfig(packing=True), setting(task="text-generation"))
    assert (config.max_length, config.batch_size, config.epochs) == (512, 16, 3.0)
    assert "279 packed items, 3 times" in reasons["epochs"]
    few, reasons = decide_options(
        FinetuneConfig(packing=True, max_length=64), setting(task="text-generation", rows=300)
    )
    assert few.batch_size == 4  # 300 * 20.4 / 64 = 95.6 items, 6 of a batch of 16
    assert "96 packed items make 24 steps an epoch" in reasons["batch_size"]


def test_packing_leaves_a_small_set_its_steps() -> None:
    """1,000 texts of 20.4 tokens are 20,400: 64 items of 318.75, and 312 is the eight below."""
    small = setting(task="text-generation", rows=1_000)
    config, reasons = decide_options(FinetuneConfig(packing=True), small)
    assert (config.max_length, config.batch_size) == (312, 4)
    assert "66 packed items make 17 steps an epoch" in reasons["batch_size"]
    assert "as long as an epoch has 16 steps of 4" in reasons["max_length"]
    assert decide_options(FinetuneConfig(packing=True, gradient_accumulation=2), small)[0].max_length == 152
    tiny = setting(task="text-generation", rows=100)  # 2,040 tokens, 31 an item: 99% of the texts have 20
    assert decide_options(FinetuneConfig(packing=True), tiny)[0].max_length == 24
    assert (
        decide_options(FinetuneConfig(packing=True), setting(task="text-generation", positions=64))[0].max_length == 64
    )


def test_a_text_that_is_not_cut_counts_whole() -> None:
    """2,041 tokens in parts of 511 new ones: 3.99, so 4. Five of them, packed, leave 16 steps of 4 items of 159."""
    long = {"task": "text-generation", "rows": 1_000, "tokens": [2041]}
    packed, plain = (FinetuneConfig(packing=packing, max_length=512) for packing in (True, False))
    assert setting(**long, cut=True).items(packed) == (1_000, "packed items")
    assert setting(**long, cut=False).items(packed) == (3_987, "packed items")
    assert setting(**long, cut=True).items(plain) == (1_000, "training rows")
    assert setting(**long, cut=False).items(plain) == (4_000, "items of texts")
    five = {**long, "rows": 5}
    assert decide_options(FinetuneConfig(packing=True), setting(**five, cut=False))[0].max_length == 152
    uncut, reasons = decide_options(FinetuneConfig(packing=True), setting(**{**five, "tokens": [400]}, cut=True))
    assert uncut.max_length == 400
    assert reasons["max_length"].startswith("99% of the training texts have up to 400 tokens, which are not cut")


def test_models_that_generate_warm_up_shortly() -> None:
    assert decide_options(FinetuneConfig(), setting(task="text-generation"))[0].warmup_fraction == 0.03


def test_only_fine_tuning_leaves_them_open() -> None:
    assert (TrainingConfig().epochs, TrainingConfig().batch_size, TrainingConfig().warmup_fraction) == (3.0, 16, 0.1)
    assert FinetuneConfig().epochs is None
    with pytest.raises(RecipeError, match=r"distill.epochs: expected `float`, not None"):
        recipe.load(None, {"distill.epochs": None})
    for bad in ({"epochs": -1}, {"batch_size": 0}, {"warmup_fraction": 2}, {"max_length": 3}, {"virtual_tokens": 0}):
        with pytest.raises(RecipeError, match=f"finetune.{next(iter(bad))}: expected"):
            recipe.load(None, {f"finetune.{name}": value for name, value in bad.items()})


def test_lengths_are_counted_only_where_they_decide(data: Path, tiny_model: Path) -> None:
    dataset, tokenizer = load_dataset(data), load_tokenizer(tiny_model)
    facts = Facts("bert", 4, 64, 64)
    found = lengths.measure_workload(FinetuneConfig(), dataset, tokenizer, facts)
    assert found.tokens == [len(tokenizer(text)["input_ids"]) for text in dataset.train.texts]
    assert (found.rows, found.task, found.positions) == (len(dataset.train), "text-classification", 64)
    assert lengths.measure_workload(FinetuneConfig(max_length=8), dataset, tokenizer, facts).tokens == []
    assert (
        lengths.measure_workload(FinetuneConfig(max_length=8, packing=True), dataset, tokenizer, facts).tokens
        == found.tokens
    )


def test_pairs_are_as_long_as_the_longer_side(tiny_model: Path) -> None:
    columns = {"source": ["good", "a bad film"], "target": ["so good so good", "bad"]}
    dataset: Any = SimpleNamespace(kind="pairs", train=SimpleNamespace(columns=columns))
    assert sorted(lengths.token_lengths(dataset, load_tokenizer(tiny_model))) == [3, 3, 5, 6]


# ------------------------------------------------------------------------------------------------ the stage, the recipe


def test_repeating_what_was_decided_repeats_the_model(data: Path, tiny_model: Path, tmp_path: Path) -> None:
    inputs = {"data": data, "model": tiny_model}
    config = FinetuneConfig(model=str(tiny_model), method="head", epochs=1.0, seed=1)
    first = finetune(config, inputs, tmp_path / "first")
    found = first.metrics["decided"]
    assert found.keys() == {"batch_size", "learning_rate", "warmup_fraction", "max_length"}
    assert load_tokenizer(tmp_path / "first").model_max_length == found["max_length"]["value"] < 32

    again = dataclasses.replace(config, **{name: one["value"] for name, one in found.items()})
    second = finetune(again, inputs, tmp_path / "second")
    assert second.metrics["decided"] == {}
    weights = [(tmp_path / name / "model.safetensors").read_bytes() for name in ("first", "second")]
    assert weights[0] == weights[1]
    assert first.metrics["test"] == second.metrics["test"]


def test_the_resolved_recipe_says_what_was_decided_and_why() -> None:
    chosen = recipe.load(None, {"finetune.model": "some/model", "distill.epochs": 3.0})
    config, reasons = decide_options(chosen.finetune, setting())
    results: Any = {
        "export": SimpleNamespace(
            metrics={"precision": "int8", "quantization": {"float_layers": ["a"], "smoothing": 0.6}}
        ),
        "finetune": SimpleNamespace(metrics={"decided": defaults.describe(config, reasons)}),
    }
    text = decided_yaml(chosen, results)
    assert f"\n  epochs: 3.0  # {reasons['epochs']}\n" in text
    assert text.count("  # ") == len(reasons) == 5
    assert "\n  epochs: 3.0\n" in text  # distill's own, without a reason
    repeated = recipe.from_tree(yaml.safe_load(text))
    assert repeated == decided_recipe(chosen, results)
    assert decide_options(repeated.finetune, setting()) == (config, {})


def test_the_demo_decides_only_what_it_always_had() -> None:
    """Its 2,000 rows alone would train for 8 epochs."""
    config, reasons = decide_options(recipe.load("demo").finetune, setting(rows=2000))
    assert "epochs" not in reasons
    values = (config.epochs, config.batch_size, config.learning_rate, config.warmup_fraction, config.max_length)
    assert values == (3.0, 16, 1e-3, 0.1, 64)

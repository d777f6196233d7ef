"""Advice: the arithmetic by hand, and a choice that follows memory, time and rows."""

from __future__ import annotations

from typing import Any

import pytest

from edgeft.cli import tokens
from edgeft.models import model_facts, model_sources
from edgeft.pipeline.advise import advise, sizes
from edgeft.pipeline.advise.advise import Machine, Problem
from edgeft.recipe import FinetuneConfig
from edgeft.recipe.check import from_tree

LAPTOP = Machine(cores=8, memory_bytes=16_000_000_000)
GPU = Machine(cores=8, memory_bytes=64_000_000_000, gpu="a GPU", gpu_bytes=24_000_000_000)


def chosen(problem: Problem, here: Machine) -> tuple[str, dict[str, Any]]:
    found = advise.advise(problem, here)
    size = next(row["size"] for row in found["sizes"] if row["chosen"])
    return size, {item["option"].removeprefix("finetune."): item["value"] for item in found["advice"]}


def test_memory_by_hand() -> None:
    small = sizes.read_table().sizes["encoder"][1]
    activations = 16 * 64 * 6 * (34 * 384 + 5 * 6 * 64)
    assert small.memory_bytes("full", 16, 64, gpu=True) == 16 * 22.7e6 + activations
    assert small.memory_bytes("full", 16, 64, gpu=False) == 16 * 22.7e6 + 2 * activations
    adapter = 18 * 16 * 384 * 6
    assert small.memory_bytes("lora", 1, 1, gpu=True) == pytest.approx(4 * 22.7e6 + 16 * adapter, rel=0.01)
    seven = sizes.read_table().sizes["decoder"][-1]
    assert 4e9 < seven.memory_bytes("qlora", 1, 1, gpu=True) < 7e9
    assert seven.memory_bytes("full", 1, 1, gpu=True) == pytest.approx(16 * 7.24e9, rel=0.01)


def test_the_rank_of_the_adapters_is_the_recipes() -> None:
    assert FinetuneConfig().lora_rank == sizes.RANK


def test_time_by_hand() -> None:
    assert sizes.read_table().sizes["encoder"][2].operations("full", 1e6) == 6 * 85e6 * 1e6
    assert sizes.read_table().sizes["encoder"][2].operations("lora", 1e6) == 4 * 85e6 * 1e6
    assert [advise.duration(seconds) for seconds in (40, 720, 12_240)] == ["40 s", "12 min", "3.4 h"]


def test_more_machine_gives_a_larger_model() -> None:
    problem = Problem(task="text-classification", rows=8_000, tokens=50, labels=2)
    assert chosen(problem, Machine(cores=2, memory_bytes=8_000_000_000))[0] == "small"
    assert chosen(problem, GPU)[0] == "large"
    assert chosen(problem, Machine(cores=1, memory_bytes=60_000_000))[0] == "tiny"


def test_small_sets_get_lora_more_epochs_and_no_large_encoder() -> None:
    size, options = chosen(Problem(task="text-classification", rows=500, tokens=50, labels=5), GPU)
    assert (size, options["method"], options["epochs"]) == ("base", "lora", 20)
    size, options = chosen(Problem(task="text-classification", rows=20_000, tokens=50, labels=5), GPU)
    assert (size, options["method"], options["epochs"]) == ("large", "full", 3)


def test_a_batch_that_does_not_fit_is_accumulated() -> None:
    tight = Machine(cores=64, memory_bytes=2_500_000_000)
    options = chosen(Problem(task="text-classification", rows=1_000, tokens=500), tight)[1]
    assert options["batch_size"] * options["gradient_accumulation"] == 16
    assert options["batch_size"] < 16


def test_the_length_is_the_smallest_step_or_what_was_measured() -> None:
    assert advise.max_length(Problem(task="text-classification", rows=100, tokens=33)) == 64
    assert advise.max_length(Problem(task="text-classification", rows=100, tokens=33, max_length=32)) == 32
    assert advise.max_length(Problem(task="text-classification", rows=100, tokens=5_000)) == 1024


def test_no_machine_is_too_small_for_an_answer() -> None:
    found = advise.advise(
        Problem(task="text-classification", rows=100, tokens=500), Machine(cores=1, memory_bytes=10**6)
    )
    assert any(note.startswith("even the smallest class needs") for note in found["notes"])


def test_notes_are_honest() -> None:
    found = advise.advise(Problem(task="text-generation", rows=100, tokens=2_000, english=False), GPU)
    notes = " ".join(found["notes"])
    assert "text-generation ends with the trained model (--until finetune)" in notes
    assert "rules of thumb" in notes
    rare = advise.advise(Problem(task="text-classification", rows=100, tokens=20, labels=2, rarest=7), LAPTOP)
    assert "the rarest label has 7 training rows" in " ".join(rare["notes"])


def test_other_languages_get_a_multilingual_example() -> None:
    options = chosen(Problem(task="text-classification", rows=8_000, tokens=50, english=False), LAPTOP)[1]
    assert options["model"] in sizes.read_table().multilingual.values()


@pytest.mark.parametrize("task", ["text-classification", "text-generation", "text2text-generation"])
def test_every_option_is_one_of_the_recipe(task: str) -> None:
    found = advise.advise(Problem(task=task, rows=700, tokens=400), LAPTOP)
    tree = {item["option"].removeprefix("finetune."): item["value"] for item in found["advice"]}
    assert from_tree({"finetune": tree}).finetune.method == tree["method"]


def test_a_profile_tells_the_problem() -> None:
    profile = {
        "task": "text-classification",
        "kind": "single-label",
        "rows": {"total": 100},
        "lengths": {
            "unit": "words and punctuation marks",
            "max_length": 32,
            "parts": {"text": {"percentiles": {"p95": 30.0}}},
        },
        "splits": {"rows": {"train": 80}, "labels": {"a": {"train": 60}, "b": {"train": 20}}},
        "languages": {"shares": {"de": 1.0}},
    }
    problem = advise.problem_of(profile)
    assert (problem.rows, problem.labels, problem.rarest, problem.english) == (80, 2, 20, False)
    assert (problem.tokens, problem.max_length) == (40.0, None)


def test_the_demo_is_the_one_that_models_knows() -> None:
    assert model_sources.DEMOS[tokens.DEMO] == tokens.DEMO_PACKAGE
    assert model_facts.OFFSET_POSITIONS == tokens.OFFSET_POSITIONS

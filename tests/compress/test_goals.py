"""How much stays: by a number of parameters, by a latency table, in rounds; and the whole stage."""

from __future__ import annotations

import copy
import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from support_kinds import dataset_of, trained

from edgeft.compress.distill import distillation_data
from edgeft.compress.prune import goals, latency_table
from edgeft.compress.prune.latency_table import LatencyTable, interpolate
from edgeft.compress.prune.prune import describe_cut, run
from edgeft.compress.prune.structure import Cut, cut_by_ratios, prune
from edgeft.data import dataset as datasets
from edgeft.errors import RecipeError
from edgeft.files import write_json
from edgeft.models import model_folder
from edgeft.models.shapes import LayerStructure, Structure, structure_of
from edgeft.recipe import PruneConfig

TABLE = LatencyTable(base_ms=1.0, layers_ms={1: {8: 0.5, 64: 2.0}, 2: {8: 3.0, 64: 4.0}}, width=64)


@pytest.fixture
def model(tiny_tokenizer: Any, tmp_path: Path) -> Any:
    return model_folder.load_classifier(
        trained("single-label", copy.deepcopy(tiny_tokenizer), tmp_path / "model"), None
    )


def parameters(model: Any) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


def assert_gentlest(config: PruneConfig, fits: Callable[[float, float], bool]) -> None:
    """Equal shares that just fit decide on the heads; then the fewest channels go."""
    heads, channels = config.head_ratio, config.channel_ratio
    assert config == PruneConfig(head_ratio=heads, channel_ratio=channels)
    assert heads == next(step / 64 for step in range(64) if fits(step / 64, step / 64))
    assert channels == next(step / 64 for step in range(64) if fits(heads, step / 64))


def test_parameters_are_met_as_gently_as_can_be(model: Any) -> None:
    wanted = parameters(model) - 25_000

    def fits(heads: float, channels: float) -> bool:
        smaller = copy.deepcopy(model)
        prune(smaller, cut_by_ratios(model, heads=heads, channels=channels), "random")
        return parameters(smaller) <= wanted

    config = goals.resolve_goal(PruneConfig(max_parameters=wanted), model, None)
    assert_gentlest(config, fits)
    assert config.channel_ratio > 0


@pytest.mark.parametrize(("wanted", "channels_go"), [(5.0, False), (4.5, True), (9.0, False)])
def test_milliseconds_are_met_by_the_table_as_gently_as_can_be(wanted: float, channels_go: bool, model: Any) -> None:
    def fits(heads: float, channels: float) -> bool:
        cut = cut_by_ratios(model, heads=heads, channels=channels)
        return TABLE.predict(cut.heads or (), cut.channels or ()) <= wanted

    assert TABLE.predict([2, 2], [64, 64]) == 1 + 2 * 4
    config = goals.resolve_goal(PruneConfig(max_latency_ms=wanted, latency_table="here.json"), model, TABLE)
    assert_gentlest(config, fits)
    assert (config.channel_ratio > 0) == channels_go


def test_more_tokens_a_text_take_as_many_times_the_milliseconds(model: Any) -> None:
    config = PruneConfig(max_latency_ms=4.5, latency_table="here.json")
    longer = goals.resolve_goal(config, model, TABLE, longer=1.2)
    exact = goals.resolve_goal(PruneConfig(max_latency_ms=4.5 / 1.2, latency_table="here.json"), model, TABLE)
    assert longer == exact != goals.resolve_goal(config, model, TABLE)


def test_a_table_by_hand() -> None:
    assert interpolate({1: 2.0, 4: 4.0}, 1) == 2.0
    assert interpolate({1: 2.0, 4: 4.0}, 2) == pytest.approx(2 + 2 / 3)
    assert interpolate({2: 2.0, 4: 4.0, 8: 5.0}, 6) == 4.5
    assert interpolate({2: 2.0, 4: 4.0, 8: 5.0}, 12) == 6.0
    assert interpolate({4: 4.0}, 2) == 4.0
    # base 1; a layer with 1 head and 64 channels takes 2, one with 2 heads and 8 channels 3
    assert TABLE.predict([1, 2], [64, 8]) == 1 + 2 + 3
    # between four layers the mean; with 3 heads as far above the last row as that is above the first
    assert TABLE.predict([1, 2], [36, 36]) == 1 + 1.25 + 3.5
    assert TABLE.predict([3], [36]) == 1 + 3.5 + (3.5 - 1.25)
    alone = LatencyTable(base_ms=1.0, layers_ms={4: {8: 1.0, 64: 8.0}}, width=64)
    assert alone.predict([1], [16]) == 1 + 2


@pytest.mark.parametrize(
    ("goal", "said"),
    [
        ({"max_parameters": 10}, "prune.max_parameters: can't be reached"),
        ({"max_latency_ms": 0.1}, "prune.max_latency_ms: can't be reached"),
    ],
)
def test_a_goal_out_of_reach_is_refused(goal: dict[str, Any], said: str, model: Any) -> None:
    with pytest.raises(RecipeError, match=said):
        goals.resolve_goal(PruneConfig(**goal), model, TABLE)


def test_a_table_of_another_width_is_refused(model: Any) -> None:
    other = LatencyTable(base_ms=1, layers_ms={4: {96: 1.0}}, width=384)
    with pytest.raises(RecipeError, match="measured at width 384, and the model has 64"):
        goals.resolve_goal(PruneConfig(max_latency_ms=5.0), model, other)


@pytest.mark.parametrize(
    ("options", "kind", "said"),
    [
        ({"max_parameters": 10, "max_latency_ms": 1.0}, "single-label", "give one of them"),
        ({"width_ratio": 0.5, "max_latency_ms": 1.0}, "single-label", "give width_ratio or max_latency_ms"),
        ({"latency_table": "here.json"}, "single-label", "decides nothing without prune.max_latency_ms"),
        ({"latency_table": "none.json", "max_latency_ms": 1.0}, "single-label", "none.json can't be read"),
        ({"vocabulary_size": 10}, "squad", "squad rows are learnt token by token"),
    ],
)
def test_options_that_dont_go_together_are_refused(options: dict[str, Any], kind: str, said: str) -> None:
    with pytest.raises(RecipeError, match=said):
        goals.check(PruneConfig(**options), kind)


def test_a_table_is_read_again_and_other_files_are_refused(tmp_path: Path) -> None:
    write_json(tmp_path / "latency.json", TABLE)
    assert latency_table.read(tmp_path / "latency.json") == TABLE
    (tmp_path / "odd.json").write_text('{"base_ms": "a"}')
    bare = "has no milliseconds, or not the same channels"
    tables: dict[str, dict[int, dict[int, float]]]
    tables = {"none": {}, "empty": {4: {}}, "ragged": {4: {8: 1.0}, 2: {16: 1.0}}}
    for name, layers in tables.items():
        write_json(tmp_path / f"{name}.json", dataclasses.replace(TABLE, layers_ms=layers))
    refused = {"odd.json": "is no latency table", "missing.json": "can't be read"}
    refused |= dict.fromkeys(("none.json", "empty.json", "ragged.json"), bare)
    for name, said in refused.items():
        with pytest.raises(RecipeError, match=said):
            latency_table.read(tmp_path / name)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (
            {"head_ratio": 0.5, "channel_ratio": 0.65, "vocabulary_size": 15500},
            "50% of heads, 65% of channels, all but 15,500 tokens gone",
        ),
        ({"head_ratio": 0.0, "channel_ratio": 0.0, "vocabulary_min_count": 2}, "the rare tokens gone"),
        ({"head_ratio": 0.0, "channel_ratio": 0.0}, "nothing gone"),
    ],
)
def test_what_went_in_words(options: dict[str, Any], said: str) -> None:
    assert describe_cut(PruneConfig(**options)) == said


def test_bits_that_no_training_reads_are_refused() -> None:
    with pytest.raises(RecipeError, match=r"^prune.weight_bits: decides nothing without prune.int8_epochs"):
        distillation_data.check(PruneConfig(weight_bits=4), "prune")
    distillation_data.check(PruneConfig(weight_bits=4, int8_epochs=0.1), "prune")


def test_rounds_by_hand() -> None:
    layers = [LayerStructure(at, list(range(12)), list(range(96))) for at in range(4)]
    start = Structure(layers, list(range(64)), 16)
    cut = Cut(heads=[6, 6, 6, 3], channels=[48, 48, 48, 96], width=32, layers=2)
    first = goals.cut_of_round(cut, start, start, 1, 2)
    assert first == Cut([9, 9, 9, 7], [72, 72, 72, 96], 48, 3)
    present = Structure([start.layers[0], start.layers[2], start.layers[3]], start.width[:48], 16)
    assert goals.cut_of_round(cut, start, present, 2, 2) == Cut([6, 6, 3], [48, 48, 96], 32, 2)
    assert goals.cut_of_round(cut, start, start, 1, 1) == cut


def test_layers_compete_in_every_round(tiny_tokenizer: Any, tmp_path: Path) -> None:
    datasets.save(dataset_of("single-label", (64, 12, 8)), tmp_path / "data")
    teacher = trained("single-label", copy.deepcopy(tiny_tokenizer), tmp_path / "teacher")
    inputs = {"data": tmp_path / "data", "model": teacher, "teacher": teacher}
    config = PruneConfig(
        head_ratio=0.5,
        channel_ratio=0.5,
        across_layers=True,
        rounds=2,
        epochs=0.2,
        max_drop_points=100.0,
        device="cpu",
        seed=0,
        importance_rows=16,
    )
    found = run(config, inputs, tmp_path / "pruned").metrics["structure"]
    start = structure_of(model_folder.load_classifier(teacher, None)).layers
    assert sum(found["heads"]) == sum(len(layer.heads) for layer in start) // 2
    assert sum(found["channels"]) == sum(len(layer.channels) for layer in start) // 2
    with pytest.raises(RecipeError, match="across_layers: decides nothing"):
        goals.check(dataclasses.replace(config, head_ratio=0.0, channel_ratio=0.0), "single-label")
    with pytest.raises(RecipeError, match="across_layers: whole layers and milliseconds"):
        goals.check(dataclasses.replace(config, layer_ratio=0.5), "single-label")
    with pytest.raises(RecipeError, match="across_layers: whole layers and milliseconds"):
        goals.check(dataclasses.replace(config, max_latency_ms=1.0), "single-label")


def test_the_stage_cuts_everything_in_rounds_and_what_it_writes_loads(tiny_tokenizer: Any, tmp_path: Path) -> None:
    datasets.save(dataset_of("single-label", (64, 12, 8)), tmp_path / "data")
    teacher = trained("single-label", copy.deepcopy(tiny_tokenizer), tmp_path / "teacher")
    inputs = {"data": tmp_path / "data", "model": teacher, "teacher": teacher}
    config = PruneConfig(
        head_ratio=0.5,
        channel_ratio=0.5,
        width_ratio=0.25,
        layer_ratio=0.5,
        vocabulary_size=70,
        rounds=2,
        epochs=2.0,
        int8_epochs=1.0,
        relation_weight=1.0,
        max_drop_points=100.0,
        device="cpu",
        seed=0,
        importance_rows=16,
    )
    metrics = run(config, inputs, tmp_path / "pruned").metrics
    assert metrics["structure"]["width"] == 48
    assert len(metrics["structure"]["heads"]) == 1
    assert metrics["vocabulary"]["vocabulary_tokens"]["after"] <= 70
    assert metrics["kept"] == 0
    assert {path.name for path in (tmp_path / "pruned").glob("history*")} == {
        *("history.jsonl", "history-round-1.jsonl", "history-int8.jsonl")
    }
    loaded = model_folder.load_classifier(tmp_path / "pruned", None)
    assert len(structure_of(loaded).width) == 48
    assert parameters(loaded) == metrics["parameters"]
    assert len(model_folder.load_tokenizer(tmp_path / "pruned")) == loaded.get_input_embeddings().num_embeddings <= 70
    with torch.inference_mode():
        assert loaded(input_ids=torch.tensor([[2, 5, 3]])).logits.isfinite().all()


def test_numbers_are_recovered_in_their_own_unit_whatever_the_vocabulary(tiny_tokenizer: Any, tmp_path: Path) -> None:
    datasets.save(dataset_of("regression", (64, 12, 8)), tmp_path / "data")
    teacher = trained("regression", copy.deepcopy(tiny_tokenizer), tmp_path / "teacher")
    inputs = {"data": tmp_path / "data", "model": teacher, "teacher": teacher}
    config = PruneConfig(
        head_ratio=0.0,
        channel_ratio=0.0,
        vocabulary_min_count=1,
        hard_weight=0.0,
        hidden_weight=0.0,
        epochs=1.0,
        learning_rate=1e-9,
        max_drop_points=100.0,
        device="cpu",
        seed=0,
    )
    metrics = run(config, inputs, tmp_path / "pruned").metrics
    assert metrics["test"]["agreement"] == 1.0
    assert len(metrics["tried"]) == 1
    first = (tmp_path / "pruned" / "history.jsonl").read_text().splitlines()[0]
    assert json.loads(first)["loss"] == pytest.approx(0, abs=0.01)  # dropout

"""Layer-wise rates, schedules, freezing and unfreezing, against numbers worked out by hand and slow twins."""

from __future__ import annotations

import re
from typing import Any

import pytest
import torch
from transformers import (
    BertConfig,
    BertForSequenceClassification,
    DistilBertConfig,
    DistilBertForSequenceClassification,
    ElectraConfig,
    ElectraForSequenceClassification,
    LlamaConfig,
    LlamaForSequenceClassification,
)

from edgeft.errors import ModelError, RecipeError
from edgeft.recipe import TrainingConfig
from edgeft.train.loop.optim import (
    create_optimizer,
    create_schedule,
    freeze,
    layer_depths,
    trainable_parameters,
    unfreeze_gradually,
)

SIZES: dict[str, Any] = {
    "vocab_size": 30,
    "hidden_size": 8,
    "num_hidden_layers": 3,
    "num_attention_heads": 2,
    "intermediate_size": 16,
    "max_position_embeddings": 16,
}


def bert() -> Any:
    torch.manual_seed(0)
    return BertForSequenceClassification(BertConfig(**SIZES))


def with_lora(model: Any) -> Any:
    from peft import LoraConfig, TaskType, get_peft_model

    lora = LoraConfig(
        task_type=TaskType.SEQ_CLS, r=2, target_modules="all-linear", modules_to_save=["classifier"], lora_alpha=4
    )
    return get_peft_model(model, lora)


def with_virtual_tokens(model: Any) -> Any:
    from peft import PromptTuningConfig, TaskType, get_peft_model

    return get_peft_model(model, PromptTuningConfig(task_type=TaskType.SEQ_CLS, num_virtual_tokens=3))


def rates(model: Any, config: TrainingConfig, peak: float) -> dict[str, float]:
    """The rate of each parameter, by name."""
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    groups = create_optimizer(model, config, peak).param_groups
    return {names[id(parameter)]: group["lr"] for group in groups for parameter in group["params"]}


# --------------------------------------------------------------------------------------------------------------- depths


def test_depths_of_what_is_no_layer() -> None:
    found = layer_depths(bert())
    outside = {name: depth for name, depth in found.items() if ".layer." not in name}
    assert {depth for name, depth in outside.items() if "embeddings" in name} == {-1}
    assert {name: depth for name, depth in outside.items() if "embeddings" not in name} == {
        "bert.pooler.dense.weight": 3,
        "bert.pooler.dense.bias": 3,
        "classifier.weight": 3,
        "classifier.bias": 3,
    }
    assert found["bert.encoder.layer.2.output.dense.weight"] == 2


@pytest.mark.parametrize(
    ("model", "lowest", "highest"),
    [
        (
            lambda: DistilBertForSequenceClassification(
                DistilBertConfig(vocab_size=30, dim=8, n_layers=3, n_heads=2, hidden_dim=16)
            ),
            "distilbert.embeddings.word_embeddings.weight",
            "pre_classifier.weight",
        ),
        (
            lambda: LlamaForSequenceClassification(LlamaConfig(**SIZES, num_key_value_heads=2, pad_token_id=0)),
            "model.embed_tokens.weight",
            "model.norm.weight",
        ),
        (
            lambda: ElectraForSequenceClassification(ElectraConfig(**SIZES, embedding_size=4)),
            "electra.embeddings_project.weight",
            "classifier.dense.weight",
        ),
    ],
)
def test_depths_in_other_shapes(model: Any, lowest: str, highest: str) -> None:
    found = layer_depths(model())
    assert (found[lowest], found[highest]) == (-1, 3)
    assert set(found.values()) == {-1, 0, 1, 2, 3}


def test_virtual_tokens_are_in_no_layer() -> None:
    model = with_virtual_tokens(bert())
    assert {layer_depths(model)[name] for name, _ in trainable_parameters(model)} == {3}


# ---------------------------------------------------------------------------------------------------- groups and rates


def test_biases_and_norms_do_not_decay() -> None:
    model = torch.nn.ModuleDict({"dense": torch.nn.Linear(2, 2), "LayerNorm": torch.nn.LayerNorm(2)})
    groups = create_optimizer(model, TrainingConfig(weight_decay=0.3), 1.0).param_groups
    assert [(len(group["params"]), group["weight_decay"]) for group in groups] == [(1, 0.3), (3, 0.0)]


def test_layer_rates_by_hand() -> None:
    """3 layers, peak 0.08, half the rate a layer: 0.08, 0.04, 0.02 from the top, embeddings 0.08 / 8."""
    found = rates(bert(), TrainingConfig(layer_decay=0.5), 0.08)
    expected = {
        "classifier.weight": 0.08,
        "bert.pooler.dense.bias": 0.08,
        "bert.encoder.layer.2.intermediate.dense.weight": 0.08,
        "bert.encoder.layer.1.attention.self.query.bias": 0.04,
        "bert.encoder.layer.0.output.LayerNorm.weight": 0.02,
        "bert.embeddings.word_embeddings.weight": 0.01,
        "bert.embeddings.LayerNorm.bias": 0.01,
    }
    assert {name: found[name] for name in expected} == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("lora", [False, True])
def test_layer_rates_like_a_slow_twin_that_reads_names(lora: bool) -> None:
    model = with_lora(bert()) if lora else bert()
    found = rates(model, TrainingConfig(layer_decay=0.9), 1e-3)
    assert found.keys() == {name for name, _ in trainable_parameters(model)}
    for name, rate in found.items():
        layer = re.search(r"encoder\.layer\.(\d)\.", name)
        exponent = 2 - int(layer[1]) if layer else 3 if "embeddings" in name else 0
        assert rate == pytest.approx(1e-3 * 0.9**exponent, rel=1e-12), name


def test_layer_rates_leave_the_weight_decay_as_it_is() -> None:
    model = bert()
    decays = {}
    for layer_decay in (1.0, 0.5):
        groups = create_optimizer(model, TrainingConfig(layer_decay=layer_decay, weight_decay=0.3), 1.0).param_groups
        decays[layer_decay] = {
            id(parameter): group["weight_decay"] for group in groups for parameter in group["params"]
        }
    assert decays[1.0] == decays[0.5]


def test_without_layer_decay_there_are_the_two_groups_of_old() -> None:
    model = bert()
    groups = create_optimizer(model, TrainingConfig(layer_decay=1.0, weight_decay=0.1), 1e-3).param_groups
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    plain = [name for name in names.values() if "bias" not in name and "norm" not in name.lower()]
    assert [(group["lr"], group["weight_decay"]) for group in groups] == [(1e-3, 0.1), (1e-3, 0.0)]
    assert [names[id(parameter)] for parameter in groups[0]["params"]] == plain
    assert len(groups[1]["params"]) == len(names) - len(plain)


def test_layer_decay_that_would_do_nothing_is_refused() -> None:
    with pytest.raises(RecipeError, match="layer_decay: nothing below the top layer trains"):
        create_optimizer(with_virtual_tokens(bert()), TrainingConfig(layer_decay=0.9), 1e-3)


def test_layer_decay_needs_layers_where_they_are_known_to_be() -> None:
    from transformers import AlbertConfig, AlbertForSequenceClassification

    model = AlbertForSequenceClassification(AlbertConfig(**SIZES, embedding_size=4))
    with pytest.raises(ModelError, match="albert: its layers aren't where"):
        create_optimizer(model, TrainingConfig(layer_decay=0.9), 1e-3)


# ------------------------------------------------------------------------------------------------------------ schedules


def rate_at(config: TrainingConfig, warmup: int, steps: int) -> list[float]:
    """The rate of each step under a peak of 1."""
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    schedule = create_schedule(optimizer, config, warmup, steps)
    found = []
    for _ in range(steps):
        found.append(schedule.get_last_lr()[0])
        optimizer.step()
        schedule.step()
    return found


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("linear", [0, 0.5, 1, 0.75, 0.5, 0.25]),
        # (1 + cos(pi * k / 4)) / 2 for k = 0, 1, 2, 3
        ("cosine", [0, 0.5, 1, 0.8535533905932737, 0.5, 0.14644660940672627]),
        ("constant", [0, 0.5, 1, 1, 1, 1]),
    ],
)
def test_a_schedule_by_hand(name: Any, expected: list[float]) -> None:
    assert rate_at(TrainingConfig(schedule=name), warmup=2, steps=6) == pytest.approx(expected)


def test_a_schedule_keeps_the_ratios_of_the_layers() -> None:
    config = TrainingConfig(layer_decay=0.5, schedule="cosine")
    optimizer = create_optimizer(bert(), config, 1.0)
    schedule = create_schedule(optimizer, config, 0, 4)
    optimizer.step()
    schedule.step()
    peak = 0.8535533905932737
    assert sorted(set(schedule.get_last_lr())) == pytest.approx([peak / 8, peak / 4, peak / 2, peak])


# ------------------------------------------------------------------------------------------------------------- freezing


@pytest.mark.parametrize("lora", [False, True])
def test_frozen_layers_are_not_in_the_optimizer(lora: bool) -> None:
    model = with_lora(bert()) if lora else bert()
    before = {name for name, _ in trainable_parameters(model)}
    freeze(model, 2)
    gone = before - {name for name, _ in trainable_parameters(model)}
    assert gone == {name for name in before if re.search(r"layer\.[01]\.|embeddings", name)}
    assert any("layer.1." in name for name in gone)
    held = {
        id(parameter)
        for group in create_optimizer(model, TrainingConfig(), 1.0).param_groups
        for parameter in group["params"]
    }
    assert held == {id(parameter) for _, parameter in trainable_parameters(model)}


def test_freezing_nothing_leaves_the_embeddings_too() -> None:
    model = bert()
    freeze(model, 0)
    assert len(trainable_parameters(model)) == len(list(model.parameters()))


def test_freezing_all_layers_leaves_what_is_above_them() -> None:
    model = bert()
    freeze(model, 3)
    assert {name.split(".")[-2] for name, _ in trainable_parameters(model)} == {"dense", "classifier"}


def test_freezing_more_layers_than_there_are() -> None:
    with pytest.raises(RecipeError, match=r"^freeze_layers: 4 is more than the 3 layers of the model; at most 3$"):
        freeze(bert(), 4)


def test_freezing_where_nothing_trains_anyway_is_refused() -> None:
    with pytest.raises(RecipeError, match="freeze_layers: nothing trains in the lowest 2 of 3 layers anyway"):
        freeze(with_virtual_tokens(bert()), 2)


# ----------------------------------------------------------------------------------------------------------- unfreezing


def deepest(model: Any) -> int:
    depth = layer_depths(model)
    return min(depth[name] for name, _ in trainable_parameters(model))


def test_unfreezing_by_hand() -> None:
    """Head and 3 layers are 4 parts of 10 steps; the embeddings join layer 0."""
    model = bert()
    policy = unfreeze_gradually(model, 10)
    assert deepest(model) == -1  # what will train must be seen by the optimizer first
    found = []
    for step in range(10):
        policy(step)
        found.append(deepest(model))
    assert found == [3, 3, 3, 2, 2, 1, 1, 1, -1, -1]
    policy(0)
    assert {name.split(".")[0] for name, _ in trainable_parameters(model)} == {"bert", "classifier"}
    assert all("pooler" in name or "classifier" in name for name, _ in trainable_parameters(model))


def test_unfreezing_leaves_the_frozen_alone() -> None:
    model = with_lora(bert())
    freeze(model, 2)
    in_the_end = {name for name, _ in trainable_parameters(model)}
    policy = unfreeze_gradually(model, 4)
    found = []
    for step in range(4):
        policy(step)
        found.append(deepest(model))
    assert found == [3, 3, 2, 2]
    assert {name for name, _ in trainable_parameters(model)} == in_the_end


def test_unfreezing_in_fewer_steps_than_parts_ends_with_all() -> None:
    model = bert()
    policy = unfreeze_gradually(model, 1)
    policy(0)
    assert deepest(model) == 3
    policy(1)  # past the end
    assert deepest(model) == -1


def test_unfreezing_where_the_head_alone_trains_is_refused() -> None:
    with pytest.raises(RecipeError, match="gradual_unfreezing: only the head trains"):
        unfreeze_gradually(with_virtual_tokens(bert()), 10)


@pytest.mark.parametrize("layer_decay", [1.0, 0.5])
def test_the_fused_step_is_adamws(layer_decay: float) -> None:
    """Against torch's AdamW, one parameter after the other: groups of their own rates, and one without a gradient."""
    config = TrainingConfig(weight_decay=0.1, layer_decay=layer_decay)
    fused, plain = bert(), bert()
    own = create_optimizer(fused, config, 1e-2)
    names = {id(parameter): name for name, parameter in fused.named_parameters()}
    same = dict(plain.named_parameters())
    groups = [{**group, "params": [same[names[id(p)]] for p in group["params"]]} for group in own.param_groups]
    slow = torch.optim.AdamW([{**group, "fused": False, "foreach": False} for group in groups])
    idle = "bert.embeddings.token_type_embeddings.weight"
    for step in range(3):
        for model, optimizer in ((fused, own), (plain, slow)):
            torch.manual_seed(step)
            model(input_ids=torch.arange(1, 9)[None], labels=torch.tensor([1])).loss.backward()
            dict(model.named_parameters())[idle].grad = None
            optimizer.step()
            optimizer.zero_grad()
    assert not own.state[dict(fused.named_parameters())[idle]]
    assert not torch.equal(fused.classifier.weight, bert().classifier.weight)
    torch.testing.assert_close(fused.state_dict(), plain.state_dict())

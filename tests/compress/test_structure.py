"""Pruning against its slow twin, a masked model; counts, composition, layers, and the folder it is saved in."""

from __future__ import annotations

import copy
import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from support_prune import KINDS, inputs, logits, masked, tiny, words
from transformers import AutoModel, AutoModelForCausalLM, AutoModelForSequenceClassification

from edgeft.compress.prune.structure import (
    Cut,
    count_kept_features,
    count_kept_units,
    count_most_important,
    cut_by_ratios,
    pick_best,
    prune,
)
from edgeft.errors import ModelError
from edgeft.models import devices, model_facts, model_folder, model_layers, shapes

GROUPED = ("llama", "mistral", "qwen2")
CUTS: dict[str, dict[str, Any]] = {
    "heads": {"heads": 0.5},
    "channels": {"channels": 0.5},
    "width": {"width": 0.5},
    "layers": {"layers": 0.34},
    "everything": {"heads": 0.5, "channels": 0.3, "width": 0.25, "layers": 0.6},
}


def pruned(kind: str, importance: Any = "random", seed: int = 1, auto: Any = None, **ratios: float) -> tuple[Any, Any]:
    """A model and what it kept."""
    model = tiny(kind, auto=auto or AutoModelForSequenceClassification)
    return model, prune(model, cut_by_ratios(model, **ratios), importance, [inputs(labels=True)], seed=seed)


def same(one: torch.Tensor, other: torch.Tensor, within: float = 1e-5) -> None:
    torch.testing.assert_close(one, other, rtol=0, atol=within)


@pytest.mark.parametrize("cut", CUTS)
@pytest.mark.parametrize("kind", KINDS)
def test_pruned_equals_masked(kind: str, cut: str) -> None:
    model, structure = pruned(kind, **CUTS[cut])
    twin = tiny(kind)
    assert (logits(model) - logits(twin)).abs().max() > 1e-3
    with masked(twin, structure):
        same(logits(model), logits(twin))


@pytest.mark.parametrize("importance", ["taylor", "magnitude", "random"])
@pytest.mark.parametrize("kind", ["bert", "modernbert", "llama"])
def test_layers_compete(kind: str, importance: Any) -> None:
    """Whatever each layer loses, the model is the masked one; in all as much stays as the shares say."""
    model, twin = tiny(kind), tiny(kind)
    shares = cut_by_ratios(model, heads=0.5, channels=0.5)
    for cut in (dataclasses.replace(shares, across=True), Cut(across=True)):  # the second takes nothing more
        structure = prune(model, cut, importance, [inputs(labels=True)])
    heads, channels = (
        [len(own) for own in kept]
        for kept in zip(*((one.heads, one.channels) for one in structure.layers), strict=True)
    )
    assert shares.heads is not None
    assert sum(heads) == sum(shares.heads)
    assert sum(channels) == 32 * (sum(shares.channels or ()) // 32)
    assert min(heads) >= 1
    assert all(count % 32 == 0 and count for count in channels)
    with masked(twin, structure):
        same(logits(model), logits(twin))


@pytest.mark.parametrize("kind", ["bert", "llama"])
def test_the_layer_that_matters_keeps_all(kind: str) -> None:
    model = tiny(kind)
    with torch.no_grad():
        for parameter in shapes.encoder_layers(model)[1].parameters():
            parameter.mul_(100)
    heads = [2, 1, 1] if kind in GROUPED else [2, 2, 2]
    layers = prune(model, Cut(heads, [64, 32, 32], across=True), "magnitude").layers
    assert [(len(layer.heads), len(layer.channels)) for layer in layers] == [
        (1, 32),
        (max(2, sum(heads) - 2), 64),
        (1, 32),
    ]


@pytest.mark.parametrize(("heads", "channels"), [([3, 3, 2], [64, 32, 32]), ([4, 4, 3], [64, 64, 64])])
def test_what_stays_in_all_may_be_more_than_a_layer_has(heads: list[int], channels: list[int]) -> None:
    """As in the rounds after the first: lists of layers that once lost alike, and layers that didn't."""
    model = tiny("bert")
    first = prune(model, Cut(heads, channels, across=True), "random", seed=3)
    wanted = Cut([max(1, sum(heads) // 3)] * 3, [sum(channels) // 3 // 8 * 8] * 3, across=True)
    second = prune(model, wanted, "random", seed=4)
    assert sum(len(layer.heads) for layer in second.layers) == min(sum(heads), 3 * max(1, sum(heads) // 3))
    assert sum(len(layer.channels) for layer in second.layers) <= sum(len(layer.channels) for layer in first.layers)
    again = prune(model, Cut([4, 4, 4], [64, 64, 64], across=True), "random", seed=5)
    assert again == second  # no less is wanted than there is


def test_layers_compete_by_hand() -> None:
    scores = [torch.tensor([9.0, 1, 8, 7]), torch.tensor([3.0, 2, 6, 5]), torch.tensor([0.1, 0.2, 0.3, 0.4])]
    assert count_most_important(scores, 6, 1) == [3, 2, 1]  # 9 8 7, 6 5, and nobody goes without
    assert count_most_important(scores, 8, 2) == [4, 2, 2]  # 9 + 8, 6 + 5 and 0.4 + 0.3 stay in any case, then 7 + 1
    assert count_most_important(scores, 9, 2) == [4, 2, 2]
    assert count_most_important(scores, 3, 1) == count_most_important(scores, 1, 1) == [1, 1, 1]
    assert count_most_important(scores, 12, 4) == [4, 4, 4]
    assert count_most_important([torch.ones(2), torch.ones(8)], 8, 4) == [2, 4]


@pytest.mark.parametrize("kind", ["bert", "modernbert", "llama"])
def test_what_stays_is_counted_by_hand(kind: str) -> None:
    model, structure = pruned(kind, **CUTS["everything"])
    assert [(len(layer.heads), len(layer.channels)) for layer in structure.layers] == [(1 + (kind not in GROUPED), 48)]
    assert len(structure.width) == shapes.width(model) == 24
    block, size = shapes.blocks(model)[0], structure.head_size
    shared = 2 * size  # two heads of four, or one key/value head with the two query heads that share it
    assert block.output.weight.shape == (24, shared)
    written = {"bert": [shared] * 3, "modernbert": [3 * shared], "llama": [shared, size, size]}[kind]
    assert [list(writer.weight.shape) for writer in block.writers] == [[rows, 24] for rows in written]
    assert (block.down.in_features, block.down.out_features) == (48, 24)
    if kind == "modernbert":
        layers: Any = shapes.encoder_layers(model)
        assert layers[0].mlp.Wi.weight.shape == (96, 24)


@pytest.mark.parametrize("importance", ["taylor", "magnitude"])
@pytest.mark.parametrize("kind", ["bert", "modernbert", "llama"])
def test_every_importance_cuts_everything(kind: str, importance: str) -> None:
    model, structure = pruned(kind, importance, **CUTS["everything"])
    twin = tiny(kind)
    with masked(twin, structure):
        same(logits(model), logits(twin))


@pytest.mark.parametrize("kind", KINDS)
def test_pruned_twice_equals_masked_by_original_indices(kind: str) -> None:
    model, _ = pruned(kind, heads=0.25, channels=0.25, width=0.25, layers=0.34)
    structure = prune(model, cut_by_ratios(model, heads=0.5, channels=0.5, width=0.3, layers=0.5), "random", seed=2)
    assert shapes.structure_of(model) == structure
    assert len(structure.layers) == 1
    assert len(structure.width) == 16
    twin = tiny(kind)
    with masked(twin, structure):
        same(logits(model), logits(twin))


@pytest.mark.parametrize("kind", ["bert", "llama"])
def test_each_layer_can_keep_another_number(kind: str) -> None:
    model = tiny(kind)
    most = len(shapes.structure_of(model).layers[0].heads)
    structure = prune(model, Cut(heads=[1, most, 1], channels=[64, 8, 24]), "magnitude")
    assert [(len(layer.heads), len(layer.channels)) for layer in structure.layers] == [(1, 64), (most, 8), (1, 24)]
    assert len(structure.width) == 32
    twin = tiny(kind)
    with masked(twin, structure):
        same(logits(model), logits(twin))


@pytest.mark.parametrize(
    "cut", [Cut(heads=[4, 5, 4]), Cut(heads=[4, 4]), Cut(channels=[0, 8, 8]), Cut(width=40), Cut(layers=0)]
)
def test_more_or_less_than_there_is(cut: Cut) -> None:
    with pytest.raises(ValueError, match=r"of a model with \[4, 4, 4\] heads, \[64, 64, 64\] channels and width 32"):
        prune(tiny("bert"), cut, "random")


@pytest.mark.parametrize("kind", ["bert", "distilbert"])
def test_sdpa_and_eager_agree_and_heads_are_mended(kind: str) -> None:
    both = [tiny(kind, attention) for attention in ("sdpa", "eager")]
    for model in both:
        prune(model, cut_by_ratios(model, heads=0.75, channels=0.3), "magnitude")
    same(logits(both[0]), logits(both[1]))
    attention = shapes.blocks(both[0])[0].attention
    assert getattr(attention, "n_heads" if kind == "distilbert" else "num_attention_heads") == 1
    assert both[0].config.num_attention_heads == 4


def test_parameters_go_as_counted() -> None:
    """Each layer loses one head (4 * 32 * 8 weights, 3 * 8 biases) and 16 channels (2 * 32 weights and a bias each)."""
    model, _ = pruned("bert", heads=0.25, channels=0.25)
    whole = devices.count_parameters(tiny("bert"))
    assert whole - devices.count_parameters(model) == 3 * (4 * 32 * 8 + 3 * 8 + 16 * (2 * 32 + 1))


def test_parameters_of_the_width_go_as_counted() -> None:
    """A feature of the hidden states is a column of every table and reader, a row of every writer, and in each norm.

    50 tokens, 40 positions, 2 types and a norm; in each layer 3 * 32 read and 32 written by attention, 64 each by the
    feed-forward part, 2 biases and 2 norms; the pooler reads it for 32 features of its own.
    """
    model, _ = pruned("bert", width=0.25)
    one = 50 + 40 + 2 + 2 + 3 * (3 * 32 + 32 + 64 + 64 + 2 + 4) + 32
    assert devices.count_parameters(tiny("bert")) - devices.count_parameters(model) == 8 * one


def test_ratio_zero_changes_nothing(tmp_path: Path) -> None:
    model, structure = pruned("bert", "taylor")
    assert structure.layers[0] == shapes.LayerStructure(0, [0, 1, 2, 3], list(range(64)))
    assert torch.equal(logits(model), logits(tiny("bert")))
    model_folder.save(model, words(), tmp_path, 16)
    assert not (tmp_path / "structure.json").exists()


def test_no_cut_at_all() -> None:
    model = tiny("llama")
    assert prune(model, Cut(), "taylor", [inputs(labels=True)]) == shapes.structure_of(tiny("llama"))


def test_chance_follows_the_seed() -> None:
    structures = [pruned("bert", seed=seed, **CUTS["everything"])[1] for seed in (1, 1, 2)]
    assert structures[0] == structures[1] != structures[2]


def test_training_mode_and_frozen_parameters_stay() -> None:
    """Of four parts the last layer and the head learn on, wherever that layer comes to stand."""
    model = tiny("bert").train()
    model.base_model.requires_grad_(False)
    last = shapes.encoder_layers(model)[2].requires_grad_(True)
    cut = cut_by_ratios(model, heads=0.5, channels=0.5, width=0.5, layers=0.34)
    assert prune(model, cut, "random", seed=4).layers[-1].layer == 2
    assert model.training
    learning = {id(parameter) for parameter in model.parameters() if parameter.requires_grad}
    assert learning == {id(parameter) for part in (last, model.classifier) for parameter in part.parameters()}


@pytest.mark.parametrize("kind", ["bert", "llama"])
def test_a_pruned_model_trains(kind: str) -> None:
    model, _ = pruned(kind, "magnitude", **CUTS["everything"])
    model.train()(**inputs(labels=True)).loss.backward()
    gradients = [block.down.weight.grad for block in shapes.blocks(model)]
    assert all(grad is not None and grad.shape == (24, 48) for grad in gradients)
    assert all(parameter.grad is not None for parameter in model.parameters())


# ------------------------------------------------------------------------------------------------------------- layers


@pytest.mark.parametrize("kind", KINDS)
def test_layers_go_as_copying_the_others_would(kind: str) -> None:
    model, structure = pruned(kind, layers=0.34, seed=4)
    kept = [layer.layer for layer in structure.layers]
    twin = model_layers.copy_layers(tiny(kind), kept)
    assert torch.equal(logits(model), logits(twin))
    assert model.config.to_dict() == twin.config.to_dict()
    for ours, theirs in zip(shapes.encoder_layers(model), shapes.encoder_layers(twin), strict=True):
        for one, other in zip(ours.modules(), theirs.modules(), strict=True):
            assert getattr(one, "layer_idx", None) == getattr(other, "layer_idx", None)


def test_modernberts_first_layer_stays() -> None:
    """It alone has no norm before attention, and fits no other place."""
    kept = [[layer.layer for layer in pruned("modernbert", layers=0.6, seed=seed)[1].layers] for seed in range(6)]
    assert kept == [[0]] * 6
    assert len({pruned("bert", layers=0.6, seed=seed)[1].layers[0].layer for seed in range(6)}) > 1


def test_a_language_model_writes_on_with_fewer_layers() -> None:
    """The cache of keys and values counts layers and heads."""
    model, _ = pruned("llama", auto=AutoModelForCausalLM, **CUTS["everything"])
    ids = inputs()["input_ids"][:1]
    options = {"max_new_tokens": 4, "do_sample": False, "eos_token_id": None}
    cached = model.generate(ids, **options)
    assert torch.equal(cached, model.generate(ids, use_cache=False, **options))


@pytest.mark.parametrize("tied", [True, False])
def test_language_models(tied: bool, tmp_path: Path) -> None:
    model = tiny("llama", auto=AutoModelForCausalLM, tie_word_embeddings=tied)
    twin = copy.deepcopy(model)
    batch = inputs() | {"labels": inputs()["input_ids"]}
    structure = prune(model, cut_by_ratios(model, **CUTS["everything"]), "taylor", [batch])
    with masked(twin, structure):
        same(logits(model), logits(twin))
    model_folder.save(model, words(), tmp_path, 16)
    loaded = model_folder.load(tmp_path, model_folder.Head("AutoModelForCausalLM"))
    for each in (model, loaded):
        assert (each.lm_head.weight is each.model.embed_tokens.weight) == tied
    same(logits(loaded), logits(model), 1e-6)


# ------------------------------------------------------------------------------------------------------------ folders


@pytest.mark.parametrize(
    ("kind", "cut"),
    [*((kind, "everything") for kind in KINDS), ("bert", "heads"), ("bert", "layers"), ("llama", "width")],
)
def test_a_saved_pruned_model_answers_alike(kind: str, cut: str, tmp_path: Path) -> None:
    model, structure = pruned(kind, **CUTS[cut])
    model_folder.save(model, words(), tmp_path, 16)
    loaded = model_folder.load_classifier(tmp_path, None)
    assert type(loaded) is type(model)
    assert shapes.structure_of(loaded) == structure
    same(logits(loaded), logits(model), 1e-6)
    assert model_facts.read_facts(tmp_path).width == len(structure.width)


def test_pruning_goes_on_after_loading(tmp_path: Path) -> None:
    model, _ = pruned("bert", heads=0.25, channels=0.25, width=0.25, layers=0.34)
    model_folder.save(model, words(), tmp_path, 16)
    loaded = model_folder.load_classifier(tmp_path, None)
    cut = cut_by_ratios(model, **CUTS["everything"])
    assert prune(loaded, cut, "magnitude") == prune(model, cut, "magnitude")
    same(logits(loaded), logits(model), 1e-6)


def test_weights_in_several_files(tmp_path: Path) -> None:
    model, _ = pruned("llama", **CUTS["everything"])
    model_folder.save(model, words(), tmp_path, 16)
    whole = shapes.stored_weights(tmp_path).shapes
    assert whole["model.layers.0.mlp.down_proj.weight"] == [24, 48]
    (tmp_path / "model.safetensors").unlink()
    model.save_pretrained(tmp_path, max_shard_size="10KB")
    assert len(list(tmp_path.glob("model-*.safetensors"))) > 1
    assert shapes.stored_weights(tmp_path).shapes == whole
    same(logits(model_folder.load_classifier(tmp_path, None)), logits(model), 1e-6)


@pytest.mark.parametrize("kind", KINDS)
def test_other_heads_read_the_pruned_width(kind: str, tmp_path: Path) -> None:
    """A folder of a classifier, or of a bare body, opened with other labels, other heads or none."""
    model, _ = pruned(kind, width=0.5, heads=0.5)
    model_folder.save(model, words(), tmp_path / "classifier", 16)
    bare = model_folder.load(tmp_path / "classifier", model_folder.Head("AutoModel"))
    with torch.no_grad():
        assert bare(**inputs()).last_hidden_state.shape == (4, 9, 16)
    model_folder.save(bare, words(), tmp_path / "bare", 16)
    for folder in ("classifier", "bare"):
        three = model_folder.load_classifier(tmp_path / folder, ["a", "b", "c"])
        assert logits(three).shape == (4, 3)
        tagger = model_folder.load(
            tmp_path / folder, model_folder.Head("AutoModelForTokenClassification", ["a", "b", "c"])
        )
        assert logits(tagger).shape == (4, 9, 3)
    model_folder.save(tagger, words(), tmp_path / "tagger", 16)
    same(
        logits(model_folder.load(tmp_path / "tagger", model_folder.Head("AutoModelForTokenClassification"))),
        logits(tagger),
    )
    assert logits(model_folder.load_classifier(tmp_path / "tagger", None)).shape == (4, 3)


@pytest.mark.parametrize("auto", ["AutoModel", "AutoModelForTokenClassification", "AutoModelForQuestionAnswering"])
def test_other_heads_are_pruned(auto: str) -> None:
    head = model_folder.Head(auto)
    model = tiny("bert", auto=head.factory)
    twin = copy.deepcopy(model)
    structure = prune(model, cut_by_ratios(model, **CUTS["everything"]), "random")
    with torch.no_grad(), masked(twin, structure):
        ours, theirs = model(**inputs()), twin(**inputs())
    for name, expected in theirs.items():
        same(ours[name], expected[..., structure.width] if name == "last_hidden_state" else expected)


def test_a_structure_of_other_weights(tmp_path: Path) -> None:
    model_folder.save(pruned("bert", heads=0.5)[0], words(), tmp_path, 16)
    path = tmp_path / "structure.json"
    found = json.loads(path.read_text())
    found["layers"][1]["heads"] = [0]
    path.write_text(json.dumps(found))
    noted = r"structure\.json says \[\(2, 64\), \(1, 64\), \(2, 64\)\] and 32, but the weights have .*width \[32\]"
    with pytest.raises(ModelError, match=noted):
        model_folder.load_classifier(tmp_path, None)


def test_layers_of_a_pruned_model_keep_their_shapes(tmp_path: Path) -> None:
    model = tiny("bert")
    structure = prune(model, Cut(heads=[1, 2, 3], channels=[8, 16, 24], width=24), "random", seed=3)
    student = model_layers.copy_layers(model, [1, 2])
    assert shapes.structure_of(student).layers == structure.layers[1:]
    model_folder.save(student, words(), tmp_path, 16)
    same(logits(model_folder.load_classifier(tmp_path, None)), logits(student), 1e-6)


def test_a_bare_encoder_keeps_its_pooling(tmp_path: Path) -> None:
    model = tiny("bert", auto=AutoModel)
    prune(model, cut_by_ratios(model, width=0.5), "magnitude")
    model_folder.save(model, words(), tmp_path, 16)
    loaded = model_folder.load(tmp_path, model_folder.Head("AutoModel"))
    with torch.no_grad():
        for one, other in zip(loaded(**inputs()).values(), model(**inputs()).values(), strict=True):
            same(one, other, 1e-6)


# ------------------------------------------------------------------------------------------------------------- counts


def test_counts_and_choice_by_hand() -> None:
    assert [count_kept_units(12, ratio) for ratio in (0, 0.25, 0.3, 0.5, 0.99)] == [12, 9, 8, 6, 1]
    assert count_kept_units(1, 0.9) == 1
    assert [count_kept_features(1536, ratio) for ratio in (0, 0.25, 0.3, 0.999)] == [1536, 1152, 1072, 8]
    assert [count_kept_features(4, 0.5), count_kept_features(20, 0), count_kept_features(20, 0.1)] == [4, 20, 16]
    assert pick_best(torch.tensor([1.0, 3.0, 1.0, 2.0]), 3) == [0, 1, 3]
    ratios = cut_by_ratios(tiny("llama"), heads=0.5, channels=0.5, width=0.2, layers=0.34)
    assert ratios == Cut(heads=[1, 1, 1], channels=[32, 32, 32], width=24, layers=2)


def test_other_architectures_are_told_apart() -> None:
    known = "BERT-, RoBERTa-, ELECTRA-, DistilBERT-, ModernBERT- and Llama-shaped"
    with pytest.raises(ModelError, match=f"pruning knows {known} models, not mpnet"):
        prune(tiny("mpnet", "eager"), Cut(), "random")


def test_taylor_without_batches() -> None:
    model = tiny("bert")
    with pytest.raises(ValueError, match="needs example batches"):
        prune(model, cut_by_ratios(model, heads=0.5), "taylor")

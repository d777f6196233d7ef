"""Pruning against its slow twin, a masked model; counts, composition, and the folder it is saved in."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from transformers import AutoConfig, AutoModelForSequenceClassification, PreTrainedTokenizerFast

from edgeft import models, shapes
from edgeft.compress.structure import best, kept_channels, kept_heads, prune
from edgeft.errors import ModelError

KINDS = ["bert", "roberta", "distilbert", "electra"]
SIZES = {"vocab_size": 50, "max_position_embeddings": 40}
BERT = {"hidden_size": 32, "num_attention_heads": 4, "num_hidden_layers": 2, "intermediate_size": 64}
DISTILBERT = {"dim": 32, "n_heads": 4, "n_layers": 2, "hidden_dim": 64}


def tiny(kind: str, attention: str = "sdpa") -> Any:
    """A model whose biases are not zero either."""
    torch.manual_seed(5)
    config = AutoConfig.for_model(kind, **SIZES, **(DISTILBERT if kind == "distilbert" else BERT), pad_token_id=0)
    model = AutoModelForSequenceClassification.from_config(config, attn_implementation=attention).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return model


def inputs(labels: bool = False) -> dict[str, torch.Tensor]:
    torch.manual_seed(6)
    ids = torch.randint(4, 50, (4, 9))
    mask = torch.ones_like(ids)
    mask[1, 5:] = 0
    batch = {"input_ids": ids, "attention_mask": mask}
    return batch | {"labels": torch.tensor([0, 1, 1, 0])} if labels else batch


@torch.no_grad()
def logits(model: Any) -> torch.Tensor:
    return model(**inputs()).logits


@contextmanager
def masked(model: Any, structure: shapes.Structure) -> Iterator[None]:
    """The slow twin: what removed heads and channels give is zero in the original."""
    handles = []
    for block, layer in zip(shapes.blocks(model), structure.layers, strict=True):
        heads = [head * structure.head_size + at for head in layer.heads for at in range(structure.head_size)]
        for reader, kept in ((block.output, heads), (block.down, layer.channels)):
            mask = torch.zeros(reader.in_features)
            mask[kept] = 1
            handles.append(reader.register_forward_pre_hook(lambda _, given, mask=mask: (given[0] * mask,)))
    yield
    for handle in handles:
        handle.remove()


@pytest.mark.parametrize("importance", ["taylor", "magnitude", "random"])
@pytest.mark.parametrize("kind", KINDS)
def test_pruned_equals_masked(kind: str, importance: Any) -> None:
    model = tiny(kind)
    pruned = copy.deepcopy(model)
    structure = prune(pruned, 0.5, 0.5, importance, [inputs(labels=True)], seed=1)
    assert [(len(layer.heads), len(layer.channels)) for layer in structure.layers] == [(2, 32), (2, 32)]
    with masked(model, structure):
        torch.testing.assert_close(logits(pruned), logits(model), rtol=0, atol=1e-5)
    assert (logits(pruned) - logits(model)).abs().max() > 1e-4


@pytest.mark.parametrize("kind", KINDS)
def test_pruned_twice_equals_masked_by_original_indices(kind: str) -> None:
    model = tiny(kind)
    pruned = copy.deepcopy(model)
    prune(pruned, 0.25, 0.25, "random", seed=1)
    structure = prune(pruned, 0.5, 0.5, "random", seed=2)
    assert [(len(layer.heads), len(layer.channels)) for layer in structure.layers] == [(2, 24), (2, 24)]
    assert shapes.structure_of(pruned) == structure
    with masked(model, structure):
        torch.testing.assert_close(logits(pruned), logits(model), rtol=0, atol=1e-5)


@pytest.mark.parametrize("kind", ["bert", "distilbert"])
def test_sdpa_and_eager_agree_and_heads_are_mended(kind: str) -> None:
    both = [tiny(kind, attention) for attention in ("sdpa", "eager")]
    for model in both:
        prune(model, 0.75, 0.3, "magnitude")
    torch.testing.assert_close(logits(both[0]), logits(both[1]), rtol=0, atol=1e-5)
    attention = shapes.blocks(both[0])[0].attention
    assert getattr(attention, "n_heads" if kind == "distilbert" else "num_attention_heads") == 1
    assert both[0].config.num_attention_heads == 4


def test_parameters_go_as_counted() -> None:
    """Each layer loses one head (4 * 32 * 8 weights, 3 * 8 biases) and 16 channels (2 * 32 weights and a bias each)."""
    model = tiny("bert")
    before = models.parameters(model)
    prune(model, 0.25, 0.25, "magnitude")
    assert before - models.parameters(model) == 2 * (4 * 32 * 8 + 3 * 8 + 16 * (2 * 32 + 1))


def test_ratio_zero_changes_nothing(tmp_path: Path) -> None:
    model = tiny("bert")
    twin = copy.deepcopy(model)
    structure = prune(model, 0.0, 0.0, "taylor", [inputs(labels=True)])
    assert structure.layers[0] == shapes.LayerStructure([0, 1, 2, 3], list(range(64)))
    assert torch.equal(logits(model), logits(twin))
    models.save(model, words(), tmp_path, 16)
    assert not (tmp_path / "structure.json").exists()


def test_chance_follows_the_seed() -> None:
    structures = [prune(tiny("bert"), 0.5, 0.5, "random", seed=seed) for seed in (1, 1, 2)]
    assert structures[0] == structures[1] != structures[2]


def test_training_mode_and_frozen_parameters_stay() -> None:
    model = tiny("bert").train()
    model.base_model.requires_grad_(False)
    prune(model, 0.5, 0.5, "taylor", [inputs(labels=True)])
    assert model.training
    assert not any(parameter.requires_grad for parameter in model.base_model.parameters())
    assert model.classifier.weight.requires_grad


def test_a_pruned_model_trains() -> None:
    model = tiny("bert")
    prune(model, 0.5, 0.5, "magnitude")
    model.train()(**inputs(labels=True)).loss.backward()
    assert all(block.down.weight.grad.shape == (32, 32) for block in shapes.blocks(model))


def words() -> PreTrainedTokenizerFast:
    vocabulary = {word: index for index, word in enumerate(["[PAD]", "[UNK]", "good", "bad"])}
    return PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer(WordLevel(vocabulary, unk_token="[UNK]")), pad_token="[PAD]", unk_token="[UNK]"
    )


@pytest.mark.parametrize("rounds", [1, 2])
@pytest.mark.parametrize("kind", KINDS)
def test_a_saved_pruned_model_answers_alike(kind: str, rounds: int, tmp_path: Path) -> None:
    model = tiny(kind)
    for seed in range(rounds):
        structure = prune(model, 0.3, 0.3, "random", seed=seed)
    models.save(model, words(), tmp_path, 16)
    loaded = models.load_classifier(tmp_path, None)
    assert type(loaded) is type(model)
    assert shapes.structure_of(loaded) == structure
    torch.testing.assert_close(logits(loaded), logits(model), rtol=0, atol=1e-6)


def test_pruning_goes_on_after_loading(tmp_path: Path) -> None:
    model = tiny("bert")
    prune(model, 0.25, 0.25, "random", seed=0)
    models.save(model, words(), tmp_path, 16)
    loaded = models.load_classifier(tmp_path, None)
    assert prune(loaded, 0.5, 0.5, "magnitude") == prune(model, 0.5, 0.5, "magnitude")
    torch.testing.assert_close(logits(loaded), logits(model), rtol=0, atol=1e-6)


def test_layers_of_a_pruned_model_keep_their_shapes(tmp_path: Path) -> None:
    model = tiny("bert")
    structure = prune(model, 0.5, 0.5, "random", seed=3)
    student = models.copy_layers(model, [1])
    assert shapes.structure_of(student).layers == structure.layers[1:]
    models.save(student, words(), tmp_path, 16)
    loaded = models.load_classifier(tmp_path, None)
    torch.testing.assert_close(logits(loaded), logits(student), rtol=0, atol=1e-6)


def test_counts_and_choice_by_hand() -> None:
    assert [kept_heads(12, ratio) for ratio in (0, 0.25, 0.3, 0.5, 0.99)] == [12, 9, 8, 6, 1]
    assert kept_heads(1, 0.9) == 1
    assert [kept_channels(1536, ratio) for ratio in (0, 0.25, 0.3, 0.999)] == [1536, 1152, 1072, 8]
    assert [kept_channels(4, 0.5), kept_channels(20, 0), kept_channels(20, 0.1)] == [4, 20, 16]
    assert best(torch.tensor([1.0, 3.0, 1.0, 2.0]), 3) == [0, 1, 3]


def test_other_architectures_are_told_apart() -> None:
    with pytest.raises(ModelError, match=r"pruning knows BERT-, RoBERTa- and DistilBERT-shaped models, not mpnet"):
        prune(tiny("mpnet", "eager"), 0.5, 0.5, "random")


def test_taylor_without_batches() -> None:
    with pytest.raises(ValueError, match="needs example batches"):
        prune(tiny("bert"), 0.5, 0.5, "taylor")

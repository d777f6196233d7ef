"""Every method on every shape of encoder: it trains, resumes, merges without loss, and reloads without peft."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args, get_type_hints

import numpy as np
import pytest
import torch
from support import killed_finetune

from edgeft import recipe
from edgeft.data.dataset import load as load_dataset
from edgeft.errors import ModelError, RecipeError
from edgeft.models import model_facts, model_folder
from edgeft.models.model_facts import Facts
from edgeft.pipeline.preflight import preflight
from edgeft.recipe import DataConfig, FinetuneConfig
from edgeft.train import methods
from edgeft.train.evaluate import read_predictions
from edgeft.train.finetune import run as finetune
from edgeft.train.loop.batches import encode
from edgeft.train.tasks.sequences import SingleLabel, predict_encoded

METHODS = ("full", "head", "lora", "dora", "rslora", "qlora", "ia3", "peanut", "prompt", "p_tuning")
ADAPTERS = METHODS[2:]
HEAD = SingleLabel.head(["a", "b"])
KINDS = ("bert", "roberta", "distilbert")
VIRTUAL = ("prompt", "p_tuning")
# Of BERT every method trains; of the others those that look for layers by their names, or put something in front.
PAIRS = [(method, "bert") for method in METHODS]
PAIRS += [("full", "roberta"), ("head", "roberta"), ("lora", "roberta"), ("prompt", "roberta")]
PAIRS += [("head", "distilbert"), ("qlora", "distilbert"), ("ia3", "distilbert"), ("p_tuning", "distilbert")]
SMALL: dict[str, Any] = {
    "hidden_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 128,
    "max_position_embeddings": 64,
}
SHAPES: dict[str, dict[str, Any]] = {
    "roberta": {**SMALL, "pad_token_id": 0},
    "distilbert": {"dim": 64, "n_layers": 2, "n_heads": 4, "hidden_dim": 128, "max_position_embeddings": 64},
}
# 216 training rows, 7 steps; the rates are those that a few steps of a random model need.
QUICK: dict[str, Any] = {"epochs": 0.5, "batch_size": 16, "max_length": 16, "seed": 1, "early_stopping_patience": 0}
RATES = {"full": 2e-3, "head": 1e-2, "rslora": 1e-3, "ia3": 2e-2, "prompt": 3e-2}


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory, tiny_model: Path, tiny_tokenizer: Any) -> Callable[[str], Path]:
    """Gives the folder of a tiny encoder of a kind."""
    from transformers import AutoConfig, AutoModel

    def make(kind: str) -> Path:
        folder = tmp_path_factory.getbasetemp() / f"tiny-{kind}"
        if kind == "bert" or folder.exists():
            return tiny_model if kind == "bert" else folder
        torch.manual_seed(0)
        config = AutoConfig.for_model(kind, vocab_size=len(tiny_tokenizer), **SHAPES[kind])
        AutoModel.from_config(config).save_pretrained(folder)
        tiny_tokenizer.save_pretrained(folder)
        return folder

    return make


def settings(method: Any, model: Path, **others: Any) -> FinetuneConfig:
    return FinetuneConfig(model=str(model), method=method, learning_rate=RATES.get(method, 4e-3), **{**QUICK, **others})


def prepared(config: FinetuneConfig, source: Path) -> Any:
    """The model ready to train for two labels."""
    model = methods.load(config, str(source), HEAD, torch.device("cpu"))
    return methods.prepare(config, model, SingleLabel.adapter)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("method", ["full", "lora"])
def test_dropout_is_that_of_the_training(
    kind: str, method: Any, encoder: Callable[[str], Path], tiny_tokenizer: Any
) -> None:
    batch = tiny_tokenizer(["a good film", "bad"], padding=True, return_tensors="pt")
    batch.pop("token_type_ids", None)

    def answers(**options: Any) -> tuple[Any, Any, Any]:
        model = prepared(settings(method, encoder(kind), lora_dropout=0.0, **options), encoder(kind))
        with torch.no_grad():
            return model.config, model.eval()(**batch).logits, model.train()(**batch).logits

    (own, calm, drawn), (off, still, same) = answers(), answers(dropout=0.0)
    assert any(model_facts.dropouts(own).values())
    assert not any(model_facts.dropouts(off).values())
    assert torch.equal(calm, still)
    assert not torch.allclose(drawn, calm)
    torch.testing.assert_close(same, still)  # without dropout training mode answers as evaluation does


def test_options_that_do_nothing_are_refused() -> None:
    facts = Facts("bert", 2, 64)
    with pytest.raises(RecipeError, match=r"^finetune.lora_rank: has no effect with method full; leave it at 16$"):
        methods.check(FinetuneConfig(method="full", lora_rank=4), facts, SingleLabel)
    with pytest.raises(RecipeError, match=r"^finetune.lora_alpha: has no effect with method peanut"):
        methods.check(FinetuneConfig(method="peanut", lora_rank=4, lora_alpha=3), facts, SingleLabel)
    methods.check(FinetuneConfig(method="peanut", lora_rank=4), facts, SingleLabel)
    methods.check(FinetuneConfig(method="dora", lora_rank=4, lora_dropout=0.5), facts, SingleLabel)
    with pytest.raises(
        ModelError, match=r"^finetune.dropout: a bert model has no dropout that edgeft can set; leave it unset$"
    ):
        methods.check(FinetuneConfig(dropout=0.1), Facts("bert", 2, 64, 8, drops=False), SingleLabel)


def logits_of(model: Any, tokenizer: Any, data: Path) -> Any:
    texts = load_dataset(data).test.texts
    return predict_encoded(model, encode(tokenizer, texts, tokenizer.model_max_length), tokenizer.pad_token_id)


def added(method: str) -> int:
    """Tokens in front of every text."""
    return 20 if method in VIRTUAL else 0


@pytest.mark.parametrize(("method", "kind"), PAIRS)
def test_a_method_trains_resumes_and_ends_as_a_plain_model(
    method: str,
    kind: str,
    data: Path,
    encoder: Callable[[str], Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    config = settings(method, encoder(kind), checkpoint_steps=3)
    inputs = {"data": data, "model": encoder(kind)}
    result = finetune(config, inputs, tmp_path / "out")
    kept = read_predictions(tmp_path / "out", "test")

    assert result.metrics["steps"] > 3
    if method in ADAPTERS:
        assert result.metrics["merge_difference"] <= 1e-4
        assert result.metrics["validation"]["agreement"] == result.metrics["test"]["agreement"] == 1.0

    plain, report = AutoModelForSequenceClassification.from_pretrained(tmp_path / "out", output_loading_info=True)
    assert not any(report[gap] for gap in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    own = {name for name, _ in model_folder.load_classifier(encoder(kind), ["down", "up"]).named_parameters()}
    assert {name for name, _ in plain.named_parameters()} == own
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "out")
    assert tokenizer.model_max_length == QUICK["max_length"] + added(method)
    again = logits_of(plain, tokenizer, data)
    np.testing.assert_allclose(again, kept, atol=1e-5)

    moved = {
        name.split(".")[0]
        for name, before in model_folder.load_classifier(encoder(kind), ["down", "up"]).base_model.named_parameters()
        if not torch.equal(before, plain.base_model.get_parameter(name)[: len(before)])
    }
    assert ("encoder" in moved or "transformer" in moved) == (method not in ("head", *VIRTUAL))
    assert "embeddings" in moved if method == "full" else "embeddings" not in moved

    killed_finetune(config, inputs, tmp_path / "killed", monkeypatch)
    resumed = finetune(config, inputs, tmp_path / "killed")
    assert resumed.digest == result.digest


@pytest.mark.parametrize("method", ["dora", "rslora"])
def test_a_method_learns(method: str, data: Path, tiny_model: Path, tmp_path: Path) -> None:
    """Full, LoRA and QLoRA do so in test_finetune.py; on random weights a head or scales alone have little to learn."""
    config = settings(method, tiny_model, epochs=10.0, batch_size=8)
    result = finetune(config, {"data": data, "model": tiny_model}, tmp_path / "out")
    assert result.metrics["test"]["accuracy"] >= 0.85


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("method", METHODS)
def test_only_what_the_method_names_trains(method: str, kind: str, encoder: Callable[[str], Path]) -> None:
    model = prepared(settings(method, encoder(kind)), encoder(kind))
    trains = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    assert any("classifier" in name for name in trains)
    inside = {name for name in trains if "classifier" not in name}
    marks = {"head": ("pooler",), "ia3": ("ia3_l",), "full": ("",), "peanut": ("peanut_",)}.get(method, ("lora_",))
    marks = ("prompt_encoder",) if method in VIRTUAL else marks
    assert all(any(mark in name for mark in marks) for name in inside)
    # No adapter inside of a head that trains whole.
    kinds = ("lora", "ia3", "peanut")
    assert not any("classifier" in name and any(kind in name for kind in kinds) for name, _ in model.named_parameters())

    counts = methods.parameter_counts(model)
    base = model_folder.load_classifier(encoder(kind), ["a", "b"]).num_parameters()
    new = ("lora_", "ia3_", "peanut_", "prompt_encoder")
    more = sum(p.numel() for name, p in model.named_parameters() if any(mark in name for mark in new))
    assert counts["parameters"] == base + more
    assert counts["trainable_share"] == counts["trainable_parameters"] / counts["parameters"]
    assert (counts["trainable_share"] == 1.0) == (method == "full")


def merged_twin(method: str, config: FinetuneConfig, layer: Any) -> tuple[Any, Any]:
    """Weight and bias of an adapted linear layer after the merge, from the formulas of the papers."""
    weight, bias = layer.base_layer.weight.detach().double(), layer.base_layer.bias.detach().double()
    if method == "ia3":
        scale = layer.ia3_l["default"].detach().double().flatten()
        return (weight * scale, bias) if layer.is_feedforward else (weight * scale[:, None], bias * scale)
    if method == "peanut":
        down, up = (part["default"].weight.detach().double() for part in (layer.peanut_A, layer.peanut_B))
        return weight + up @ torch.relu(down @ weight), bias
    rank = config.lora_rank
    scale = config.lora_alpha / (rank**0.5 if method == "rslora" else rank)
    down, up = (part["default"].weight.detach().double() for part in (layer.lora_A, layer.lora_B))
    moved = weight + scale * up @ down
    if method == "dora":
        magnitude = layer.lora_magnitude_vector["default"].weight.detach().double()
        moved = magnitude[:, None] * moved / moved.norm(dim=1, keepdim=True)
    return moved, bias


@pytest.mark.parametrize("method", ["lora", "dora", "rslora", "ia3", "peanut"])
def test_a_merge_is_what_the_paper_says(method: str, tiny_model: Path, tmp_path: Path) -> None:
    config = settings(method, tiny_model)
    model = prepared(config, tiny_model)
    torch.manual_seed(3)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if any(mark in name for mark in ("lora_", "ia3_", "peanut_")):
                parameter.add_(torch.randn_like(parameter) * 0.1)
    merged = methods.merge(model, config, str(tiny_model), HEAD, tmp_path)
    adapted = {n: m for n, m in model.get_base_model().named_modules() if hasattr(m, "base_layer")}
    assert len(adapted) >= 4 * 4
    for name, layer in adapted.items():
        weight, bias = merged_twin(method, config, layer)
        found = merged.get_submodule(name)
        torch.testing.assert_close(found.weight.double(), weight, atol=1e-6, rtol=1e-5)
        torch.testing.assert_close(found.bias.double(), bias, atol=1e-6, rtol=1e-5)


def test_an_adapter_is_written_in_one_order(tiny_model: Path, tmp_path: Path) -> None:
    config = settings("ia3", tiny_model)
    model = prepared(config, tiny_model)
    methods.merge(model, config, str(tiny_model), HEAD, tmp_path)
    written = json.loads((tmp_path / methods.ADAPTER / "adapter_config.json").read_text())
    assert written["target_modules"] == ["key", "output.dense", "value"]


# ------------------------------------------------------------------------------------------------ what fits which model


@pytest.mark.parametrize("kind", ["albert", "camembert", "deberta-v2", "distilbert", "electra", "modernbert", "mpnet"])
def test_ia3_finds_its_layers_and_merges_exactly(kind: str) -> None:
    from peft import get_peft_model
    from transformers import AutoConfig, AutoModelForSequenceClassification

    from edgeft.train.methods import adapters, fit

    shape = SHAPES.get(kind, SMALL)
    torch.manual_seed(0)
    config = AutoConfig.for_model(kind, vocab_size=100, pad_token_id=0, **shape)
    plain = AutoModelForSequenceClassification.from_config(config).eval()
    model = get_peft_model(plain, adapters.adapter_config(plain, settings("ia3", Path("x")), None)).eval()
    names = [name for name, module in model.named_modules() if hasattr(module, "base_layer")]
    for wanted in fit.ia3_layers(kind).modules:
        assert any(name.endswith(wanted) for name in names)
    assert not any("classifier" in name or "pooler" in name for name in names)
    for name, parameter in model.named_parameters():
        if "ia3_l" in name:
            torch.nn.init.uniform_(parameter, 0.5, 1.5)
    ids = torch.randint(5, 99, (3, 9))
    with torch.no_grad():
        before = model(input_ids=ids).logits
        after = model.merge_and_unload()(input_ids=ids).logits
    assert methods.check_merge(before.numpy(), after.numpy(), 1e-4) <= 1e-5


def test_what_ends_in_no_plain_model_is_refused_before_anything_is_loaded(
    data: Path, tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(model_folder, "load", lambda *_, **__: pytest.fail("loaded"))
    config = settings("prefix", tiny_model)
    line = r"^finetune.method=prefix: can't be merged into a plain model, .* no weight; take prompt, p_tuning or lora$"
    with pytest.raises(RecipeError, match=line):
        finetune(config, {"data": data, "model": tiny_model}, tmp_path / "out")
    monkeypatch.setattr(model_folder, "load_tokenizer", lambda *_: pytest.fail("loaded"))
    whole = recipe.Recipe(data=DataConfig(file=str(tiny_model / "config.json")), finetune=config)
    with pytest.raises(RecipeError, match=line):
        preflight(whole)


def test_ia3_knows_what_it_does_not_know() -> None:
    config = FinetuneConfig(method="ia3")
    for kind in ("bert", "roberta", "distilbert", "deberta-v2", "qwen2"):
        methods.check(config, Facts(kind, 2, 64), SingleLabel)
    with pytest.raises(
        ModelError, match=r"^finetune.method=ia3: edgeft does not know which layers to scale in a funnel model"
    ):
        methods.check(config, Facts("funnel", 2, 64), SingleLabel)
    methods.check(replace(config, method="lora"), Facts("funnel", 2, 64), SingleLabel)


def test_options_about_layers_fit_the_model_and_the_method() -> None:
    facts = Facts("bert", 4, 64)
    with pytest.raises(RecipeError, match=r"^finetune.freeze_layers: 5 is more than the 4 layers .*; at most 4$"):
        methods.check(FinetuneConfig(freeze_layers=5), facts, SingleLabel)
    idle = FinetuneConfig(method="head", freeze_layers=1, gradual_unfreezing=True, layer_decay=0.9)
    with pytest.raises(RecipeError, match=r"so freeze_layers, gradual_unfreezing, layer_decay would have no effect"):
        methods.check(idle, facts, SingleLabel)
    methods.check(FinetuneConfig(method="head"), facts, SingleLabel)
    methods.check(replace(idle, method="lora"), facts, SingleLabel)


def test_every_method_that_trains_has_a_rate() -> None:
    named = get_args(get_args(get_type_hints(FinetuneConfig, include_extras=True)["method"])[0])
    assert set(methods.LEARNING_RATES) == set(METHODS) == set(named) - set(methods.NOT_PLAIN)


@pytest.mark.parametrize("kind", ["llama", "t5"])
def test_peanut_merges_exactly_in_models_that_generate(kind: str) -> None:
    """And leaves the layer that makes words of hidden states alone, as LoRA does."""
    from peft import get_peft_model
    from transformers import LlamaConfig, LlamaForCausalLM, T5Config, T5ForConditionalGeneration

    from edgeft.train.methods import adapters

    torch.manual_seed(0)
    if kind == "llama":
        plain = LlamaForCausalLM(LlamaConfig(vocab_size=100, num_key_value_heads=2, **SMALL)).eval()
    else:
        sizes = {"d_model": 32, "d_ff": 64, "d_kv": 8, "num_layers": 2, "num_heads": 4}
        plain = T5ForConditionalGeneration(T5Config(vocab_size=100, decoder_start_token_id=0, **sizes)).eval()
    config = adapters.adapter_config(plain, settings("peanut", Path("x")), "CAUSAL_LM" if kind == "llama" else None)
    model = get_peft_model(plain, config).eval()
    trains = [name for name, parameter in model.named_parameters() if parameter.requires_grad]
    assert all("peanut_" in name and "lm_head" not in name for name in trains)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "peanut_" in name:
                parameter.add_(torch.randn_like(parameter) * 0.1)
        ids = torch.randint(5, 99, (2, 7))
        batch = {"input_ids": ids} if kind == "llama" else {"input_ids": ids, "decoder_input_ids": ids}
        before = model(**batch).logits
        after = model.merge_and_unload()(**batch).logits
    assert methods.check_merge(before.numpy(), after.numpy(), 1e-4) <= 1e-5

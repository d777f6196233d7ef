"""Model folders from elsewhere: one line before anything is allocated, no code, no hub, no file from outside."""

from __future__ import annotations

import json
import os
import shutil
import struct
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch
from safetensors.torch import load_file, save_file
from support import in_turn
from test_models import tiny, words

from edgeft.errors import ModelError
from edgeft.models import hub, model_facts, model_files, model_folder, model_sources, shapes
from edgeft.recipe import FinetuneConfig
from edgeft.train import methods, tasks

CLASSIFIER = model_folder.Head("AutoModelForSequenceClassification")
GIB = 1 << 30
Change = Callable[[Path], object]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("whole") / "model"
    model_folder.save(tiny(), words(), folder, 16)
    return folder


@pytest.fixture
def folder(whole: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(whole, tmp_path / "model"))


def with_config(**changes: Any) -> Change:
    return lambda folder: rewrite(folder / "config.json", **changes)


def rewrite(path: Path, **changes: Any) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def file(name: str, content: bytes | str) -> Change:
    data = content.encode() if isinstance(content, str) else content
    return lambda folder: (folder / name).write_bytes(data)


def sparse(name: str, size: int) -> Change:
    """A file of zeros that takes no room on the disk."""
    return lambda folder: os.truncate(folder / name, size)


def head(change: Callable[[dict[str, Any]], object]) -> Change:
    """Change the header of the weights and leave the bytes behind it alone."""

    def apply(folder: Path) -> None:
        data = (folder / "model.safetensors").read_bytes()
        (length,) = struct.unpack("<Q", data[:8])
        header = json.loads(data[8 : 8 + length])
        change(header)
        text = json.dumps(header).encode()
        (folder / "model.safetensors").write_bytes(struct.pack("<Q", len(text)) + text + data[8 + length :])

    return apply


def sharded(change: Callable[[dict[str, Any]], object] = lambda index: None, twice: bool = False) -> Change:
    """Lay the weights into two files with an index."""

    def apply(folder: Path) -> None:
        weights = load_file(folder / "model.safetensors")
        names = sorted(weights)
        parts = {"model-1.safetensors": names[:10], "model-2.safetensors": names[0 if twice else 10 :]}
        for name, part in parts.items():
            save_file({key: weights[key] for key in part}, folder / name, metadata={"format": "pt"})
        (folder / "model.safetensors").unlink()
        index = {
            "metadata": {"total_size": 1},
            "weight_map": {key: name for name, part in reversed(parts.items()) for key in part},
        }
        change(index)
        (folder / "model.safetensors.index.json").write_text(json.dumps(index))

    return apply


def other_values(folder: Path) -> None:
    """Change the weights in the second of two files."""
    weights = load_file(folder / "model-2.safetensors")
    changed = {name: weight + 1 for name, weight in weights.items()}
    save_file(changed, folder / "model-2.safetensors", metadata={"format": "pt"})


def first_tensor(header: dict[str, Any]) -> dict[str, Any]:
    return next(header[name] for name in sorted(header) if name != "__metadata__")


def refused(folder: Path, message: str, call: Callable[[Path], object] | None = None) -> None:
    """One line, and within memory: what the process holds doesn't grow by as much as a hostile size would take."""
    before = psutil.Process().memory_info().rss
    with pytest.raises(ModelError, match=message) as caught:
        (call or everything)(folder)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 1000
    assert psutil.Process().memory_info().rss - before < GIB


def everything(folder: Path) -> None:
    model_facts.read_facts(folder)
    model_folder.load_tokenizer(folder)
    model_folder.load(folder, CLASSIFIER)


# -------------------------------------------------------------------------------------------------------- config.json


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (with_config(num_hidden_layers=10**8), r"num_hidden_layers is 100000000; edgeft takes 0 to 1,024"),
        (with_config(vocab_size=2**40), r"vocab_size is 1099511627776; edgeft takes 1 to 16,777,216"),
        (with_config(hidden_size=-32), "hidden_size is -32; edgeft takes 1 to 1,048,576"),
        (with_config(hidden_size=float("nan")), "hidden_size is nan, and has to be a whole number"),
        (with_config(hidden_size=32.5), "hidden_size is 32.5, and has to be a whole number"),
        (with_config(hidden_size="32"), "hidden_size is '32', and has to be a whole number"),
        (with_config(num_hidden_layers=True), "num_hidden_layers is True, and has to be a whole number"),
        (with_config(num_labels=10**9), "num_labels is 1000000000; edgeft takes 0 to 1,048,576"),
        (with_config(type_vocab_size=10**12), "type_vocab_size is 1000000000000"),
        (with_config(pad_token_id=10**100), "pad_token_id is a number of 101 digits"),
        (with_config(text_config={"deep": [{"num_layers": 10**8}]}), "num_layers is 100000000"),
        (with_config(num_attention_heads=5), "a width of 32 can't be split into 5 attention heads"),
        (with_config(type_vocab_size=2**19), "1 weights are of another shape than config.json says"),
        (with_config(hidden_size=1024, intermediate_size=4096), "of another shape"),
        (with_config(model_type=["bert"]), r"model_type is \['bert'\], and has to be a name"),
        (with_config(configuration_files=["config.9.json"]), "configuration_files points to another config"),
        (with_config(id2label=[0]), r"id2label is \[0\], and has to be an object"),
        (file("config.json", "[]"), "a JSON list, and a config is an object"),
        (file("config.json", "{}"), "empty, and a config is an object"),
        (file("config.json", ""), "config.json: not JSON"),
        (file("config.json", b"\xff\xfe\xff"), "config.json: not JSON"),
        (file("config.json", '{"a":' * 5000 + "1" + "}" * 5000), "nested too deeply"),
        (file("config.json", '{"hidden_size": ' + "9" * 5000 + "}"), "not JSON: Exceeds the limit"),
        (sparse("config.json", 3 * GIB), "3,221,225,472 bytes, and at most 16,777,216 are read"),
    ],
)
def test_configs_that_no_model_has(folder: Path, change: Change, message: str) -> None:
    change(folder)
    refused(folder, message)


def test_labels_may_be_called_as_sizes_are(folder: Path) -> None:
    names = ["dim", "vocab_size", "hidden_size"]
    rewrite(
        folder / "config.json",
        id2label=dict(enumerate(names)),
        label2id={name: index for index, name in enumerate(names)},
    )
    assert model_facts.read_config(folder).label2id["dim"] == 0


def test_layers_without_weights_take_no_memory(folder: Path) -> None:
    """Each would be filled with random numbers before anybody counts what is missing."""
    rewrite(folder / "config.json", num_hidden_layers=1000)
    refused(folder, "config.json says 1,000 layers, but only 73 weights are stored")
    refused(folder, "config.json says 1,000 layers", lambda place: model_folder.load(place, CLASSIFIER))
    rewrite(folder / "config.json", num_hidden_layers=4)
    config = model_facts.read_config(folder)
    config.vocab_size = 2**24
    stored = model_files.Stored({"other": [10]}, 40)
    with pytest.raises(ModelError, match=r"describes a model of \d+\.\d GB, but the stored weights are 0\.0 GB"):
        model_folder._check_before_loading(CLASSIFIER.factory, config, stored, folder)


@pytest.mark.parametrize("tool", ["gptq", "awq", "fp8", "compressed-tensors", ["x"], None])
def test_weights_quantized_by_another_tool(folder: Path, tool: Any) -> None:
    rewrite(folder / "config.json", quantization_config={"quant_method": tool, "bits": 4})
    named = f"by {tool!r}" if tool else "by an unnamed tool"
    with pytest.raises(ModelError) as caught:
        model_facts.read_facts(folder)
    assert f"quantized {named}, and edgeft trains" in str(caught.value)
    assert "base model" in str(caught.value)


def test_sizes_of_real_models_are_within_bounds(folder: Path) -> None:
    rewrite(folder / "config.json", max_position_embeddings=40, sliding_window=None, rope_theta=1e6)
    assert model_facts.read_facts(folder) == model_facts.Facts(
        "bert", 4, 40, 32, vocabulary=50, heads=FACTS_OF_BERT, reads_only=True, elements=ELEMENTS
    )


FACTS_OF_BERT = tuple(name for name in model_facts.HEADS if name != "AutoModelForSeq2SeqLM")
ELEMENTS = sum(parameter.numel() for parameter in tiny().parameters())


# ------------------------------------------------------------------------------------------------------------- weights


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (sharded(lambda index: index["weight_map"].update(x="../x.safetensors")), "'../x.safetensors' is not the name"),
        (sharded(lambda index: index["weight_map"].update(x="a\\b.safetensors")), "is not the name of a safetensors"),
        (sharded(lambda index: index["weight_map"].update(x="pytorch_model.bin")), "is not the name of a safetensors"),
        (
            sharded(lambda index: index["weight_map"].update(x="model-3.safetensors")),
            "1 of 3 files are missing, model-3",
        ),
        (
            sharded(lambda index: index["weight_map"].update(x="model-1.safetensors")),
            "1 weights are in none of its files",
        ),
        (sharded(lambda index: index.update(weight_map=[1])), "not an index of weights"),
        (sharded(lambda index: index.update(weight_map={})), "names no weights"),
        (in_turn(sharded(twice=True), other_values), "with other values; .* names model-1"),
        (lambda place: (sharded()(place), file(model_files.INDEX, "{")(place)), "not an index of weights"),
        (lambda place: (sharded()(place), (place / model_files.INDEX).unlink()), "is one part of the weights"),
        (file(model_files.WEIGHTS, struct.pack("<Q", 10**15) + b"{}"), "its head is said to be 1,000,000,000,000,000"),
        (file(model_files.WEIGHTS, b"abc"), "its head is said to be"),
        (file(model_files.WEIGHTS, struct.pack("<Q", 2) + b"[]"), "its head can't be read"),
        (head(lambda header: first_tensor(header).update(dtype="OBJECT")), "is of type 'OBJECT'"),
        (head(lambda header: first_tensor(header).update(shape=[2**40])), "takes 4,398,046,511,104 bytes"),
        (head(lambda header: first_tensor(header).update(shape=[-1])), "has a shape that can't be"),
        (head(lambda header: first_tensor(header).update(data_offsets=[8, 4])), "but lies from 8 to 4"),
        (head(lambda header: header.popitem()), "lies from|its weights end at byte"),
        (head(lambda header: header.update(more=first_tensor(header))), "but lies from"),
        (head(lambda header: first_tensor(header).update(shape="32")), "its head can't be read"),
    ],
)
def test_weights_that_lie_about_themselves(folder: Path, change: Change, message: str) -> None:
    change(folder)
    refused(folder, message)


def test_a_weight_in_two_files_is_the_one_that_the_index_names(folder: Path) -> None:
    whole = shapes.stored_weights(folder)
    sharded(twice=True)(folder)
    assert shapes.stored_weights(folder).shapes == whole.shapes
    everything(folder)


def test_large_files_that_nobody_reads_are_no_reason(folder: Path) -> None:
    for name in ("train.json", "notes.txt"):
        with (folder / name).open("wb") as opened:
            opened.truncate(model_files.LARGEST_VOCABULARY + 1)
    everything(folder)
    with (folder / "merges.txt").open("wb") as opened:
        opened.truncate(model_files.LARGEST_TEXT + 1)
    refused(folder, "merges.txt: 67,108,865 bytes, and at most")


def test_a_wrong_total_size_changes_nothing(folder: Path) -> None:
    whole = shapes.stored_weights(folder)
    sharded(lambda index: index["metadata"].update(total_size=2**60))(folder)
    assert shapes.stored_weights(folder) == whole
    model_folder.load(folder, CLASSIFIER)


def test_pickles_say_how_to_convert_them(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    refused(folder, r"only pickled weights \(pytorch_model.bin\), which may run code.*save_pretrained")


def test_weights_larger_than_the_machine() -> None:
    huge = model_facts.Facts("bert", 4, 64, elements=10**15)
    with pytest.raises(ModelError, match=r"take \d[\d,.]* GB with method lora, but this machine has .* GB of memory"):
        methods.check(FinetuneConfig(method="lora"), huge, tasks.task_class("single-label"))


# ------------------------------------------------------------------------------------------------- structure, tokenizer


@pytest.mark.parametrize(
    ("layers", "width", "message"),
    [
        ([{"layer": 0, "heads": [0], "channels": [-1]}], [0], "channels of layer 0: not indices"),
        ([{"layer": 0, "heads": [99], "channels": [1]}], [0], "heads of layer 0: not indices from 0 to 3"),
        ([{"layer": 0, "heads": [1, 1], "channels": [1]}], [0], "heads of layer 0: not indices"),
        ([{"layer": 0, "heads": [1], "channels": [1]}], [0, 32], "width: not indices from 0 to 31"),
        ([{"layer": 0, "heads": "all", "channels": [1]}], [0], "Expected `array`"),
        ([{"layer": 0, "heads": [1.5], "channels": [1]}], [0], "Expected `int`"),
        ([{"layer": 0, "heads": [10**30], "channels": [1]}], [0], "structure.json: "),
        ([{"layer": 0, "heads": [0], "channels": [1]}], [0, 1], "structure.json says"),
    ],
)
def test_structures_that_no_pruning_wrote(folder: Path, layers: list[Any], width: list[int], message: str) -> None:
    document = {"layers": layers * 4, "width": width, "head_size": 8}
    (folder / "structure.json").write_text(json.dumps(document))
    refused(folder, message)


def test_a_tokenizer_with_more_tokens_than_the_model_has_embeddings(folder: Path) -> None:
    rewrite(
        folder / "tokenizer.json", model={"type": "WordLevel", "vocab": {"[UNK]": 1, "odd": 50}, "unk_token": "[UNK]"}
    )
    refused(
        folder,
        "token 'odd' of its tokenizer has the id 50, but the model has 50 embeddings",
        model_folder.load_tokenizer,
    )


@pytest.mark.parametrize(
    "text",
    [
        "{}",
        '{"model": {"type": "WordLevel", "vocab": {"a": -1}}}',
        '{"version": "1.0", "model": {"type": "BPE", "vocab": {}, "merges": ["a b"]}}',
        "[" * 100_000,
    ],
)
def test_tokenizers_that_cannot_be_read(folder: Path, text: str) -> None:
    (folder / "tokenizer.json").write_text(text)
    refused(folder, str(folder), model_folder.load_tokenizer)


@pytest.mark.parametrize("longest", ["8", -1, float("nan")])
def test_a_length_that_is_no_number(folder: Path, longest: Any) -> None:
    rewrite(folder / "tokenizer_config.json", model_max_length=longest)
    refused(folder, "model_max_length in tokenizer_config.json is", model_folder.load_tokenizer)


def test_a_panic_of_the_tokenizers_is_one_line(folder: Path) -> None:
    """Rust's panics are no Exception in Python."""
    panic = type("PanicException", (BaseException,), {"__module__": "pyo3_runtime"})
    with pytest.raises(ModelError, match="PanicException: index out of bounds"), model_sources.reading(folder):
        raise panic("index out of bounds\nnote: run with RUST_BACKTRACE=1")
    with pytest.raises(KeyboardInterrupt), model_sources.reading(folder):
        raise KeyboardInterrupt
    with pytest.raises(torch.OutOfMemoryError), model_sources.reading(folder):
        raise torch.OutOfMemoryError("CUDA out of memory")


# --------------------------------------------------------------------------------------------------- links, code, hub


def test_links_out_of_the_folder(folder: Path, tmp_path: Path) -> None:
    """What such a link names would be shipped with the model."""
    secret = tmp_path / "id_ed25519"
    secret.write_text("secret")
    (folder / "chat_template.jinja").symlink_to(secret)
    refused(folder, r"chat_template.jinja: links to .*id_ed25519, outside of the model folder; .*cp -rL")


def test_a_file_that_never_ends(folder: Path) -> None:
    os.mkfifo(folder / "chat_template.jinja")
    refused(folder, "chat_template.jinja: not a regular file")
    (folder / "chat_template.jinja").unlink()
    (folder / "vocab.txt").symlink_to("/dev/zero")
    refused(folder, "vocab.txt: not a regular file")


def test_a_snapshot_of_the_hugging_face_cache_is_links(folder: Path, tmp_path: Path) -> None:
    snapshot, blobs = tmp_path / "models--org--name" / "snapshots" / "abc", tmp_path / "models--org--name" / "blobs"
    snapshot.mkdir(parents=True)
    blobs.mkdir()
    for number, source in enumerate(sorted(folder.iterdir())):
        shutil.copy(source, blobs / str(number))
        (snapshot / source.name).symlink_to(Path("../../blobs") / str(number))
    everything(snapshot)
    linked = tmp_path / "link"
    linked.symlink_to(snapshot, target_is_directory=True)
    model_facts.read_facts(linked)


def test_weights_may_be_links(folder: Path, tmp_path: Path) -> None:
    """They are numbers, so nothing else can leave through them."""
    shutil.move(folder / "model.safetensors", tmp_path / "elsewhere")
    (folder / "model.safetensors").symlink_to(tmp_path / "elsewhere")
    model_folder.load(folder, CLASSIFIER)


def test_an_adapter_would_load_another_model(folder: Path) -> None:
    (folder / "adapter_config.json").write_text('{"base_model_name_or_path": "org/other"}')
    refused(folder, "adapter_config.json names another model")


def test_code_is_off_and_this_is_said(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rewrite(folder / "config.json", auto_map={"AutoConfig": "evil.Config"})
    (folder / "evil.py").write_text("raise SystemExit('ran')")
    everything(folder)
    told = capsys.readouterr().err
    assert told.count("auto_map names code of its own, which isn't run; bert as transformers has it is used") == 1
    rewrite(folder / "config.json", model_type="unheard-of")
    refused(folder, "auto_map names code of its own, which edgeft never runs, and transformers .* has no 'unheard-of'")


@pytest.mark.parametrize("key", ["_attn_implementation", "attn_implementation", "_experts_implementation"])
def test_attention_of_a_config_is_never_code_of_the_hub(
    folder: Path, key: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from transformers import modeling_utils
    from transformers.integrations import hub_kernels

    def fetch(*arguments: Any, **options: Any) -> Any:
        raise SystemExit(f"would fetch {arguments}")

    monkeypatch.setattr(modeling_utils, "lazy_import_flash_attention", fetch)
    monkeypatch.setattr(hub_kernels, "load_and_register_attn_kernel", fetch)
    for name in ("evil/attention", "evil/attention@main:fn", "flash_attention_2"):
        rewrite(folder / "config.json", **{key: name})
        config = model_facts.read_config(folder)
        assert config._attn_implementation is None
        assert config._experts_implementation is None
        assert model_folder.load(folder, CLASSIFIER).config._attn_implementation in ("sdpa", "eager")


def test_a_local_folder_never_asks_the_hub(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    with model_sources.reading(folder):
        assert constants.is_offline_mode()
    assert not constants.is_offline_mode()
    with model_sources.reading("org/name"):
        assert not constants.is_offline_mode()


# --------------------------------------------------------------------------------------------------------- ids, heads


@pytest.mark.parametrize(
    ("source", "hint"),
    [
        ("all-MiniLM-L6-v2", r"did you mean demo:all-minilm-l6-v2 or sentence-transformers/all-MiniLM-L6-v2\?"),
        ("bert-base-uncased", r"did you mean google-bert/bert-base-uncased\?"),
        ("Qwen3-0.6B", r"did you mean Qwen/Qwen3-0.6B\?"),
        ("{folder}/../modle", r"did you mean .*model\?"),
        ("unheard-of", "before the name; give a folder, a Hugging Face id"),
    ],
)
def test_an_id_without_organisation(folder: Path, source: str, hint: str) -> None:
    with pytest.raises(ModelError, match=hint):
        model_sources.find(source.format(folder=folder))


@pytest.mark.parametrize(
    ("kind", "model", "message"),
    [
        ("prompt-completion", "bert", "a bert model is an encoder, which can't generate text; .* rows"),
        ("text", "modernbert", "is an encoder, which can't generate text"),
        ("pairs", "bert", "a bert model is not an encoder-decoder, which pairs rows need"),
        ("pairs", "llama", "name the columns prompt and completion for text-generation"),
        ("squad", "bloom-like", "transformers has no QuestionAnswering head"),
    ],
)
def test_a_model_that_cannot_answer_so(kind: str, model: str, message: str, tmp_path: Path) -> None:
    if model == "bloom-like":
        facts = model_facts.Facts(model, 2, 64, heads=("AutoModel",))
    else:
        model_folder.save(tiny(model), words(), tmp_path, 16)
        facts = model_facts.read_facts(tmp_path)
    with pytest.raises(ModelError, match=message):
        methods.check(FinetuneConfig(method="lora"), facts, tasks.task_class(kind))


@pytest.mark.parametrize(
    ("kind", "model"), [("text", "llama"), ("pairs", "t5"), ("single-label", "llama"), ("text", "bert")]
)
def test_models_that_can(kind: str, model: str, tmp_path: Path) -> None:
    """A BERT whose config makes a decoder of it writes."""
    heads = {"decoder_layers": 4} if model == "t5" else {}
    model_folder.save(tiny(model, is_decoder=(kind, model) == ("text", "bert"), **heads), words(), tmp_path, 16)
    methods.check_head(model_facts.read_facts(tmp_path), tasks.task_class(kind))


@pytest.mark.parametrize("kind", ["bert", "distilbert", "gpt2", "t5", "bart", "llama", "modernbert", "mpnet", "bloom"])
def test_sizes_are_read_whatever_a_family_calls_them(kind: str) -> None:
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING

    config = CONFIG_MAPPING[kind]()
    found = shapes.dimensions(config)
    assert (found.layers, found.width, found.heads, found.vocabulary) == (
        config.num_hidden_layers,
        config.hidden_size,
        config.num_attention_heads,
        config.vocab_size,
    )
    assert min(found.layers, found.width, found.heads, found.vocabulary) > 0


def test_an_id_without_the_hub(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    """No retries: one line that says why the hub can't be reached, and what to do."""
    from huggingface_hub import constants

    hub.locate.cache_clear()
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(
        ModelError, match=r"org/name: not in the local cache, and HF_HUB_OFFLINE is set; give a folder or"
    ):
        model_facts.read_facts("org/name")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setattr(
        constants, "HUGGINGFACE_CO_URL_TEMPLATE", "http://127.0.0.1:9/{repo_id}/resolve/{revision}/{filename}"
    )
    with pytest.raises(
        ModelError, match=r"http://127.0.0.1:9 can't be reached .*; give a folder .* hf download org/name"
    ):
        model_facts.read_facts("org/name")
    assert not [record for record in caplog.records if "Retrying" in record.getMessage()]


def test_an_id_in_the_cache_without_the_hub(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub import constants

    cache = tmp_path / "cache"
    snapshot = cache / "models--org--name" / "snapshots" / ("a" * 40)
    shutil.copytree(folder, snapshot)
    (cache / "models--org--name" / "refs").mkdir()
    (cache / "models--org--name" / "refs" / "main").write_text("a" * 40)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(cache))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    hub.locate.cache_clear()
    try:
        assert model_sources.find("org/name") == "org/name"
        assert model_facts.read_facts("org/name").layers == 4
        assert len(model_folder.load_tokenizer("org/name")) == 6
        model_folder.load("org/name", CLASSIFIER)
        (snapshot / "adapter_config.json").write_text("{}")
        for read in (model_facts.read_facts, model_folder.load_tokenizer):
            with pytest.raises(ModelError, match="names another model that would be loaded with this one"):
                read("org/name")
    finally:
        hub.locate.cache_clear()


# ------------------------------------------------------------------------------------------------------ at the command


@pytest.fixture
def rows(tmp_path: Path) -> Path:
    """A file that no reader takes: who reads rows before the model is refused says so."""
    file = tmp_path / "rows.csv"
    file.write_bytes(b"prompt,completion\n\xff\x00")
    return file


def test_commands_refuse_an_id_before_rows_are_read(run: Any, rows: Path, tmp_path: Path) -> None:
    for model, message in (
        ("org/name", "edgeft: org/name: not in the local cache, and HF_HUB_OFFLINE is set; give a folder"),
        ("all-MiniLM-L6-v2", "edgeft: all-MiniLM-L6-v2: no such model folder, and a hub id has its organisation"),
    ):
        for arguments in (
            ("pipeline", "--data", rows, "--run-dir", tmp_path / "run", "--model", model),
            ("finetune", "--data", tmp_path / "none", "--out", tmp_path / "out", "--model", model),
            ("advise", rows, "--model", model),
        ):
            code, _, err = run(*arguments)
            assert (code, err.count("\n"), err[: len(message)]) == (2, 1, message), arguments
    assert sorted(path.name for path in tmp_path.iterdir()) == ["rows.csv"]


def test_an_encoder_given_for_generation_is_refused_before_rows_are_read(
    run: Any, rows: Path, folder: Path, tmp_path: Path
) -> None:
    for task, message in (
        ("text-generation", "is an encoder, which can't generate text"),
        ("text2text-generation", "is not an encoder-decoder"),
    ):
        code, _, err = run(
            *(
                "pipeline",
                "--data",
                rows,
                "--run-dir",
                tmp_path / "run",
                "--model",
                folder,
                "--set",
                f"task={task}",
            ),
            *("--until", "finetune"),
        )
        assert (code, err.count("\n")) == (2, 1)
        assert f"edgeft: finetune.model: a bert model {message}" in err


def test_a_hub_out_of_reach_is_one_line_at_once(rows: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A real process without HF_HUB_OFFLINE, against a port that nobody listens on; retries took 23 s."""
    for name, value in (("OFFLINE", "0"), ("ENDPOINT", "http://127.0.0.1:9"), ("HOME", str(tmp_path / "home"))):
        monkeypatch.setenv(f"HF_HUB_{name}" if name == "OFFLINE" else f"HF_{name}", value)
    line = ("pipeline", "--data", rows, "--run-dir", tmp_path / "run", "--model", "org/name")
    command = [sys.executable, "-m", "edgeft", *map(str, line)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600, check=False)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert "org/name: not in the local cache, and http://127.0.0.1:9 can't be reached" in done.stderr


@pytest.fixture
def hub_out_of_reach(monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    hub.locate.cache_clear()


@pytest.mark.usefixtures("hub_out_of_reach")
def test_what_reads_no_model_needs_no_hub(run: Any, tmp_path: Path) -> None:
    file = tmp_path / "rows.csv"
    file.write_text("text,label\n" + "".join(f"a text of number {i},{'ab'[i % 2]}\n" for i in range(60)))
    words = ("pipeline", "--data", file, "--run-dir", tmp_path / "run", "--model", "org/name")
    code, out, err = run(*words, "--dry-run")
    assert (code, [line.split()[0] for line in out.splitlines()][:3]) == (0, ["data", "baseline", "finetune"])
    said = [line for line in err.splitlines() if "org/name" in line]
    assert len(said) == 1
    assert "the model is not looked into" in said[0]
    assert "HF_HUB_OFFLINE is set" in said[0]
    code, _, err = run(*words, "--until", "data")
    assert (code, (tmp_path / "run" / "data" / "stage.json").exists()) == (0, True), err
    code, _, err = run(*words, "--until", "finetune")
    assert (code, "HF_HUB_OFFLINE is set" in err) == (2, True)
    for more in (("--dry-run",), ("--until", "data")):
        code, _, err = run(*words[:-1], "bert-base-uncased", *more)
        assert (code, "did you mean google-bert/bert-base-uncased?" in err) == (2, True)


def test_the_time_out_is_that_of_the_hub_s_libraries(monkeypatch: pytest.MonkeyPatch) -> None:
    import huggingface_hub

    waited: list[float] = []

    def late(*_: object, timeout: float, **__: object) -> None:
        waited.append(timeout)
        raise TimeoutError("timed out")

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(huggingface_hub, "get_hf_file_metadata", late)
    for name in hub.TIMEOUTS:
        monkeypatch.delenv(name, raising=False)
    for name, value in (("", ""), ("HF_HUB_DOWNLOAD_TIMEOUT", "20"), ("HF_HUB_ETAG_TIMEOUT", "30")):
        if name:
            monkeypatch.setenv(name, value)
        hub.locate.cache_clear()
        with pytest.raises(ModelError, match=r"\(timed out; HF_HUB_ETAG_TIMEOUT=SECONDS waits longer than \d+ s\)"):
            hub.locate("org/name")
    assert waited == [3.0, 20.0, 30.0]


# ---------------------------------------------------------------------------------------------------------------- fuzz


def test_mutated_folders_load_or_are_one_line() -> None:
    """The short form of benchmarks/fuzz_models.py: no traceback, no hang, no memory over the bound."""
    from fuzz_models import fuzz

    document = fuzz(cases=30, seed=1)
    assert document["failures"] == []
    assert sum(document["outcomes"].values()) == 30
    assert set(document["outcomes"]) == {"loaded", "refused"}

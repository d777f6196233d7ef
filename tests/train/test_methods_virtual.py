"""Virtual tokens as words: the grown model and its tokenizer answer as the prompted model did, whoever loads them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from edgeft.data.dataset import load as load_dataset
from edgeft.data.prepare import run as prepare
from edgeft.data.read import sources
from edgeft.errors import ModelError, RecipeError
from edgeft.models import model_folder
from edgeft.models.model_facts import Facts
from edgeft.recipe import DataConfig, FinetuneConfig
from edgeft.runtime.tokenization import load_tokenizer as load_runtime_tokenizer
from edgeft.train import methods
from edgeft.train.evaluate import read_predictions
from edgeft.train.finetune import run as finetune
from edgeft.train.methods import adapters, virtual
from edgeft.train.tasks.sequences import SingleLabel

SMALL: dict[str, Any] = {
    "hidden_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 128,
    "max_position_embeddings": 64,
}
SHAPES: dict[str, dict[str, Any]] = {
    "albert": {**SMALL, "embedding_size": 32},
    "distilbert": {"dim": 64, "n_layers": 2, "n_heads": 4, "hidden_dim": 128, "max_position_embeddings": 64},
}
TASKS = {
    "SEQ_CLS": "AutoModelForSequenceClassification",
    "TOKEN_CLS": "AutoModelForTokenClassification",
    "QUESTION_ANS": "AutoModelForQuestionAnswering",
}
COUNT = 3


def plain_model(kind: str, task: str) -> Any:
    import transformers

    torch.manual_seed(0)
    config = transformers.AutoConfig.for_model(kind, vocab_size=100, pad_token_id=0, **SHAPES.get(kind, SMALL))
    return getattr(transformers, TASKS[task]).from_config(config).eval()


def answers(model: Any, ids: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    with torch.no_grad():
        found = model(input_ids=ids, attention_mask=mask)
    return found.logits if "logits" in found else torch.stack([found.start_logits, found.end_logits], dim=-1)


@pytest.mark.parametrize("method", ["prompt", "p_tuning"])
@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("kind", virtual.ENCODERS)
def test_words_in_front_say_what_virtual_tokens_say(kind: str, task: str, method: Any) -> None:
    """With padding in the batch, and a head that moved; what pads stands after them in both."""
    config = FinetuneConfig(method=method, virtual_tokens=COUNT)
    model = adapters.add_adapter(plain_model(kind, task), config, task).eval()
    torch.manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.add_(torch.randn_like(parameter) * 0.05)
    ids, mask = torch.randint(5, 99, (3, 9)), torch.ones(3, 9, dtype=torch.int64)
    ids[1, 6:], mask[1, 6:] = 0, 0
    before = answers(model, ids, mask)

    merged = virtual.write_vocabulary(model, plain_model(kind, task), [101, 102, 103]).eval()
    words = torch.tensor([[101, 102, 103]]).expand(3, -1)
    after = answers(merged, torch.cat([words, ids], 1), torch.cat([torch.ones_like(words), mask], 1))
    if task != "SEQ_CLS":
        assert before.shape == (3, 9, 2)
        before, after = before[mask.bool()], after[:, COUNT:][mask.bool()]
    assert methods.check_merge(before.numpy(), after.numpy(), 1e-4) <= 1e-5
    without = answers(merged, ids, mask)
    assert float((without[0] - answers(model, ids, mask)[0]).abs().max()) > 1e-4


def test_why_a_decoder_that_classifies_is_refused() -> None:
    """peft hides the ids from it, and it then reads its answer from the padding."""
    import transformers
    from peft import PromptTuningConfig, get_peft_model

    torch.manual_seed(0)
    shape = {**SMALL, "vocab_size": 100, "pad_token_id": 0, "num_key_value_heads": 4}
    model = transformers.AutoModelForSequenceClassification.from_config(transformers.LlamaConfig(**shape)).eval()
    model = get_peft_model(model, PromptTuningConfig(task_type="SEQ_CLS", num_virtual_tokens=COUNT)).eval()
    ids, mask = torch.randint(5, 99, (1, 6)), torch.ones(1, 6, dtype=torch.int64)
    padded, hidden = torch.cat([ids, torch.zeros(1, 3, dtype=torch.int64)], 1), torch.tensor([[1] * 6 + [0] * 3])
    assert not torch.allclose(answers(model, ids, mask), answers(model, padded, hidden), atol=1e-3)
    with pytest.raises(
        ModelError, match=r"^finetune.method=prompt: .* virtual tokens can be merged into a llama model .* take lora"
    ):
        methods.check(FinetuneConfig(method="prompt"), Facts("llama", 2, 64), SingleLabel)


# -------------------------------------------------------------------------------------------------------- the tokenizer


def processor(name: str) -> Any:
    from tokenizers import processors

    makers: dict[str, Callable[[], Any]] = {
        "none": lambda: None,
        "bert": lambda: processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2)),
        "roberta": lambda: processors.RobertaProcessing(("[SEP]", 3), ("[CLS]", 2)),
        "bytes": lambda: processors.ByteLevel(trim_offsets=False),
        "template": lambda: processors.TemplateProcessing(
            single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
        ),
        "sequence": lambda: processors.Sequence(
            [
                processors.ByteLevel(trim_offsets=False),
                processors.TemplateProcessing(single="$A [SEP]", pair="$A $B:1 [SEP]:1", special_tokens=[("[SEP]", 3)]),
            ]
        ),
    }
    return makers[name]()


@pytest.mark.parametrize("name", ["none", "bert", "roberta", "bytes", "template", "sequence"])
def test_a_tokenizer_puts_its_new_words_in_front(name: str, tiny_tokenizer: Any, tmp_path: Path) -> None:
    """Of texts, pairs, words and windows; offsets and token types of the rest stay, truncation counts the new ones."""
    import copy

    from transformers import AutoTokenizer

    source = copy.deepcopy(tiny_tokenizer)
    tree = json.loads(source.backend_tokenizer.to_str())
    own = processor(name)
    if own is None:
        tree["post_processor"] = None
        source._tokenizer = type(source.backend_tokenizer).from_str(json.dumps(tree))
    else:
        source.backend_tokenizer.post_processor = own
    made = virtual.extend_tokenizer(source, COUNT)
    made.save_pretrained(tmp_path)
    ids = virtual.token_ids(made, source, COUNT)
    assert ids == [len(source), len(source) + 1, len(source) + 2]

    for tokenizer in (made, AutoTokenizer.from_pretrained(tmp_path)):
        for texts in (["a good film"], ["the plot", "was so bad"]):
            for limit in (32, COUNT + 6):
                options = {"truncation": True, "return_offsets_mapping": True, "return_token_type_ids": True}
                plain = source(*texts, max_length=limit - COUNT, **options)
                found = tokenizer(*texts, max_length=limit, **options)
                assert found["input_ids"] == ids + plain["input_ids"]
                assert found["token_type_ids"] == [0] * COUNT + plain["token_type_ids"]
                assert found["offset_mapping"] == [(0, 0)] * COUNT + plain["offset_mapping"]
                assert found.sequence_ids() == [None] * COUNT + plain.sequence_ids()
        words = tokenizer(["good", "film"], is_split_into_words=True)
        assert words.word_ids()[:COUNT] == [None] * COUNT
        assert tokenizer.pad_token_id == source.pad_token_id
    runtime = load_runtime_tokenizer(tmp_path / "tokenizer.json", COUNT + 4)
    assert (
        runtime.encode("a good film is bad").ids
        == ids + source("a good film is bad", truncation=True, max_length=4)["input_ids"]
    )


def test_a_tokenizer_class_that_makes_its_own_template_keeps_ours(tmp_path: Path) -> None:
    """transformers' BertTokenizer writes its template anew whenever it is loaded."""
    from transformers import AutoTokenizer

    source = model_folder.load_tokenizer("demo:all-minilm-l6-v2")
    models_ids = source("a good film", "so bad")["input_ids"]
    virtual.extend_tokenizer(source, COUNT).save_pretrained(tmp_path)
    again = AutoTokenizer.from_pretrained(tmp_path)
    assert again("a good film", "so bad")["input_ids"] == [30522, 30523, 30524, *models_ids]
    assert again.special_tokens_map == source.special_tokens_map
    assert again.padding_side == source.padding_side


def test_new_words_of_a_second_training_stand_before_those_of_the_first(tiny_tokenizer: Any) -> None:
    once = virtual.extend_tokenizer(tiny_tokenizer, 2)
    twice = virtual.extend_tokenizer(once, 2)
    first, second = virtual.token_ids(once, tiny_tokenizer, 2), virtual.token_ids(twice, once, 2)
    assert len({*first, *second}) == 4
    assert twice("good")["input_ids"] == [*second, *first, *tiny_tokenizer("good")["input_ids"]]


def test_a_post_processor_that_is_no_template_is_refused() -> None:
    with pytest.raises(ModelError, match="post-processor is a Other, to which virtual tokens can't be added"):
        virtual.prepend_tokens({"type": "Other"}, {"<prompt_0>": 7})


# ------------------------------------------------------------------------------------------------------------ the stage


def config_for(method: Any, model: Path, **others: Any) -> FinetuneConfig:
    options = {"epochs": 0.5, "batch_size": 16, "max_length": 12, "seed": 1, "learning_rate": 2e-2, "virtual_tokens": 5}
    return FinetuneConfig(model=str(model), method=method, **{**options, **others})


def test_a_prompted_model_is_tuned_again_and_answers_texts(data: Path, tiny_model: Path, tmp_path: Path) -> None:
    """By whoever loads the folder: transformers.pipeline answers the kept logits, and LoRA goes on from there."""
    import transformers

    finetune(config_for("prompt", tiny_model, epochs=2.0), {"data": data, "model": tiny_model}, tmp_path / "one")
    texts = load_dataset(data).test.texts[:20]
    pipe = transformers.pipeline("text-classification", model=str(tmp_path / "one"), top_k=None, device="cpu")
    logits = read_predictions(tmp_path / "one", "test")[:20]
    shown = [{one["label"]: one["score"] for one in pipe([text])[0]} for text in texts]
    wanted = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    np.testing.assert_allclose([[one["down"], one["up"]] for one in shown], wanted, atol=1e-5)

    again = config_for("prompt", tmp_path / "one", max_length=17)
    result = finetune(again, {"data": data, "model": tmp_path / "one"}, tmp_path / "two")
    assert result.metrics["merge_difference"] <= 1e-4
    assert model_folder.load_tokenizer(tmp_path / "two").model_max_length == 22
    lora = config_for("lora", tmp_path / "one", virtual_tokens=None)
    assert finetune(lora, {"data": data, "model": tmp_path / "one"}, tmp_path / "three").metrics["steps"] == 7


def test_virtual_tokens_want_room_and_a_method_that_has_them() -> None:
    """64 positions: 44 of text and 20 virtual ones fit."""
    facts = Facts("bert", 2, 64)
    methods.check(FinetuneConfig(method="prompt", max_length=44), facts, SingleLabel)
    with pytest.raises(
        RecipeError, match=r"45 tokens of text and 20 virtual tokens are 65, but .* 64 positions; at most 44$"
    ):
        methods.check(FinetuneConfig(method="p_tuning", max_length=45), facts, SingleLabel)
    with pytest.raises(RecipeError, match=r"4 tokens of text and 61 virtual tokens are 65"):
        methods.check(FinetuneConfig(method="p_tuning", virtual_tokens=61), facts, SingleLabel)
    with pytest.raises(RecipeError, match=r"^finetune.virtual_tokens: has no effect with method lora; leave it unset$"):
        methods.check(FinetuneConfig(method="lora", virtual_tokens=5), facts, SingleLabel)


def test_a_task_that_generates_takes_no_virtual_tokens() -> None:
    class Generation(SingleLabel):
        adapter = "CAUSAL_LM"

    with pytest.raises(RecipeError, match=r"^finetune.method=prompt: is for encoders; .* take lora$"):
        methods.check(FinetuneConfig(method="prompt"), Facts("llama", 2, 64), Generation)


def test_questions_take_no_virtual_tokens() -> None:
    class Questions(SingleLabel):
        adapter = "QUESTION_ANS"
        lays_windows = True

    with pytest.raises(RecipeError, match=r"^finetune.method=prompt: long contexts .* windows .* take lora$"):
        methods.check(FinetuneConfig(method="prompt"), Facts("bert", 2, 64), Questions)


@pytest.mark.parametrize("method", ["prompt", "p_tuning"])
def test_tags_of_rows_longer_than_an_item(method: Any, tiny_model: Path, tmp_path: Path) -> None:
    """Items hold as many words with virtual tokens as without, so that every token's logits can be compared."""
    words = ("good", "bad", "film", "plot", "is", "was")
    rows = [[words[(row * 7 + index * index) % 6] for index in range(5 + row % 30)] for row in range(60)]
    file = tmp_path / "rows.jsonl"
    tagged = ({"tokens": row, "tags": ["N" if word in ("film", "plot") else "O" for word in row]} for row in rows)
    file.write_text("".join(json.dumps(row) + "\n" for row in tagged), encoding="utf-8")
    source = DataConfig(file=str(file), task="token-classification", validation_fraction=0.2, test_fraction=0.2, seed=0)
    prepare(source, sources.local_files(source), tmp_path / "data")
    config = config_for(method, tiny_model, batch_size=4, epochs=1.0)
    result = finetune(config, {"data": tmp_path / "data", "model": tiny_model}, tmp_path / "out")
    assert result.metrics["merge_difference"] <= 1e-4
    assert result.metrics["test"]["agreement"] == 1.0
    assert model_folder.load_tokenizer(tmp_path / "out").model_max_length == 17

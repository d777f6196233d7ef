"""Language models: what is learnt of a row, what its loss is, and every method from training to a plain model."""

from __future__ import annotations

import math
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tiny_language import (
    KINDS,
    OVER,
    TEMPLATE,
    TEXTS,
    data_folder,
    dataset,
    killed,
    language_folder,
    language_model,
    losses_of,
    rows_of,
    tokenizer,
)

from edgeft.errors import DataError, ModelError, RecipeError
from edgeft.models import model_facts, model_folder
from edgeft.recipe import FinetuneConfig
from edgeft.train import methods, tasks
from edgeft.train.finetune import create_loss
from edgeft.train.finetune import run as finetune
from edgeft.train.loop.loop import accumulate
from edgeft.train.loop.precision import Arithmetic
from edgeft.train.loop.processes import Processes

CPU = torch.device("cpu")
# GPT-2's layers are Conv1D, which adapters and 4 bits treat in another way than Llama's Linear.
PAIRS = [("full", "llama"), ("lora", "gpt2"), ("dora", "llama"), ("rslora", "gpt2")]
PAIRS += [(method, kind) for method in ("qlora", "ia3") for kind in ("llama", "gpt2")]
RATES = {"full": 5e-3, "ia3": 5e-2}
END, START = 0, 1
QUICK: dict[str, Any] = {"epochs": 2.0, "batch_size": 4, "max_length": 32, "seed": 1, "early_stopping_patience": 0}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Gives the folder of a tiny model of a kind."""
    base = tmp_path_factory.mktemp("language")
    return {kind: language_folder(base / kind, kind) for kind in KINDS}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Gives the data folder of a form of rows."""
    base = tmp_path_factory.mktemp("language-data")
    return {kind: data_folder(base / kind, kind) for kind in ("text", "prompt-completion", "messages")}


def task_of(kind: str, max_length: int = 32, rows: Any = None, own: Any = None, **settings: Any) -> Any:
    config = FinetuneConfig(max_length=max_length, **settings)
    return tasks.create_task(dataset(kind, rows), own or tokenizer(), max_length, config)


def learnt(task: Any, item: dict[str, Any]) -> str:
    return str(task.tokenizer.decode([label for label in item["labels"] if label != -100]))


# --------------------------------------------------------------------------------------------------------- plain texts


def test_a_text_ends_with_the_end_of_text_and_begins_as_its_tokenizer_begins_it() -> None:
    for start in (False, True):
        item = task_of("text", own=tokenizer(start)).items(dataset("text").train).inputs[0]
        plain = tokenizer()(TEXTS[0])["input_ids"]
        assert item["input_ids"] == [*[START] * start, *plain, END]
        assert item["labels"] == [-100, *item["input_ids"][1:]]


@pytest.mark.parametrize("max_length", [4, 5, 7, 1000])
def test_every_token_of_a_long_text_is_predicted_once_however_it_is_cut(max_length: int) -> None:
    text = " ".join(TEXTS)
    task = task_of("text", max_length, {"text": [text, "the cat"]})
    items = task.items(task.dataset.train)
    whole = [*tokenizer()(text)["input_ids"], END]
    first = [item for item, row in zip(items.inputs, items.rows, strict=True) if row == 0]
    assert [label for item in first for label in item["labels"] if label != -100] == whole[1:]
    assert max(items.lengths) <= max_length
    assert items.weights[items.rows == 0].sum() == len(whole) - 1
    assert all(one["input_ids"][-1] == other["input_ids"][0] for one, other in pairwise(first))


def test_what_does_not_fit_is_said_once(capsys: pytest.CaptureFixture[str]) -> None:
    task = task_of("text", 4, {"text": [" ".join(TEXTS), "the"]})
    for _ in range(2):
        task.items(task.dataset.test)
    task.items(task.dataset.test.take([0]))
    said = capsys.readouterr().err
    assert said == "test: 1 of 2 rows are longer than 4 tokens: they are cut into several items\n"


# ------------------------------------------------------------------------------------------------ prompts, completions


def test_of_a_prompt_with_completion_the_completion_is_learnt() -> None:
    task = task_of("prompt-completion")
    items = task.items(task.dataset.train)
    assert learnt(task, items.inputs[0]) == " mice here.<|end|>"
    assert task.tokenizer.decode(items.inputs[0]["input_ids"]) == "the cat eats mice here.<|end|>"
    assert items.weights[0] == sum(label != -100 for label in items.inputs[0]["labels"])


def test_the_prompt_is_tokenized_as_it_will_be_in_use() -> None:
    """In the whole text one token goes over the seam; in use the prompt is all there is."""
    own = tokenizer()
    assert len(own("the cat")["input_ids"]) < len(own("the c")["input_ids"]) + len(own("at")["input_ids"])
    task = task_of("prompt-completion", rows={"prompt": ["the c"], "completion": ["at"]})
    item = task.items(task.dataset.train).inputs[0]
    assert item["input_ids"] == [*own("the c")["input_ids"], *own("at")["input_ids"], END]
    assert learnt(task, item) == "at<|end|>"


def test_a_long_prompt_loses_its_beginning_and_a_long_completion_its_end(capsys: pytest.CaptureFixture[str]) -> None:
    rows = {"prompt": [" ".join(TEXTS), "the cat eats"], "completion": [" mice", " ".join(TEXTS)]}
    task = task_of("prompt-completion", 12, rows, tokenizer(start=True))
    first, second = task.items(task.dataset.train).inputs
    assert first["input_ids"][0] == second["input_ids"][0] == START
    assert len(first["input_ids"]) == len(second["input_ids"]) == 12
    assert task.tokenizer.decode(first["input_ids"][1:]).endswith("now. mice<|end|>".removeprefix("now."))
    assert learnt(task, first) == " mice<|end|>"
    assert learnt(task, second).startswith(TEXTS[0][:10])
    assert sum(label == -100 for label in second["labels"]) == 3  # a quarter stays with the prompt
    assert "train: 2 of 2 rows are longer than 12 tokens: the prompt loses" in capsys.readouterr().err


# --------------------------------------------------------------------------------------------------------------- chats


CHAT = [
    {"role": "system", "content": "be short"},
    {"role": "user", "content": "what eats the cat?"},
    {"role": "assistant", "content": "mice."},
    {"role": "user", "content": "and the cow?"},
    {"role": "assistant", "content": "grass at home."},
]


def test_of_a_chat_the_assistants_messages_are_learnt_with_their_end() -> None:
    task = task_of("messages", 128, {"messages": [CHAT]})
    item = task.items(task.dataset.train).inputs[0]
    text = task.tokenizer.apply_chat_template(CHAT, tokenize=False)
    assert task.tokenizer.decode(item["input_ids"]) == text
    assert learnt(task, item) == "mice.<|over|>\ngrass at home.<|over|>\n"


def test_a_chat_whose_answer_does_not_fit_is_left_out_and_counted(capsys: pytest.CaptureFixture[str]) -> None:
    long = [{"role": "user", "content": " ".join(TEXTS)}, {"role": "assistant", "content": "mice."}]
    task = task_of("messages", 32, {"messages": [long, CHAT[1:3]]})
    items = task.items(task.dataset.train)
    assert items.rows.tolist() == [1]
    said = capsys.readouterr().err
    assert "train: 1 of 2 rows are longer than 32 tokens: they lose their end" in said
    assert "train: 1 of 2 rows have no target in 32 tokens and are left out" in said
    assert len(task.items(task.dataset.train.take([0]))) == 0
    alone = task_of("messages", 32, {"messages": [long]})
    with pytest.raises(DataError, match="train: none of its 1 rows has a target in 32 tokens; raise max_length"):
        alone.items(alone.dataset.train)


def test_templates_that_messages_can_not_be_learnt_from() -> None:
    with pytest.raises(ModelError, match="has no chat template"):
        task_of("messages", own=tokenizer(template=None))
    forgetful = "{% for message in messages %}{{ messages | length }}{{ message.content }}{% endfor %}"
    task = task_of("messages", own=tokenizer(template=forgetful))
    with pytest.raises(ModelError, match="row 1: the chat template renders the messages before answer 1 differently"):
        task.items(task.dataset.train)
    strict = "{{ raise_exception('only one message') if messages | length > 1 else 'x' }}"
    task = task_of("messages", own=tokenizer(template=strict))
    with pytest.raises(
        ModelError, match=r"row 1: the chat template refuses its messages \(user, assistant\): only one"
    ):
        task.items(task.dataset.train)


def test_a_chat_that_the_assistant_opens() -> None:
    task = task_of("messages", rows={"messages": [[{"role": "assistant", "content": "mice."}]]})
    assert learnt(task, task.items(task.dataset.train).inputs[0]).endswith("mice.<|over|>\n")


# ---------------------------------------------------------------------------------------------------- losses, figures


def by_hand(model: Any, item: dict[str, Any], smoothing: float = 0.0) -> float:
    """The loss of one item, target by target, in float64."""
    with torch.inference_mode():
        logits = model(torch.tensor([item["input_ids"]])).logits[0].double().numpy()
    total = 0.0
    for index, label in enumerate(item["labels"]):
        if label == -100:
            continue
        before = logits[index - 1]
        shares = before - before.max() - math.log(np.exp(before - before.max()).sum())
        total -= (1 - smoothing) * shares[label] + smoothing * shares.mean()
    return total


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
@pytest.mark.parametrize("kind", ["text", "prompt-completion", "messages"])
def test_losses_are_those_of_the_slow_twin(kind: str, smoothing: float) -> None:
    task, model = task_of(kind, label_smoothing=smoothing), language_model("llama")
    items = task.items(task.dataset.train, training=True)
    found = task.losses(model, items, [0, 3, 9])
    expected = [by_hand(model, items.inputs[index], smoothing) for index in (0, 3, 9)]
    np.testing.assert_allclose(found.detach().numpy(), expected, rtol=1e-5)


@pytest.mark.parametrize("kind", ["text", "messages"])
@pytest.mark.parametrize("packing", [False, True])
def test_batches_of_any_size_give_the_same_step(kind: str, packing: bool) -> None:
    task = task_of(kind, 64, {name: cells * 4 for name, cells in rows_of(kind).items()}, packing=packing)
    items = task.items(task.dataset.train, training=True)
    order = items.weights.argsort(kind="stable").tolist()
    chosen = [index for pair in zip(order[:4], order[-4:], strict=True) for index in pair]
    assert len(set(items.weights[chosen])) > 1

    def gradient(batches: list[list[int]]) -> tuple[float, torch.Tensor]:
        model = language_model("llama")
        loss = accumulate(Processes(model, 0), create_loss(task, items), batches, 1, Arithmetic("fp32", CPU))
        with torch.no_grad():  # plain SGD, whose step shows the scale of the gradient
            for parameter in model.parameters():
                parameter -= 0.1 * parameter.grad
        return loss, torch.cat([parameter.flatten() for parameter in model.parameters()])

    whole, after = gradient([chosen])
    for size in (4, 2):
        loss, other = gradient([chosen[start : start + size] for start in range(0, 8, size)])
        assert loss == pytest.approx(whole, abs=1e-5)
        torch.testing.assert_close(other, after, atol=1e-5, rtol=0)


def test_packed_rows_have_the_same_targets_and_total_loss() -> None:
    model, plain, packed = language_model("gpt2"), task_of("text"), task_of("text", packing=True)
    split = plain.dataset.train
    one, other = plain.items(split, training=True), packed.items(split, training=True)
    assert len(other) < len(one) / 1.5
    assert one.weights.sum() == other.weights.sum()
    with torch.inference_mode():
        whole = plain.losses(model, one, range(len(one))).sum()
        total = [float(whole), float(packed.losses(model, other, range(len(other))).sum())]
    assert total[0] == pytest.approx(total[1], rel=1e-5)
    assert len(packed.items(split)) == len(split)  # predictions are never packed


def test_figures_are_those_of_the_slow_twin_and_know_their_rows() -> None:
    task, model = task_of("text", 6), language_model("llama")
    split = task.dataset.test
    items = task.items(split)
    found = task.predict(model, items)
    losses = np.array([by_hand(model, item) for item in items.inputs])
    figures = task.figures(found, split)
    assert figures["nll"] == pytest.approx(losses.sum() / items.weights.sum(), rel=1e-5)
    assert figures["perplexity"] == pytest.approx(math.exp(figures["nll"]))
    assert figures["negative_perplexity"] == -figures["perplexity"]
    assert task.score(figures) == -figures["nll"]
    assert figures["tokens"] == items.weights.sum() == len(task.answers(found))

    measures = task.measures(found, split)
    assert next(iter(measures)) == task.lead
    own = np.isin(items.rows, [2, 5])
    expected = losses[own].sum() / items.weights[own].sum()
    assert measures["nll"](np.array([2, 5])) == pytest.approx(expected, rel=1e-5)
    assert measures["negative_perplexity"](np.array([2, 5])) == pytest.approx(-math.exp(expected), rel=1e-5)


def test_answers_are_the_likeliest_tokens_and_the_share_of_right_ones_is_counted() -> None:
    task, model = task_of("prompt-completion"), language_model("llama")
    items = task.items(task.dataset.test)
    found = task.predict(model, items)
    expected, right = [], 0
    for item in items.inputs:
        with torch.inference_mode():
            best = model(torch.tensor([item["input_ids"]])).logits[0].argmax(dim=-1).tolist()
        positions = [index for index, label in enumerate(item["labels"]) if label != -100]
        expected += [best[index - 1] for index in positions]
        right += sum(best[index - 1] == item["labels"][index] for index in positions)
    assert task.answers(found) == expected
    assert task.figures(found, task.dataset.test)["token_accuracy"] == right / len(expected)
    assert task.logits_to_compare(found).shape[1] == model.config.vocab_size
    assert len(task.logits_to_compare(found)) <= 64


def test_a_row_without_targets_has_no_figure() -> None:
    long = [{"role": "user", "content": " ".join(TEXTS)}, {"role": "assistant", "content": "mice."}]
    task = task_of("messages", 32, {"messages": [long, CHAT[1:3]]})
    split = task.dataset.test
    measures = task.measures(task.predict(language_model("llama"), task.items(split)), split)
    assert measures["nll"](np.array([0])) is None
    assert measures["negative_perplexity"](np.array([0])) is None
    assert measures["nll"](np.array([0, 1])) == measures["nll"](np.array([1]))


# ------------------------------------------------------------------------------------------------------------- methods


@pytest.mark.parametrize(("method", "kind"), PAIRS)
def test_a_method_trains_resumes_and_ends_as_a_plain_model(
    method: Any, kind: str, folder: Any, data: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    form = {"lora": "prompt-completion", "qlora": "messages"}.get(method, "text")
    config = FinetuneConfig(
        **QUICK,
        model=str(folder[kind]),
        method=method,
        packing=True,
        checkpoint_steps=3,
        learning_rate=RATES.get(method, 1e-2),
    )
    inputs = {"data": data[form], "model": folder[kind]}
    result = finetune(config, inputs, tmp_path / "out")
    test = result.metrics["test"]
    if method != "full":
        assert result.metrics["merge_difference"] <= 1e-4
        assert test["agreement"] >= 0.99

    plain, report = AutoModelForCausalLM.from_pretrained(tmp_path / "out", output_loading_info=True)
    assert not any(report[gap] for gap in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    assert not any("lora" in name or "ia3" in name for name, _ in plain.named_parameters())
    own = AutoTokenizer.from_pretrained(tmp_path / "out")
    task = tasks.create_task(dataset(form), own, 32, config)
    again = task.figures(task.predict(plain.eval(), task.items(task.dataset.test)), task.dataset.test)
    assert again["nll"] == pytest.approx(test["nll"], rel=1e-5)
    if form == "messages":
        assert own.chat_template == TEMPLATE

    before = model_folder.load(folder[kind], task.head([]))
    first = task.figures(task.predict(before, task.items(task.dataset.test)), task.dataset.test)
    assert test["nll"] < first["nll"]
    tied = plain.get_output_embeddings().weight is plain.get_input_embeddings().weight
    assert tied
    moved = not torch.equal(plain.get_input_embeddings().weight, before.get_input_embeddings().weight)
    assert moved == (method == "full")

    killed(config, inputs, tmp_path / "killed", monkeypatch)
    assert finetune(config, inputs, tmp_path / "killed").digest == result.digest


@pytest.mark.parametrize("kind", KINDS)
def test_perplexity_falls_to_what_can_be_known(kind: str, folder: Any, data: Any, tmp_path: Path) -> None:
    """Which animal and where it eats are guesses, ln 6 + ln 3 nats a text; all else follows."""
    config = FinetuneConfig(
        **{**QUICK, "epochs": 30.0}, model=str(folder[kind]), method="full", packing=True, learning_rate=1e-2
    )
    result = finetune(config, {"data": data["text"], "model": folder[kind]}, tmp_path / "out")
    task = task_of("text")
    a_text = result.metrics["test"]["nll"] * result.metrics["test"]["tokens"] / len(task.dataset.test)
    assert math.log(18) * 0.95 < a_text < math.log(18) + 0.6
    losses = list(losses_of(tmp_path / "out" / "history.jsonl"))
    assert losses[-1] < losses[0] / 5


def test_a_model_learns_to_answer_and_to_stop(folder: Any, data: Any, tmp_path: Path) -> None:
    config = FinetuneConfig(**{**QUICK, "epochs": 40.0}, model=str(folder["llama"]), method="full", learning_rate=1e-2)
    finetune(config, {"data": data["messages"], "model": folder["llama"]}, tmp_path / "out")
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model, own = AutoModelForCausalLM.from_pretrained(tmp_path / "out"), AutoTokenizer.from_pretrained(tmp_path / "out")
    prompt = own.apply_chat_template(
        rows_of("messages")["messages"][0][:1], add_generation_prompt=True, return_tensors="pt", return_dict=True
    )
    made = model.generate(**prompt, max_new_tokens=20, do_sample=False, eos_token_id=own.convert_tokens_to_ids(OVER))
    answer = own.decode(made[0, prompt["input_ids"].shape[1] :])
    assert answer in {f"mice {index}.<|over|>" for index in ("here", "at home", "now")}


def test_qlora_keeps_the_head_and_the_tied_embeddings_out_of_4_bits(folder: Any) -> None:
    config = FinetuneConfig(method="qlora", model=str(folder["gpt2"]))
    model = methods.load(config, str(folder["gpt2"]), tasks.task_class("text").head([]), CPU)
    small = [name for name, module in model.named_modules() if type(module).__name__ == "Linear4bit"]
    assert len(small) == 2 * 4
    assert model.lm_head.weight is model.transformer.wte.weight
    assert model.lm_head.weight.dtype == torch.float32


@pytest.mark.parametrize("option", [{"method": "head"}, {"method": "lora", "gradual_unfreezing": True}])
def test_what_means_nothing_for_a_language_model_is_refused(option: Any, folder: Any) -> None:
    facts = model_facts.read_facts(folder["llama"])
    named = "gradual_unfreezing" if len(option) > 1 else "method=head"
    with pytest.raises(RecipeError, match=rf"^finetune\.{named}: a model for text rows has no head apart"):
        methods.check(FinetuneConfig(**option), facts, tasks.task_class("text"))


def test_what_an_error_calls_items() -> None:
    """Five rows in parts of four tokens name their row; packed, the row that an item begins with."""
    task = task_of("text", max_length=4)
    items = task.items(task.dataset.train, training=True)
    assert len(items) > len(task.dataset.train)
    number = int(task.dataset.train.rows[items.rows[-1]])
    assert create_loss(task, items).names([len(items) - 1]) == f"row {number}"
    packing = task_of("text", packing=True)
    packed = packing.items(packing.dataset.train, training=True)
    first = int(packing.dataset.train.rows[packed.rows[0]])
    assert create_loss(packing, packed).names([0]) == f"packed items that begin with row {first}"


def test_packing_is_refused_where_it_would_do_nothing(folder: Any) -> None:
    facts = model_facts.read_facts(folder["llama"])
    for kind in ("single-label", "pairs"):
        with pytest.raises(RecipeError, match=f"packing: has no effect for {kind} rows"):
            methods.check(FinetuneConfig(packing=True), facts, tasks.task_class(kind))


@pytest.mark.parametrize("method", ["full", "lora"])
@pytest.mark.parametrize("kind", KINDS)
def test_lower_layers_can_be_frozen_or_learn_more_slowly(
    kind: str, method: Any, folder: Any, data: Any, tmp_path: Path
) -> None:
    config = FinetuneConfig(**QUICK, model=str(folder[kind]), method=method, freeze_layers=1, learning_rate=1e-2)
    finetune(config, {"data": data["text"], "model": folder[kind]}, tmp_path / "frozen")
    head = tasks.task_class("text").head([])
    before, after = (
        dict(model_folder.load(index, head).named_parameters()) for index in (folder[kind], tmp_path / "frozen")
    )
    moved = {name for name in before if not torch.equal(before[name], after[name])}
    assert moved
    assert not any(".0." in name or "embed" in name or "wte" in name for name in moved)
    slow = replace(config, freeze_layers=0, layer_decay=0.5)
    finetune(slow, {"data": data["text"], "model": folder[kind]}, tmp_path / "slow")


# ---------------------------------------------------------------------------------------------- models that can't learn


def test_an_end_of_text_that_also_pads_learns_all_the_same() -> None:
    from transformers import AutoModelForCausalLM

    config = language_model("llama").config
    config.pad_token_id, config.tie_word_embeddings = END, False
    model = AutoModelForCausalLM.from_config(config)
    model.edgeft_new_head = False
    inside = {"text": [f"the cat {tokenizer().eos_token} eats mice"]}
    task = task_of("text", rows=inside)
    task.prepare(model)
    task.losses(model, task.items(task.dataset.train), [0]).sum().backward()
    gradient = model.get_input_embeddings().weight.grad
    assert gradient[END].abs().max() > 0
    assert gradient[task.tokenizer.pad_token_id].abs().max() == 0


def test_models_that_can_not_learn_from_the_rows(folder: Any, tiny_model: Path) -> None:
    task = task_of("text", 65)
    model = model_folder.load(folder["llama"], task.head([]))
    with pytest.raises(ModelError, match="max_length=65 is more than the model's 64 positions"):
        task.prepare(model)
    with pytest.raises(ModelError, match="no language-model head"):
        task_of("text").prepare(model_folder.load(tiny_model, task.head([])))
    silent = tokenizer()
    silent.eos_token = None
    with pytest.raises(ModelError, match="no end-of-text token"):
        task_of("text", own=silent)

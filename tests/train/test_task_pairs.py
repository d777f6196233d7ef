"""Text to text: what the decoder learns, what it writes, and every method from training to a plain model."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tiny_language import TEXTS, data_folder, dataset, killed, losses_of, pairs_folder, rows_of, word_tokenizer

from edgeft.errors import ModelError, RecipeError
from edgeft.models import model_facts, model_folder
from edgeft.recipe import FinetuneConfig
from edgeft.train import methods, metrics, tasks
from edgeft.train.finetune import create_loss
from edgeft.train.finetune import run as finetune
from edgeft.train.loop.loop import accumulate
from edgeft.train.loop.precision import Arithmetic
from edgeft.train.loop.processes import Processes

CPU = torch.device("cpu")
KINDS = ("t5", "bart")
PAIRS = [("full", "t5"), ("lora", "bart"), ("dora", "t5"), ("rslora", "bart"), ("qlora", "t5"), ("ia3", "t5")]
PAIRS += [("ia3", "bart")]
RATES = {"full": 5e-3, "ia3": 5e-2}
QUICK: dict[str, Any] = {"epochs": 2.0, "batch_size": 4, "max_length": 12, "seed": 1, "early_stopping_patience": 0}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Gives the folder of a tiny model of a kind."""
    base = tmp_path_factory.mktemp("pairs")
    return {kind: pairs_folder(base / kind, kind) for kind in KINDS}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return data_folder(tmp_path_factory.mktemp("pairs-data") / "data", "pairs")


def task_of(rows: Any = None, max_length: int = 12, **settings: Any) -> Any:
    config = FinetuneConfig(max_length=max_length, **settings)
    return tasks.create_task(dataset("pairs", rows), word_tokenizer(), max_length, config)


def by_hand(model: Any, item: dict[str, Any], smoothing: float = 0.0) -> float:
    """The loss of one item alone, target by target, in float64; the decoder is given what stands before each."""
    begin, total = model.config.decoder_start_token_id, 0.0
    for index, label in enumerate(item["labels"]):
        given = torch.tensor([[begin, *item["labels"][:index]]])
        with torch.inference_mode():
            source = torch.tensor([item["input_ids"]])
            logits = model(input_ids=source, decoder_input_ids=given).logits[0, -1].double().numpy()
        shares = logits - logits.max() - math.log(np.exp(logits - logits.max()).sum())
        total -= (1 - smoothing) * shares[label] + smoothing * shares.mean()
    return total


# ----------------------------------------------------------------------------------------------------- items and losses


def test_both_texts_end_as_the_tokenizer_ends_them_and_are_cut_where_they_are_long(
    capsys: pytest.CaptureFixture[str],
) -> None:
    rows = {"source": ["the cat eats mice .", "the cat"], "target": ["mice", " ".join(TEXTS)]}
    task = task_of(rows, 6)
    items = task.items(task.dataset.train)
    task.items(task.dataset.train)
    own = task.tokenizer
    assert own.decode(items.inputs[0]["input_ids"]) == "the cat eats mice . </s>"
    assert own.decode(items.inputs[0]["labels"]) == "mice </s>"
    assert len(items.inputs[1]["labels"]) == 6
    assert items.weights.tolist() == [2, 6]
    assert capsys.readouterr().err == "train: 0 sources and 1 targets of 2 are cut to 6 tokens\n"


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("kind", KINDS)
def test_losses_are_those_of_the_slow_twin(kind: str, smoothing: float, folder: Any) -> None:
    rows = {"source": ["the cat eats mice here .", "the cow", "owl"], "target": ["mice", "grass at home now", "a b c"]}
    task = task_of(rows, label_smoothing=smoothing)
    model = model_folder.load(folder[kind], task.head([]))
    items = task.items(task.dataset.train, training=True)
    found = task.losses(model, items, [2, 0, 1]).detach().numpy()
    np.testing.assert_allclose(
        found, [by_hand(model, items.inputs[index], smoothing) for index in (2, 0, 1)], rtol=1e-5
    )


def test_batches_of_any_size_give_the_same_step(folder: Any) -> None:
    rows = {"source": TEXTS[:8], "target": [" ".join(["mice"] * length) for length in (1, 9, 2, 8, 3, 7, 4, 6)]}
    task = task_of(rows)
    items = task.items(task.dataset.train, training=True)

    def stepped(size: int) -> tuple[float, torch.Tensor]:
        model = model_folder.load(folder["t5"], task.head([]))
        batches = [list(range(start, start + size)) for start in range(0, 8, size)]
        loss = accumulate(Processes(model, 0), create_loss(task, items), batches, 1, Arithmetic("fp32", CPU))
        with torch.no_grad():  # plain SGD, whose step shows the scale of the gradient
            for parameter in model.parameters():
                parameter -= 0.1 * parameter.grad
        return loss, torch.cat([parameter.flatten() for parameter in model.parameters()])

    whole, after = stepped(8)
    for size in (4, 2):
        loss, other = stepped(size)
        assert loss == pytest.approx(whole, abs=1e-5)
        torch.testing.assert_close(other, after, atol=1e-5, rtol=0)


# -------------------------------------------------------------------------------------------------------------- figures


@pytest.mark.parametrize("kind", KINDS)
def test_texts_are_those_of_plain_generation_one_by_one(kind: str, folder: Any) -> None:
    task = task_of()
    model = model_folder.load(folder[kind], task.head([]))
    items = task.items(task.dataset.test)
    found = task.predict(model, items)
    for text, item in zip(found.texts, items.inputs, strict=True):
        ids = model.generate(torch.tensor([item["input_ids"]]), max_new_tokens=12, do_sample=False, num_beams=1)
        assert text == task.tokenizer.decode(ids[0], skip_special_tokens=True).strip()
    assert task.answers(found) == found.texts


def test_figures_are_of_the_written_texts_and_of_the_right_ones(folder: Any) -> None:
    task = task_of()
    model = model_folder.load(folder["t5"], task.head([]))
    split = task.dataset.test
    items = task.items(split)
    found = task.predict(model, items)
    figures = task.figures(found, split)
    assert {"chrf", "bleu", "rouge_l"} <= figures.keys()
    assert figures["chrf"] == metrics.generation(found.texts, split.columns["target"])["chrf"]
    losses = np.array([by_hand(model, item) for item in items.inputs])
    assert figures["nll"] == pytest.approx(losses.sum() / items.weights.sum(), rel=1e-5)

    measures = task.measures(found, split)
    assert next(iter(measures)) == task.lead == "chrf"
    assert measures["nll"](np.array([1, 4])) == pytest.approx(
        losses[[1, 4]].sum() / items.weights[[1, 4]].sum(), rel=1e-5
    )


def test_chrf_of_rows_is_that_of_their_corpus() -> None:
    from edgeft.train.tasks.pairs import chrf_statistic

    written = ["the cat eats", "", "mice at home", "grass grass"]
    right = ["the cat eats mice", "the dog", "mice here", "grass"]
    of_rows = chrf_statistic(written, right)
    assert callable(of_rows)
    for rows in ([0, 1, 2, 3], [2, 2, 0], [1]):
        expected = metrics.generation([written[row] for row in rows], [right[row] for row in rows])["chrf"]
        assert of_rows(np.array(rows)) == pytest.approx(expected)


def test_a_look_during_training_writes_nothing(folder: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    task = task_of()
    model = model_folder.load(folder["t5"], task.head([]))
    items, split = task.items(task.dataset.validation), task.dataset.validation
    whole = task.figures(task.predict(model, items), split)
    monkeypatch.setattr(type(model), "generate", None)
    found = task.evaluate(model, items, split)
    assert "chrf" not in found
    assert task.score(found) == -whole["nll"]


# -------------------------------------------------------------------------------------------------------------- methods


@pytest.mark.parametrize(("method", "kind"), PAIRS)
def test_a_method_trains_resumes_and_ends_as_a_plain_model(
    method: Any, kind: str, folder: Any, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from transformers import AutoModelForSeq2SeqLM, AutoTokenizer

    more: dict[str, Any] = {"checkpoint_steps": 3, "learning_rate": RATES.get(method, 1e-2)}
    config = FinetuneConfig(model=str(folder[kind]), method=method, **QUICK, **more)
    inputs = {"data": data, "model": folder[kind]}
    result = finetune(config, inputs, tmp_path / "out")
    test = result.metrics["test"]
    if method != "full":
        assert result.metrics["merge_difference"] <= 1e-4
        assert test["agreement"] == 1.0

    plain, report = AutoModelForSeq2SeqLM.from_pretrained(tmp_path / "out", output_loading_info=True)
    assert not any(report[gap] for gap in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    assert not any("lora" in name or "ia3" in name for name, _ in plain.named_parameters())
    task = tasks.create_task(dataset("pairs"), AutoTokenizer.from_pretrained(tmp_path / "out"), 12, config)
    items = task.items(task.dataset.test)
    assert task.score(task.evaluate(plain, items, task.dataset.test)) == pytest.approx(-test["nll"], rel=1e-5)
    before = model_folder.load(folder[kind], task.head([]))
    assert test["nll"] < task.evaluate(before, items, task.dataset.test)["nll"]

    killed(config, inputs, tmp_path / "killed", monkeypatch)
    assert finetune(config, inputs, tmp_path / "killed").digest == result.digest


@pytest.mark.parametrize("kind", KINDS)
def test_a_model_learns_to_turn_texts_around(kind: str, folder: Any, data: Path, tmp_path: Path) -> None:
    quick = {**QUICK, "epochs": 40.0, "learning_rate": 1e-2, "evaluations_per_epoch": 1}
    config = FinetuneConfig(model=str(folder[kind]), method="full", freeze_layers=0, **quick)
    result = finetune(config, {"data": data, "model": folder[kind]}, tmp_path / "out")
    assert result.metrics["test"]["chrf"] > 90
    assert result.metrics["test"]["perplexity"] < 1.5
    losses = list(losses_of(tmp_path / "out" / "history.jsonl"))
    assert losses[-1] < losses[0] / 10


@pytest.mark.parametrize("kind", KINDS)
def test_the_encoders_lower_layers_can_be_frozen_or_learn_more_slowly(
    kind: str, folder: Any, data: Path, tmp_path: Path
) -> None:
    inputs = {"data": data, "model": folder[kind]}
    quick = {**QUICK, "epochs": 1.0, "learning_rate": 1e-2}
    finetune(
        FinetuneConfig(model=str(folder[kind]), method="full", freeze_layers=1, **quick), inputs, tmp_path / "frozen"
    )
    head = tasks.task_class("pairs").head([])
    before, after = (
        dict(model_folder.load(index, head).named_parameters()) for index in (folder[kind], tmp_path / "frozen")
    )
    moved = {name for name in before if not torch.equal(before[name], after[name])}
    assert any("encoder" in name and ".1." in name for name in moved)
    assert any("decoder" in name and ".0." in name for name in moved)
    assert not any("encoder.block.0." in name or "encoder.layers.0." in name or "shared" in name for name in moved)
    finetune(
        FinetuneConfig(model=str(folder[kind]), method="full", layer_decay=0.5, **quick), inputs, tmp_path / "slow"
    )


def test_what_means_nothing_or_does_not_fit_is_refused(folder: Any) -> None:
    facts = model_facts.read_facts(folder["t5"])
    assert facts.layers == 2
    with pytest.raises(RecipeError, match=r"^finetune\.method=head: a model for pairs rows has no head apart"):
        methods.check(FinetuneConfig(method="head"), facts, tasks.task_class("pairs"))
    task = task_of(rows_of("pairs"), 65)
    with pytest.raises(ModelError, match="max_length=65 is more than the model's 64 positions"):
        task.prepare(model_folder.load(folder["bart"], task.head([])))

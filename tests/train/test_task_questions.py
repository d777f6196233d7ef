"""Answers that stand in a text: windows and offsets by hand, the search for the span, every method to a plain model."""

from __future__ import annotations

import copy
import random
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from support_encoders import byte_level_bpe, killed, tiny_encoder

from edgeft.data import dataset as datasets
from edgeft.data.dataset import Dataset, Split, split_of
from edgeft.errors import DataError
from edgeft.models import model_folder, model_layers
from edgeft.recipe import FinetuneConfig, TrainingConfig
from edgeft.train import methods, tasks
from edgeft.train.finetune import create_loss
from edgeft.train.finetune import run as finetune
from edgeft.train.loop.loop import Trainer
from edgeft.train.tasks.questions import Questions
from edgeft.train.tasks.spans import answer_tokens, best_span, encode_pairs, nll, trim_span

QUICK: dict[str, Any] = {"epochs": 1.0, "batch_size": 8, "max_length": 16, "seed": 1, "early_stopping_patience": 0}
RATES = {"full": 3e-3, "head": 1e-2, "rslora": 2e-3, "ia3": 2e-2}
Row = tuple[str, str, str]  # question, context, answer; an empty one where there is none


def rows_of(count: int, seed: int) -> list[Row]:
    """What is asked for is the one adjective of the context, or nothing."""
    generator = random.Random(seed)
    found = []
    for _ in range(count):
        words = generator.choices(["the", "film", "is", "a", "plot"], k=generator.randint(2, 20))
        answer = generator.choice(["good", "bad", "great", ""])
        if answer:
            words.insert(generator.randint(0, len(words)), answer)
        found.append(("was it so", " ".join(words), answer))
    return found


def split_from(rows: Sequence[Row]) -> Split:
    answers: list[dict[str, list[Any]]] = [
        {"text": [answer], "answer_start": [context.index(answer)]} if answer else {"text": [], "answer_start": []}
        for _, context, answer in rows
    ]
    columns: dict[str, list[Any]]
    columns = {"question": [row[0] for row in rows], "context": [row[1] for row in rows], "answers": answers}
    return split_of(columns, np.arange(1, len(rows) + 1), [])


def dataset_of(train: Sequence[Row], test: Sequence[Row] | None = None) -> Dataset:
    training, held_out = (split_from(rows) for rows in (train, test or train))
    return Dataset("question-answering", [], training, held_out, held_out, [], kind="squad", source="rows.jsonl")


def task_of(dataset: Dataset, tokenizer: Any, max_length: int = 16) -> Questions:
    task = tasks.create_task(dataset, tokenizer, max_length, TrainingConfig())
    assert isinstance(task, Questions)
    return task


@pytest.fixture(scope="module")
def tiny_tokenizer(tiny_tokenizer: Any) -> Any:
    """One that tells the two texts apart, as BERT's does."""
    tokenizer = copy.deepcopy(tiny_tokenizer)
    tokenizer.model_input_names = ["input_ids", "token_type_ids", "attention_mask"]
    return tokenizer


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("questions") / "data"
    datasets.save(dataset_of(rows_of(20, 0), rows_of(10, 1)), folder)
    return folder


# ------------------------------------------------------------------------------------------------------------- encoding


def test_a_long_context_becomes_windows_that_overlap(tiny_tokenizer: Any) -> None:
    """12 tokens, of which [CLS] was [SEP] and [SEP] leave 8; 3 of 12 are the stride, so a window begins every 5."""
    context = "the film is a plot so good a film is the plot is a film"  # 15 words
    task = task_of(dataset_of([("was", context, "good"), ("was", "the film", "film")]), tiny_tokenizer, 12)
    items = task.items(task.dataset.train, training=True)
    texts = [" ".join(tiny_tokenizer.convert_ids_to_tokens(item["input_ids"])) for item in items.inputs]
    assert texts == [
        "[CLS] was [SEP] the film is a plot so good a [SEP]",
        "[CLS] was [SEP] so good a film is the plot is [SEP]",
        "[CLS] was [SEP] the plot is a film [SEP]",
        "[CLS] was [SEP] the film [SEP]",
    ]
    assert [(item["start"], item["end"]) for item in items.inputs] == [(9, 9), (4, 4), (0, 0), (4, 4)]
    assert [item["first"] for item in items.inputs] == [3] * 4
    assert items.inputs[1]["types"] == [0, 0, 0, *[1] * 9]
    assert (items.rows.tolist(), items.weights.tolist()) == ([0, 0, 0, 1], [1.0] * 4)


def test_the_windows_are_those_of_the_tokenizer(tiny_tokenizer: Any) -> None:
    rows = rows_of(20, 3)
    task = task_of(dataset_of(rows), tiny_tokenizer, 14)
    ours = [item["input_ids"] for item in task.items(task.dataset.train).inputs]
    questions, contexts = [row[0] for row in rows], [row[1] for row in rows]
    cut: dict[str, Any] = {"truncation": "only_second", "max_length": 14, "stride": 3}
    theirs = tiny_tokenizer(questions, contexts, return_overflowing_tokens=True, **cut)["input_ids"]
    assert len(ours) > 25
    assert sorted(ours) == sorted(theirs)


def test_an_answer_cut_by_a_window_is_no_answer_there(tiny_tokenizer: Any) -> None:
    """Windows of tokens 0 to 7 and 5 to 9: `so good` is 7 and 8."""
    context = "the film is a plot is a so good a"
    task = task_of(dataset_of([("was", context, "so good")]), tiny_tokenizer, 12)
    items = task.items(task.dataset.train)
    assert [(item["start"], item["end"]) for item in items.inputs] == [(0, 0), (5, 6)]


@pytest.mark.parametrize("kind", ["pieces", "bytes"])
@pytest.mark.parametrize("answer", ["café", "naïve 😀", "😀", "ï", "b! 😀"])
def test_offsets_find_the_answer_again(kind: str, answer: str, tiny_tokenizer: Any) -> None:
    """Accents and an emoji of several bytes: from characters to tokens and back."""
    context = "a café, ab! 😀 naïve 😀 z"
    tokenizer = tiny_tokenizer if kind == "pieces" else byte_level_bpe(["café", "naïve"])
    pair = encode_pairs(tokenizer, ["a ä"], [context])[0]
    start = context.index(answer)
    first, last = answer_tokens(pair.offsets, {"text": [answer], "answer_start": [start]}) or (-1, -1)
    text, index = trim_span(context, pair.offsets[first][0], pair.offsets[last][1])
    assert answer in text
    assert index <= start
    if answer not in ("ï", "b! 😀"):  # those begin inside of a token
        assert (text, index) == (answer, start)
    assert len(pair.ids) == len(pair.types)
    assert pair.ids[pair.first : pair.first + len(pair.offsets)] == [
        *tokenizer(context, add_special_tokens=False)["input_ids"]
    ]


def test_an_answer_without_a_token_can_not_be_learnt() -> None:
    assert answer_tokens([(0, 1), (3, 4)], {"text": ["\x01"], "answer_start": [1]}) is None
    assert answer_tokens([], {"text": ["a"], "answer_start": [0]}) is None
    assert answer_tokens([(0, 1)], {"text": [], "answer_start": []}) is None
    # Of several answers the first is learnt.
    assert answer_tokens([(0, 1), (1, 2)], {"text": ["b", "a"], "answer_start": [1, 0]}) == (1, 1)


def test_a_question_that_leaves_no_room_is_refused_at_once(tiny_tokenizer: Any) -> None:
    """16 tokens less 3 special ones and a quarter for the context: 9."""
    fits, long = " ".join(["was"] * 9), " ".join(["was"] * 10)
    task_of(dataset_of([(fits, "the film", "film")]), tiny_tokenizer)
    line = (
        r"^rows.jsonl row 2: its question has 10 tokens, and with max_length=16 at most 9 leave room for its context "
        r"\(1 such rows in validation\); raise finetune.max_length or shorten the questions$"
    )
    with pytest.raises(DataError, match=line):
        task_of(dataset_of([("was", "a", "a")], [("was", "a", "a"), (long, "the film", "film")]), tiny_tokenizer)


# ------------------------------------------------------------------------------------------------------------- the loss


class Fixed(torch.nn.Module):
    """Answers fixed logits: start and end logit of a token are its place in the window, times a weight each."""

    def __init__(self, start: float, end: float) -> None:
        super().__init__()
        self.config = SimpleNamespace()
        self.scale = torch.nn.Parameter(torch.tensor([start, end]))

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> Any:
        index = torch.arange(input_ids.shape[1], dtype=torch.float32).expand(input_ids.shape)
        return SimpleNamespace(start_logits=index * self.scale[0], end_logits=index * self.scale[1])


def test_the_loss_by_hand(tiny_tokenizer: Any) -> None:
    """Six tokens in the first row; start logits all 0: ln 6. End logits 0, ln 2, ...: ln(2^6 - 1) less the target's.

    The batch is padded to eight, which must not count.
    """
    rows = [("was", "the film", "film"), ("was", "a film so good", "")]
    task = task_of(dataset_of(rows), tiny_tokenizer)
    items = task.items(task.dataset.train, training=True)
    start, end = np.log(6), np.log(2**6 - 1) - 4 * np.log(2)
    losses = task.losses(Fixed(0.0, float(np.log(2))), items, [0, 1]).detach().tolist()
    assert losses == pytest.approx([(start + end) / 2, (np.log(8) + np.log(2**8 - 1)) / 2])
    found = task.predict(Fixed(0.0, float(np.log(2))), items)
    assert found.nll == pytest.approx(np.mean(losses))


@pytest.mark.parametrize("kind", ["bert", "roberta"])
def test_the_loss_is_that_of_transformers(kind: str, tiny_tokenizer: Any, tmp_path: Path) -> None:
    """BERT is told which text a token belongs to; RoBERTa can't be."""
    task = task_of(dataset_of(rows_of(6, 4)), tiny_tokenizer)
    model: Any = model_folder.load(tiny_encoder(kind, tiny_tokenizer, tmp_path / kind), task.head([]))
    items = task.items(task.dataset.train)
    item = next(item for item in items.inputs if item["start"])
    types = {"token_type_ids": torch.tensor([item["types"]])} if kind == "bert" else {}
    ends = {name: torch.tensor([item[f"{name[:-10]}"]]) for name in ("start_positions", "end_positions")}
    theirs = model(input_ids=torch.tensor([item["input_ids"]]), **types, **ends).loss
    ours = task.losses(model, items, [items.inputs.index(item), 0])[0]
    assert float(ours.detach()) == pytest.approx(float(theirs.detach()), rel=1e-5)


def test_an_adapter_model_is_told_which_text_is_which(tiny_tokenizer: Any, tmp_path: Path) -> None:
    """A new LoRA changes nothing. peft's own class for this task would drop the token type ids, and so the loss."""
    folder = tiny_encoder("bert", tiny_tokenizer, tmp_path / "bert")
    task = task_of(dataset_of(rows_of(6, 4)), tiny_tokenizer)
    items = task.items(task.dataset.train)
    config = FinetuneConfig(model=str(folder), method="lora", seed=1)
    plain, base = (methods.load(config, str(folder), task.head([]), torch.device("cpu")) for _ in range(2))
    adapted = methods.prepare(config, base, task.adapter)
    np.testing.assert_allclose(task.predict(adapted, items).logits, task.predict(plain, items).logits, atol=1e-6)
    untold = methods.prepare(config, plain, "QUESTION_ANS")
    assert abs(task.predict(untold, items).logits - task.predict(adapted, items).logits).max() > 1e-3


def test_windows_weigh_the_same_however_they_are_batched(tiny_tokenizer: Any, tmp_path: Path) -> None:
    task = task_of(dataset_of(rows_of(8, 5)), tiny_tokenizer)
    items = task.items(task.dataset.train, training=True)
    assert len(set(items.lengths[:8])) > 2
    ends = []
    for size in (8, 3, 1):
        model = model_folder.load(tiny_encoder("bert", tiny_tokenizer, tmp_path / "bert"), task.head([]))
        torch.manual_seed(0)
        torch.nn.init.normal_(model_layers.last_linear(model).weight)
        for module in model.modules():
            if isinstance(module, torch.nn.Dropout):
                module.p = 0.0
        config = TrainingConfig(epochs=1, max_grad_norm=1e9)
        trainer = Trainer(model, create_loss(task, items), lambda: {"score": 0.0}, config, 0.1, tmp_path, "test")
        trainer.optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        trainer.scheduler = torch.optim.lr_scheduler.ConstantLR(trainer.optimizer, factor=1.0)
        for _ in range(3):
            trainer._step([list(range(8))[start : start + size] for start in range(0, 8, size)])
        ends.append([value.detach().clone() for value in model.parameters()])
    for parts in ends[1:]:
        for whole, part in zip(ends[0], parts, strict=True):
            torch.testing.assert_close(part, whole, atol=1e-5, rtol=0)


# ------------------------------------------------------------------------------------------------------ the best answer


def test_the_best_span_is_that_of_all_spans() -> None:
    generator = np.random.default_rng(0)
    for _ in range(100):
        m, longest = generator.integers(1, 12, 2).tolist()
        start, end = generator.normal(size=(2, m)).astype(np.float32)
        spans = [(i, j) for i in range(m) for j in range(i, min(m, i + longest))]
        best = max(spans, key=lambda span: start[span[0]] + end[span[1]])
        first, last, score = best_span(start, end, longest)
        assert (first, last) == best
        assert score == pytest.approx(float(start[first] + end[last]))


def test_no_context_has_no_span() -> None:
    empty = np.zeros(0, np.float32)
    assert best_span(empty, empty, 3) == (0, 0, -np.inf)


def test_a_loss_by_hand() -> None:
    start, end = np.log(np.array([[1, 3], [2, 2]], dtype=np.float32))
    assert nll(start, end, (1, 0)) == pytest.approx((np.log(4 / 3) + np.log(2)) / 2)


def window_logits(task: Questions, marked: Mapping[int, Mapping[int, tuple[float, float]]]) -> list[Any]:
    """Logits of every window: -5 but where window and token are named."""
    items = task.items(task.dataset.train)
    found = [np.full((len(item["input_ids"]), 2), -5, np.float32) for item in items.inputs]
    for window, indices in marked.items():
        for index, ends in indices.items():
            found[window][index] = ends
    return found


def test_the_answer_is_the_best_of_all_windows(tiny_tokenizer: Any) -> None:
    """Token 3 of a window is its first of the context; the second window begins at token 5."""
    context = "the film is a plot so good a film is the plot is a film"
    task = task_of(dataset_of([("was", context, "good")]), tiny_tokenizer, 12)
    items = task.items(task.dataset.train)
    marked = {0: {1: (9, 9), 5: (2, 1), 6: (0, 2)}, 1: {4: (3, -5), 6: (-5, 4), 3: (-5, 9)}}
    found = task.best_answers(items, window_logits(task, marked))
    # The question's own token and an end before its start don't count.
    assert (found.texts, found.starts, found.scores.tolist()) == (["good a film"], [context.index("good")], [7.0])
    assert found.logits.shape == (sum(items.lengths), 2)
    assert task.logits_to_compare(found) is found.logits
    assert task.answers(found) == ["good a film"]


def test_no_answer_where_every_window_says_so(tiny_tokenizer: Any) -> None:
    context = "the film is a plot so good a film is the plot is a film"
    rows = [("was", context, "good")]
    surely = {0: {0: (3, 3), 9: (2, 2)}, 1: {0: (4, 4)}, 2: {0: (5, 5)}}
    marked = {**surely, 1: {0: (1, 1)}}  # this window holds an answer, so its null score is low
    for known, nulls, expected in ((True, surely, ""), (True, marked, "good"), (False, surely, "good")):
        task = task_of(dataset_of([*rows, ("was", "a", "" if known else "a")]), tiny_tokenizer, 12)
        items = task.items(task.dataset.train)
        found = task.best_answers(items, window_logits(task, nulls))
        assert found.texts[0] == expected
        assert found.starts[0] == (context.index("good") if expected else -1)
        assert found.scores[0] == (4.0 if expected else 6.0)


def test_an_answer_is_as_long_as_training_answers_are(tiny_tokenizer: Any) -> None:
    assert task_of(dataset_of([("was", "a film", "film")]), tiny_tokenizer).longest == 30
    assert task_of(dataset_of([("was", "a " * 40, "a " * 39 + "a")]), tiny_tokenizer).longest == 40


def test_figures_by_hand(tiny_tokenizer: Any) -> None:
    task = task_of(dataset_of([("was", "so good a film", "good"), ("was", "a", "")]), tiny_tokenizer)
    items = task.items(task.dataset.train)
    found = task.best_answers(items, window_logits(task, {0: {3: (3, 0), 4: (0, 3)}, 1: {0: (1, 1)}}))
    assert found.texts == ["so good", ""]
    figures = task.figures(found, task.dataset.train)
    assert figures.pop("nll") == found.nll
    expected = {"exact_match": 0.5, "answerable_f1": 2 / 3, "unanswerable_accuracy": 1.0, "token_f1": 5 / 6}
    assert figures == pytest.approx(expected)
    measures: Any = task.measures(found, task.dataset.train)
    assert list(measures) == [task.lead, "exact_match"]
    assert measures["token_f1"].tolist() == pytest.approx([2 / 3, 1.0])
    assert measures["exact_match"].tolist() == [0.0, 1.0]


# ---------------------------------------------------------------------------------------------------------- the methods


@pytest.mark.parametrize(
    ("method", "kind"),
    [
        ("full", "roberta"),
        ("head", "distilbert"),
        ("lora", "bert"),
        ("dora", "distilbert"),
        ("rslora", "roberta"),
        ("qlora", "bert"),
        ("ia3", "distilbert"),
    ],
)
def test_a_method_trains_resumes_and_ends_as_a_plain_model(
    method: Any, kind: str, data: Path, tiny_tokenizer: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from transformers import AutoModelForQuestionAnswering, AutoTokenizer

    model = tiny_encoder(kind, tiny_tokenizer, tmp_path / kind)
    rate = RATES.get(method, 4e-3)
    config = FinetuneConfig(model=str(model), method=method, learning_rate=rate, checkpoint_steps=2, **QUICK)
    inputs = {"data": data, "model": model}
    result = finetune(config, inputs, tmp_path / "out")
    if method not in ("full", "head"):
        assert result.metrics["merge_difference"] <= 1e-4
        assert result.metrics["test"]["agreement"] == 1.0

    plain: Any
    plain, report = AutoModelForQuestionAnswering.from_pretrained(tmp_path / "out", output_loading_info=True)
    assert not any(report[gap] for gap in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    task = task_of(datasets.load(data), AutoTokenizer.from_pretrained(tmp_path / "out"))
    again = task.predict(plain, task.items(task.dataset.test))
    kept = task.predict(model_folder.load(tmp_path / "out", task.head([])), task.items(task.dataset.test))
    assert task.answers(again) == task.answers(kept)
    np.testing.assert_allclose(again.logits, kept.logits, atol=1e-5)
    figures = task.figures(again, task.dataset.test)
    assert figures == pytest.approx({name: result.metrics["test"][name] for name in figures}, abs=1e-5)

    killed(lambda: finetune(config, inputs, tmp_path / "killed"), monkeypatch)
    assert finetune(config, inputs, tmp_path / "killed").digest == result.digest


def test_the_rule_is_learnt_across_windows(tiny_tokenizer: Any, tmp_path: Path) -> None:
    model = tiny_encoder("bert", tiny_tokenizer, tmp_path / "bert")
    datasets.save(dataset_of(rows_of(150, 0), rows_of(40, 1)), tmp_path / "data")
    quick = {**QUICK, "epochs": 10.0, "evaluations_per_epoch": 1}
    config = FinetuneConfig(model=str(model), method="full", learning_rate=3e-3, **quick)
    result = finetune(config, {"data": tmp_path / "data", "model": model}, tmp_path / "out")
    assert result.metrics["test"]["token_f1"] >= 0.9
    assert result.metrics["test"]["unanswerable_accuracy"] >= 0.7


def test_a_model_with_labels_of_its_own_can_learn_to_answer(tiny_tokenizer: Any, tmp_path: Path) -> None:
    """A head for question answering has as many logits as config.json has labels, and needs two."""
    folder = tiny_encoder("distilbert", tiny_tokenizer, tmp_path / "distilbert")
    classifier = model_folder.load_classifier(folder, ["a", "b", "c"])
    model_folder.save(classifier, tiny_tokenizer, tmp_path / "three", 16)
    model = model_folder.load(tmp_path / "three", Questions.head([]))
    assert model.config.num_labels == 2
    assert model_layers.last_linear(model).out_features == 2

"""Tags of words: what the model is given, what is learnt from it, and every method from rows to a plain model."""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from support_encoders import byte_level_bpe, killed, tiny_encoder

from edgeft.data import dataset as datasets
from edgeft.data.dataset import Dataset, Split, split_of
from edgeft.models import model_folder, model_layers
from edgeft.recipe import FinetuneConfig, TrainingConfig
from edgeft.train import metrics, tasks
from edgeft.train.evaluate import read_predictions
from edgeft.train.finetune import create_loss
from edgeft.train.finetune import run as finetune
from edgeft.train.judges.tags import span_counts
from edgeft.train.loop.loop import Trainer
from edgeft.train.loop.packing import IGNORED
from edgeft.train.metrics import bootstrap
from edgeft.train.tasks.tags import Tags, encode_words, keeps_space, special_tokens, split_windows

BIO = ["B-ACT", "I-ACT", "O"]
QUICK: dict[str, Any] = {"epochs": 1.0, "batch_size": 8, "max_length": 16, "seed": 1, "early_stopping_patience": 0}
RATES = {"full": 3e-3, "head": 1e-2, "rslora": 2e-3, "ia3": 2e-2}
Row = tuple[list[str], list[str]]


def rows_of(count: int, seed: int) -> list[Row]:
    """`great` begins a span, `actor` right after it goes on with it; everything else is outside."""
    generator = random.Random(seed)
    found = []
    for _ in range(count):
        words = generator.choices(["the", "film", "is", "great", "actor", "a"], k=generator.randint(2, 18))
        after = ["", *words]
        tags = [
            "B-ACT" if word == "great" else "I-ACT" if (before, word) == ("great", "actor") else "O"
            for before, word in zip(after, words, strict=False)
        ]
        found.append((words, tags))
    return found


def split_from(rows: Sequence[Row], names: list[str]) -> Split:
    columns = {"tokens": [tokens for tokens, _ in rows], "tags": [tags for _, tags in rows]}
    return split_of(columns, np.arange(1, len(rows) + 1), names)


def dataset_of(train: Sequence[Row], names: list[str], test: Sequence[Row] | None = None, **others: Any) -> Dataset:
    training, held_out = (split_from(rows, names) for rows in (train, test or train))
    return Dataset("token-classification", names, training, held_out, held_out, [], kind="tokens", **others)


def task_of(dataset: Dataset, tokenizer: Any, max_length: int = 16, **options: Any) -> Tags:
    task = tasks.create_task(dataset, tokenizer, max_length, TrainingConfig(**options))
    assert isinstance(task, Tags)
    return task


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tags") / "data"
    datasets.save(dataset_of(rows_of(24, 0), BIO, rows_of(12, 1)), folder)
    return folder


# ------------------------------------------------------------------------------------------------------------- encoding


def test_the_first_token_of_a_word_has_its_tag(tiny_tokenizer: Any) -> None:
    """`films` is film + ##s to the tokenizer, `the` one token."""
    task = task_of(dataset_of([(["the", "films", "is"], ["O", "B-ACT", "I-ACT"])], BIO), tiny_tokenizer)
    items = task.items(task.dataset.train)
    assert tiny_tokenizer.convert_ids_to_tokens(items.inputs[0]["input_ids"]) == [
        *("[CLS]", "the", "film", "##s", "is", "[SEP]")
    ]
    assert items.inputs[0]["labels"] == [IGNORED, 2, 0, IGNORED, 1, IGNORED]
    assert (items.rows.tolist(), items.weights.tolist(), items.total) == ([0], [3.0], 3)


def test_a_long_row_becomes_windows_of_whole_words(tiny_tokenizer: Any) -> None:
    """Room for 6 tokens: `films` has two of them and is never cut."""
    rows = [(["the"], ["O"]), (["the", "a", "is", "so", "was", "films", "a"], [*["O"] * 5, "B-ACT", "O"])]
    task = task_of(dataset_of(rows, BIO), tiny_tokenizer, max_length=8)
    items = task.items(task.dataset.train)
    texts = [" ".join(tiny_tokenizer.convert_ids_to_tokens(item["input_ids"])) for item in items.inputs]
    assert texts == ["[CLS] the [SEP]", "[CLS] the a is so [SEP]", "[CLS] was film ##s a [SEP]"]
    assert [item["words"] for item in items.inputs] == [[0], [1, 2, 3, 4], [5, 6, 7]]
    assert (items.rows.tolist(), items.weights.tolist(), items.total) == ([0, 1, 1], [1.0, 4.0, 3.0], 8)


def test_a_word_longer_than_a_window_is_cut(tiny_tokenizer: Any) -> None:
    task = task_of(dataset_of([(["the", "xyzxyzxyz", "a"], ["O", "B-ACT", "O"])], BIO), tiny_tokenizer, max_length=6)
    items = task.items(task.dataset.train)
    assert [item["words"] for item in items.inputs] == [[0], [1], [2]]
    assert items.inputs[1]["labels"] == [IGNORED, 0, *[IGNORED] * 4]
    assert max(items.lengths) == 6


@pytest.mark.parametrize(
    ("lengths", "room", "expected"),
    [
        ([], 4, []),
        ([1, 1, 1], 4, [(0, 3)]),
        ([1, 1, 1, 1, 1], 4, [(0, 3), (3, 5)]),
        ([4, 1, 4], 4, [(0, 1), (1, 2), (2, 3)]),
        ([2, 2, 2, 2, 2], 7, [(0, 3), (3, 5)]),
        ([0, 0], 4, [(0, 2)]),
        ([0, 4, 0, 4], 4, [(0, 3), (3, 4)]),
    ],
)
def test_windows_by_hand(lengths: list[int], room: int, expected: list[tuple[int, int]]) -> None:
    assert split_windows(lengths, room) == expected


def test_windows_are_few_and_even() -> None:
    generator = random.Random(3)
    for _ in range(200):
        room = generator.randint(3, 12)
        lengths = generator.choices(range(room + 1), k=generator.randint(1, 40))
        found = split_windows(lengths, room)
        assert [index for start, end in found for index in range(start, end)] == list(range(len(lengths)))
        sizes = [sum(lengths[start:end]) for start, end in found]
        assert max(sizes) <= room
        greedy, used = 1, 0  # the slow twin: fill one window after the other
        for length in lengths:
            greedy, used = (greedy + 1, length) if used + length > room else (greedy, used + length)
        assert len(found) == greedy
    assert split_windows([1] * 13, 12) == [(0, 7), (7, 13)]


def test_a_word_without_a_token_gets_the_most_frequent_tag(tiny_tokenizer: Any, tmp_path: Path) -> None:
    rows = [(["the", "\x01", "a"], ["O", "B-ACT", "O"]), (["\x02"], ["O"]), (["is"], ["O"])]
    task = task_of(dataset_of(rows, BIO), tiny_tokenizer)
    items = task.items(task.dataset.train)
    assert [item["words"] for item in items.inputs] == [[0, 2], [4]]
    assert (items.rows.tolist(), items.weights.tolist(), items.total) == ([0, 2], [2.0, 1.0], 5)
    folder = tiny_encoder("bert", tiny_tokenizer, tmp_path / "bert")
    found = task.predict(model_folder.load(folder, task.head(BIO)), items)
    assert found.shape == (5, 3)
    # One more of each than was counted: B-ACT 2, I-ACT 1, O 5, of 8.
    np.testing.assert_allclose(found[[1, 3]], np.log([[2 / 8, 1 / 8, 5 / 8]] * 2), rtol=1e-6)
    assert len(task.answers(found)) == 5
    assert task.answers(found)[1] == 2


def test_words_become_the_tokens_that_they_have_in_a_text(tiny_tokenizer: Any) -> None:
    words = ["café", "says", "😀", "naïve", "😀!"]
    bpe = byte_level_bpe(["café", "says", "naïve"])
    assert (keeps_space(tiny_tokenizer), keeps_space(bpe)) == (False, True)
    for tokenizer in (tiny_tokenizer, bpe):
        found = encode_words(tokenizer, [words, ["says"]])
        text = tokenizer(" ".join(words), add_special_tokens=False)["input_ids"]
        assert [token for word in found[0] for token in word] == text
        assert all(found[0])
        assert len(found[1]) == 1
    # Each byte of what the vocabulary lacks is a token; the first stands for the word.
    assert len(encode_words(bpe, [["😀"]])[0][0]) == 4
    assert encode_words(bpe, []) == []
    assert special_tokens(tiny_tokenizer) == ([2], [3])
    assert special_tokens(bpe) == ([0], [2])


def test_a_tokenizer_without_special_tokens_has_no_frame(tiny_tokenizer: Any) -> None:
    from tokenizers import processors
    from transformers import PreTrainedTokenizerFast

    bare = PreTrainedTokenizerFast(tokenizer_object=tiny_tokenizer.backend_tokenizer, pad_token="[PAD]")
    bare.backend_tokenizer.post_processor = processors.TemplateProcessing(single="$A", pair="$A $B", special_tokens=[])
    assert special_tokens(bare) == ([], [])


# ------------------------------------------------------------------------------------------------------------- the loss


class Fixed(torch.nn.Module):
    """Answers the same logits at every token."""

    def __init__(self, logits: list[float]) -> None:
        super().__init__()
        self.logits = torch.nn.Parameter(torch.tensor(logits))

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> Any:
        return SimpleNamespace(logits=self.logits.expand(*input_ids.shape, -1))


def test_the_loss_by_hand(tiny_tokenizer: Any) -> None:
    """Logits (0, ln 3): tag A costs ln 4, tag B ln(4/3). The batch is padded, `films` has two tokens."""
    rows = [(["films", "the"], ["A", "B"]), (["a"], ["B"]), (["so", "is", "was"], ["A", "A", "A"])]
    model = Fixed([0.0, 1.0986123])
    task = task_of(dataset_of(rows, ["A", "B"]), tiny_tokenizer)
    items = task.items(task.dataset.train, training=True)
    assert task.losses(model, items, [0, 1]).tolist() == pytest.approx([1.3862944 + 0.2876821, 0.2876821])
    assert task.losses(model, items, [2]).tolist() == pytest.approx([3 * 1.3862944])

    weighted = task_of(dataset_of(rows, ["A", "B"], class_weights=[2.0, 0.5]), tiny_tokenizer)
    assert weighted.losses(model, items, [0]).tolist() == pytest.approx([2 * 1.3862944 + 0.5 * 0.2876821])
    # Smoothing 0.2 over two tags: 0.9 of the own, 0.1 of the other.
    smooth = task_of(dataset_of(rows, ["A", "B"]), tiny_tokenizer, label_smoothing=0.2)
    assert smooth.losses(model, items, [1]).tolist() == pytest.approx([0.9 * 0.2876821 + 0.1 * 1.3862944])


def test_the_loss_is_that_of_transformers(tiny_tokenizer: Any, tmp_path: Path) -> None:
    task = task_of(dataset_of(rows_of(6, 4), BIO), tiny_tokenizer)
    model: Any = model_folder.load(tiny_encoder("bert", tiny_tokenizer, tmp_path / "bert"), task.head(BIO))
    items = task.items(task.dataset.train)
    item = items.inputs[2]
    theirs = model(input_ids=torch.tensor([item["input_ids"]]), labels=torch.tensor([item["labels"]])).loss
    ours = task.losses(model, items, [2, 0])[0] / items.weights[2]
    assert float(ours.detach()) == pytest.approx(float(theirs.detach()), rel=1e-5)


@pytest.mark.parametrize("batch", [4, 2, 1])
def test_words_weigh_the_same_however_items_are_batched(batch: int, tiny_tokenizer: Any, tmp_path: Path) -> None:
    """SGD shows an error of scale; the 8 items have from 2 to 14 words."""
    task = task_of(dataset_of(rows_of(8, 5), BIO), tiny_tokenizer)
    items = task.items(task.dataset.train, training=True)
    assert len(set(items.weights[:8].tolist())) > 3
    indices = list(range(8))
    ends = []
    for size in (8, batch):
        model = model_folder.load(tiny_encoder("bert", tiny_tokenizer, tmp_path / "bert"), task.head(BIO))
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
            trainer._step([indices[start : start + size] for start in range(0, 8, size)])
        ends.append([value.detach().clone() for value in model.parameters()])
    for whole, parts in zip(*ends, strict=True):
        torch.testing.assert_close(parts, whole, atol=1e-5, rtol=0)


# ---------------------------------------------------------------------------------------------------------- the figures


def logits_for(tags: Sequence[str], names: list[str]) -> Any:
    """Logits that give each word its tag, with the probability e / (e + L - 1)."""
    return np.eye(len(names), dtype=np.float32)[[names.index(tag) for tag in tags]]


def test_figures_by_hand(tiny_tokenizer: Any) -> None:
    rows = [(["a", "so"], ["B-ACT", "I-ACT"]), (["the", "is", "was"], ["O", "B-ACT", "O"])]
    task = task_of(dataset_of(rows, BIO), tiny_tokenizer)
    predictions = logits_for(["B-ACT", "I-ACT", "B-ACT", "O", "O"], BIO)
    found = task.figures(predictions, task.dataset.train)
    sure, wrong = np.log(np.e + 2) - 1, np.log(np.e + 2)
    expected = {"token_accuracy": 3 / 5, "span_f1": 0.5, "span_precision": 0.5, "span_recall": 0.5, "f1_ACT": 0.5}
    assert found == pytest.approx({**expected, "nll": (3 * sure + 2 * wrong) / 5})
    assert task.score(found) == pytest.approx(0.5 - 1e-6 * found["nll"])
    assert list(task.measures(predictions, task.dataset.train)) == [task.lead, "token_accuracy"]


def test_without_a_scheme_the_tokens_lead(tiny_tokenizer: Any) -> None:
    task = task_of(dataset_of([(["a", "so"], ["DT", "RB"])], ["DT", "RB"]), tiny_tokenizer)
    predictions = logits_for(["DT", "DT"], ["DT", "RB"])
    assert task.lead == "token_accuracy"
    assert set(task.figures(predictions, task.dataset.train)) == {"token_accuracy", "nll"}
    assert list(task.measures(predictions, task.dataset.train)) == ["token_accuracy"]


def test_without_any_span_the_lead_is_nothing(tiny_tokenizer: Any) -> None:
    task = task_of(dataset_of([(["a"], ["O"])], BIO), tiny_tokenizer)
    predictions = logits_for(["O"], BIO)
    assert task.figures(predictions, task.dataset.train)["span_f1"] == 0.0
    assert bootstrap.interval(task.measures(predictions, task.dataset.train)["span_f1"], 1) is None


def test_measures_are_seqeval_on_any_rows(tiny_tokenizer: Any) -> None:
    from seqeval.metrics import accuracy_score, f1_score

    generator = np.random.default_rng(0)
    names = ["B-A", "B-B", "I-A", "I-B", "O"]
    rows = [(["a"] * n, generator.choice(names, n).tolist()) for n in generator.integers(1, 9, 40).tolist()]
    task = task_of(dataset_of(rows, names), tiny_tokenizer)
    total = sum(len(tags) for _, tags in rows)
    predictions = generator.normal(size=(total, 5)).astype(np.float32)
    guess = iter([names[index] for index in predictions.argmax(axis=1)])
    given = [[next(guess) for _ in tags] for _, tags in rows]
    measures: Any = task.measures(predictions, task.dataset.train)
    for _ in range(5):
        drawn = generator.integers(0, 40, 40)
        truth, answers = [rows[row][1] for row in drawn], [given[row] for row in drawn]
        assert measures["span_f1"](drawn) == pytest.approx(f1_score(truth, answers))
        assert measures["token_accuracy"](drawn) == pytest.approx(accuracy_score(truth, answers))
    whole = metrics.token_classification(given, [tags for _, tags in rows])
    assert measures["span_f1"](np.arange(40)) == pytest.approx(whole["span_f1"])
    assert span_counts(["B-A", "I-A", "O"], ["B-A", "O", "B-B"]) == (0, 3)


# ---------------------------------------------------------------------------------------------------------- the methods


@pytest.mark.parametrize(
    ("method", "kind"),
    [
        ("full", "distilbert"),
        ("head", "bert"),
        ("lora", "roberta"),
        ("dora", "bert"),
        ("rslora", "distilbert"),
        ("qlora", "bert"),
        ("ia3", "roberta"),
    ],
)
def test_a_method_trains_resumes_and_ends_as_a_plain_model(
    method: Any, kind: str, data: Path, tiny_tokenizer: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from transformers import AutoModelForTokenClassification, AutoTokenizer

    model = tiny_encoder(kind, tiny_tokenizer, tmp_path / kind)
    rate = RATES.get(method, 4e-3)
    config = FinetuneConfig(model=str(model), method=method, learning_rate=rate, checkpoint_steps=2, **QUICK)
    inputs = {"data": data, "model": model}
    result = finetune(config, inputs, tmp_path / "out")
    if method not in ("full", "head"):
        assert result.metrics["merge_difference"] <= 1e-4
        assert result.metrics["test"]["agreement"] == 1.0

    plain: Any
    plain, report = AutoModelForTokenClassification.from_pretrained(tmp_path / "out", output_loading_info=True)
    assert not any(report[gap] for gap in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    assert plain.config.id2label == dict(enumerate(BIO))
    task = task_of(datasets.load(data), AutoTokenizer.from_pretrained(tmp_path / "out"))
    again = task.predict(plain, task.items(task.dataset.test))
    np.testing.assert_allclose(again, read_predictions(tmp_path / "out", "test"), atol=1e-5)

    killed(lambda: finetune(config, inputs, tmp_path / "killed"), monkeypatch)
    assert finetune(config, inputs, tmp_path / "killed").digest == result.digest


def test_the_rule_is_learnt_in_windows_too(tiny_tokenizer: Any, tmp_path: Path) -> None:
    model = tiny_encoder("bert", tiny_tokenizer, tmp_path / "bert")
    datasets.save(dataset_of(rows_of(120, 0), BIO, rows_of(40, 1)), tmp_path / "data")
    quick = {**QUICK, "epochs": 12.0, "max_length": 12, "evaluations_per_epoch": 1}
    config = FinetuneConfig(model=str(model), method="full", learning_rate=3e-3, label_smoothing=0.01, **quick)
    result = finetune(config, {"data": tmp_path / "data", "model": model}, tmp_path / "out")
    assert result.metrics["test"]["token_accuracy"] >= 0.97
    assert result.metrics["test"]["span_f1"] >= 0.9

"""What a student learns from its teacher's cached outputs, against both models side by side; and the cache itself."""

from __future__ import annotations

import copy
import dataclasses
import gc
import weakref
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from support_kinds import KINDS, dataset_of, pair_tokenizer, trained

from edgeft.compress.distill import distillation_data, losses
from edgeft.compress.distill.shared_tokens import none_shared
from edgeft.compress.distill.states import RELATIONS, watch_states
from edgeft.compress.distill.teacher import Question, load_outputs
from edgeft.compress.prune import vocabulary
from edgeft.errors import RecipeError
from edgeft.models import model_folder
from edgeft.recipe import DistillConfig
from edgeft.train import tasks

CPU = torch.device("cpu")
EACH = ["soft_weight", "hard_weight", "hidden_weight", "relation_weight", "reverse_weight"]
NONE = dict.fromkeys(EACH, 0.0)
UNLABELLED = ["the film is great", "a plot", "so bad so bad"]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Of the teacher; the cache lies beside it."""
    return tmp_path / "teacher"


def config_of(**weights: Any) -> DistillConfig:
    return DistillConfig(seed=0, **{**NONE, **weights})


def setting(kind: str, tokenizer: Any, folder: Path, config: DistillConfig, **others: Any) -> tuple[Any, Any]:
    """A task and a model like its teacher's, which lies in `folder`."""
    tokenizer = pair_tokenizer(tokenizer) if kind == "squad" else tokenizer
    place = trained(kind, copy.deepcopy(tokenizer), folder)
    dataset = dataclasses.replace(dataset_of(kind), **others)
    tokenizer = model_folder.load_tokenizer(place)
    task = tasks.create_task(dataset, tokenizer, tokenizer.model_max_length, config)
    model = model_folder.load(place, task.head(dataset.labels))
    task.prepare(model)
    return task, model


def loss_of(config: DistillConfig, task: Any, student: Any, folder: Path, places: list[int]) -> torch.Tensor:
    taught = distillation_data.prepare_data(config, task, student, folder, folder.parent / "cache")
    return distillation_data.build_objective(config, task, student, taught)(student.eval(), places)


@torch.no_grad()
def shaken(model: Any) -> Any:
    """The model with other weights."""
    torch.manual_seed(1)
    for parameter in model.parameters():
        parameter.add_(0.1 * torch.randn_like(parameter))
    return model


@pytest.mark.parametrize("loss", [name for name in EACH if name != "hard_weight"])
@pytest.mark.parametrize("kind", KINDS)
def test_a_student_like_its_teacher_has_nothing_to_learn(
    kind: str, loss: str, tiny_tokenizer: Any, folder: Path
) -> None:
    config = config_of(**{loss: 1.0})
    task, student = setting(kind, tiny_tokenizer, folder, config)
    with torch.no_grad():
        assert loss_of(config, task, student, folder, [5, 0, 17]).abs().max() < 2e-3  # states are kept in float16
        assert (loss_of(config, task, shaken(student), folder, [5, 0, 17]) > 2e-3).all()


@pytest.mark.parametrize("kind", KINDS)
def test_the_sum_of_all_losses_equals_the_slow_twin(kind: str, tiny_tokenizer: Any, folder: Path) -> None:
    weights = dict(zip(EACH, (1.0, 0.5, 2.0, 0.25, 0.75), strict=True))
    config = config_of(**weights)
    task, student = setting(kind, tiny_tokenizer, folder, config)
    teacher = copy.deepcopy(student).eval()
    shaken(student)
    places = [3, 11, 0]
    with torch.no_grad():
        found = loss_of(config, task, student, folder, places)
        slow = [_slow(config, task, student.eval(), teacher, place) for place in places]
    assert found.tolist() == pytest.approx(slow, rel=1e-3)


def _slow(config: DistillConfig, task: Any, student: Any, teacher: Any, place: int) -> float:
    """One item, with both models in memory and nothing padded."""
    items = task.items(task.dataset.train)
    names = ("hidden", *RELATIONS)
    with watch_states(student, names) as given:
        found = task.targets(student, items, [place])
    with watch_states(teacher, names) as wanted:
        right = task.targets(teacher, items, [place]).logits
    soft = {"multi-label": losses.soft_bits, "regression": losses.soft_numbers}.get(
        task.dataset.kind, losses.soft_labels
    )
    each = config.soft_weight * soft(found.logits, right, config.temperature)
    each = each + config.reverse_weight * soft(right, found.logits, config.temperature)
    share = 0.5 if task.dataset.kind == "squad" else 1.0
    total = config.hard_weight * task.target_losses(found).sum() + share * each.sum()
    words = float(items.weights[place])
    mask = torch.ones(given["hidden"].shape[:2])
    total = total + words * config.hidden_weight * losses.hidden_states(given["hidden"], wanted["hidden"], mask)[0]
    for name in RELATIONS:
        heads = 8 if given[name].shape[-1] == 64 else 1
        of_states = losses.relations(given[name], wanted[name], mask, heads)[0]
        total = total + words * config.relation_weight * of_states
    return float(total)


@pytest.mark.parametrize("kind", ["single-label", "multi-label", "regression"])
def test_texts_without_label_teach_by_the_teacher_alone(kind: str, tiny_tokenizer: Any, folder: Path) -> None:
    hard, soft = config_of(hard_weight=1.0, soft_weight=1e-12), config_of(soft_weight=1.0)
    task, student = setting(kind, tiny_tokenizer, folder, hard, unlabelled=UNLABELLED)
    rows = len(task.dataset.train)
    taught = distillation_data.prepare_data(hard, task, student, folder, folder.parent / "cache")
    assert len(taught.items) == rows + 3
    assert taught.labelled == rows
    with torch.no_grad():
        shaken(student)
        assert loss_of(hard, task, student, folder, [rows, rows + 2]).max() < 1e-6
        assert (loss_of(soft, task, student, folder, [rows, rows + 2]) > 0).all()
        without = dataclasses.replace(soft, unlabelled=False)
    assert len(distillation_data.prepare_data(without, task, student, folder, folder.parent / "cache").items) == rows


def test_tags_say_that_they_cant_learn_from_texts(
    tiny_tokenizer: Any, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = config_of(soft_weight=1.0)
    task, student = setting("tokens", tiny_tokenizer, folder, config, unlabelled=UNLABELLED)
    assert loss_of(config, task, student, folder, [0]).shape == (1,)
    assert "tokens rows can't learn from it" in capsys.readouterr().err


def test_nothing_to_learn_is_refused() -> None:
    with pytest.raises(RecipeError, match="are all 0"):
        distillation_data.check(config_of(), "distill")
    distillation_data.check(config_of(relation_weight=1.0), "distill")


# ------------------------------------------------------------------------------------------------------------ the cache


def test_outputs_are_computed_once_and_the_teacher_is_gone(
    tiny_tokenizer: Any, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    task, _ = setting("single-label", tiny_tokenizer, folder, config_of(soft_weight=1.0))
    items = task.items(task.dataset.train)
    loaded: list[weakref.ref[Any]] = []
    load = model_folder.load

    def counted(*arguments: Any, **options: Any) -> Any:
        model = load(*arguments, **options)
        loaded.append(weakref.ref(model))
        return model

    monkeypatch.setattr(model_folder, "load", counted)
    question = Question(folder, task, items)
    first = load_outputs(question, (), folder.parent / "cache", CPU)
    again = load_outputs(question, (), folder.parent / "cache", CPU)
    assert len(loaded) == 1
    more = load_outputs(question, ("hidden",), folder.parent / "cache", CPU)  # the states alone are missing
    assert len(loaded) == 2
    gc.collect()
    assert [ref() for ref in loaded] == [None, None]
    assert all(isinstance(array, np.memmap) for array in (first.arrays["logits"], more.arrays["hidden"]))
    np.testing.assert_array_equal(first.arrays["logits"], again.arrays["logits"])
    fewer = load_outputs(Question(folder, task, task.items(task.dataset.validation)), (), folder.parent / "cache", CPU)
    assert (len(loaded), len(fewer.arrays["logits"])) == (3, len(task.dataset.validation))


def test_what_a_kill_left_is_computed_anew(tiny_tokenizer: Any, folder: Path) -> None:
    task, _ = setting("single-label", tiny_tokenizer, folder, config_of(soft_weight=1.0))
    question = Question(folder, task, task.items(task.dataset.train))
    entry = folder.parent / "cache" / f"teacher-{question.key(CPU)}"
    entry.mkdir(parents=True)
    (entry / "logits.unfinished.npy").write_bytes(b"half")
    assert np.isfinite(load_outputs(question, (), folder.parent / "cache", CPU).arrays["logits"]).all()
    assert [path.name for path in entry.iterdir()] == ["logits.npy"]


def test_another_teacher_is_another_entry(tiny_tokenizer: Any, folder: Path) -> None:
    task, model = setting("single-label", tiny_tokenizer, folder, config_of(soft_weight=1.0))
    question = Question(folder, task, task.items(task.dataset.train))
    key = question.key(CPU)
    model_folder.save(shaken(model), task.tokenizer, folder.parent / "other", task.max_length)
    assert dataclasses.replace(question, folder=folder.parent / "other").key(CPU) != key
    assert dataclasses.replace(question, likeliest=1).key(CPU) != key


# ---------------------------------------------------------------------------------------------- other tokens and widths


def test_a_narrower_student_learns_a_projection(tiny_tokenizer: Any, folder: Path) -> None:
    from edgeft.compress.distill.recover import with_projections

    config = config_of(hidden_weight=1.0, relation_weight=1.0)
    task, _ = setting("single-label", tiny_tokenizer, folder, config)
    narrow = transformers.BertConfig(
        vocab_size=len(task.tokenizer), hidden_size=24, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32
    )
    student = transformers.BertForSequenceClassification(narrow)
    taught = distillation_data.prepare_data(config, task, student, folder, folder.parent / "cache")
    assert taught.heads == {"query": 8, "key": 8, "value": 8}  # the nearest to 12 that divides 24 and 64
    names = {name for name, _ in student.named_parameters()}
    with with_projections(student, taught):
        distillation_data.build_objective(config, task, student, taught)(student, [0, 1]).sum().backward()
        grad = student.edgeft_projection.weight.grad
        assert (grad.shape, bool(grad.abs().sum() > 0)) == ((64, 24), True)
    assert {name for name, _ in student.named_parameters()} == names


def test_states_are_compared_at_the_tokens_that_both_read(tiny_tokenizer: Any, folder: Path) -> None:
    config = config_of(hidden_weight=1.0)
    task, student = setting("single-label", tiny_tokenizer, folder, config)
    teacher = copy.deepcopy(student).eval()
    cut = vocabulary.cut(task.tokenizer, ["the film is great a plot bad so"])  # neither `actor` nor `unfilmed` stay
    vocabulary.cut_embeddings(student, cut.kept)
    smaller = tasks.create_task(task.dataset, cut.tokenizer, task.max_length, config)
    taught = distillation_data.prepare_data(config, smaller, student, folder, folder.parent / "cache")
    whole = taught.shared.whole.tolist()
    assert 0 < sum(whole) < len(whole)
    places = [whole.index(True), whole.index(False)]
    shaken(student).eval()
    with torch.no_grad():
        found = distillation_data.build_objective(config, smaller, student, taught)(student, places)
        slow = [_compared(smaller, student, task, teacher, place) for place in places]
    assert found.tolist() == pytest.approx(slow, rel=1e-3)


def _compared(smaller: Any, student: Any, task: Any, teacher: Any, place: int) -> float:
    """One minus the cosine, the mean over tokens of the same name and the same characters."""
    text = task.dataset.train.texts[place]
    states, read = [], []
    for one, model in ((smaller, student), (task, teacher)):
        coded = one.tokenizer(text, truncation=True, max_length=one.max_length, return_offsets_mapping=True)
        tokens = one.tokenizer.convert_ids_to_tokens(coded["input_ids"])
        read.append(list(zip(tokens, map(tuple, coded["offset_mapping"]), strict=True)))
        ids = torch.tensor([coded["input_ids"]])
        states.append(model(input_ids=ids, output_hidden_states=True).hidden_states[-1][0])
    pairs = [(read[0].index(token), read[1].index(token)) for token in read[0] if token in read[1]]
    cosines = [torch.cosine_similarity(states[0][ours], states[1][theirs], dim=0) for ours, theirs in pairs]
    return float(1 - torch.stack(cosines).mean())


def test_questions_need_the_same_tokens(tiny_tokenizer: Any, folder: Path) -> None:
    config = config_of(soft_weight=1.0)
    task, student = setting("squad", tiny_tokenizer, folder, config)
    cut = vocabulary.cut(task.tokenizer, ["the film"])
    vocabulary.cut_embeddings(student, cut.kept)
    smaller = tasks.create_task(task.dataset, cut.tokenizer, task.max_length, config)
    with pytest.raises(RecipeError, match="must have the same tokenizer"):
        distillation_data.prepare_data(config, smaller, student, folder, folder.parent / "cache")


def test_tags_are_matched_by_their_words(tiny_tokenizer: Any, folder: Path) -> None:
    """The student's tokenizer leaves nothing of one word, and nothing else moves."""
    from tokenizers import normalizers

    config = config_of(soft_weight=1.0)
    task, student = setting("tokens", tiny_tokenizer, folder, config)
    whole = distillation_data.prepare_data(config, task, student, folder, folder.parent / "cache")
    task.tokenizer.backend_tokenizer.normalizer = normalizers.Sequence(
        [normalizers.Replace("plot", ""), task.tokenizer.backend_tokenizer.normalizer]
    )
    taught = distillation_data.prepare_data(config, task, student, folder, folder.parent / "cache")
    words = [word for row in task.dataset.train.columns["tokens"] for word in row]
    kept = [place for place, word in enumerate(words) if word != "plot"]
    assert 0 < len(kept) < len(words) == len(whole.rows)
    assert taught.rows.tolist() == kept


def test_labels_alone_ask_no_teacher(tiny_tokenizer: Any, folder: Path) -> None:
    config = config_of(hard_weight=1.0)
    task, student = setting("single-label", tiny_tokenizer, folder, config, unlabelled=UNLABELLED)
    taught = distillation_data.prepare_data(config, task, student, folder / "nowhere", folder.parent / "cache")
    assert taught.taught is None
    assert len(taught.items) == len(task.dataset.train)
    found = distillation_data.build_objective(config, task, student, taught)(student, [0, 1])
    torch.testing.assert_close(found, task.losses(student, taught.items, [0, 1]))


def test_a_batch_that_nothing_is_compared_in_has_a_gradient(
    tiny_tokenizer: Any, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = config_of(hidden_weight=1.0)
    task, student = setting("single-label", tiny_tokenizer, folder, config)
    taught = distillation_data.prepare_data(config, task, student, folder, folder.parent / "cache")
    none = dataclasses.replace(taught, shared=none_shared(taught.items))
    distillation_data.build_objective(config, task, student, none)(student, [0, 1]).sum().backward()
    assert all(value.grad.abs().sum() == 0 for value in student.parameters() if value.grad is not None)
    assert student.classifier.weight.grad is not None
    characters = vocabulary.cut(task.tokenizer, ["a"]).tokenizer
    odd = tasks.create_task(task.dataset, characters, task.max_length, config)
    with pytest.raises(RecipeError, match="nothing of the teacher"):
        distillation_data.prepare_data(config, odd, student, folder, folder.parent / "cache")
    soft = dataclasses.replace(config, soft_weight=1.0)
    assert distillation_data.prepare_data(soft, odd, student, folder, folder.parent / "cache").states == ()
    assert "left out of the loss: student and teacher share" in capsys.readouterr().err


@pytest.mark.parametrize("temperature", [0.5, 4.0])
def test_questions_of_unequal_length_at_any_temperature(temperature: float, tiny_tokenizer: Any, folder: Path) -> None:
    config = dataclasses.replace(config_of(soft_weight=1.0, reverse_weight=2.0), temperature=temperature)
    task, student = setting("squad", tiny_tokenizer, folder, config)
    lengths = task.items(task.dataset.train).lengths
    places = [lengths.index(max(lengths)), lengths.index(min(lengths))]
    taught = distillation_data.prepare_data(config, task, shaken(student), folder, folder.parent / "cache")
    distillation_data.build_objective(config, task, student, taught)(student, places).sum().backward()
    assert all(value.grad.isfinite().all() for value in student.parameters() if value.grad is not None)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_compares_in_full(dtype: torch.dtype, tiny_tokenizer: Any, folder: Path) -> None:
    config = config_of(relation_weight=1.0, soft_weight=1.0, hidden_weight=1.0)
    task, student = setting("single-label", tiny_tokenizer, folder, config)
    taught = distillation_data.prepare_data(config, task, shaken(student).eval(), folder, folder.parent / "cache")
    loss = distillation_data.build_objective(config, task, student, taught)
    with torch.no_grad():
        exact = loss(student, [0, 1, 2])
        with torch.autocast("cpu", dtype=dtype):
            half = loss(student, [0, 1, 2])
    assert half.dtype == torch.float32
    torch.testing.assert_close(half, exact, rtol=0.1, atol=0.02)

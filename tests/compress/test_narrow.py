"""Narrower models: turning a basis changes nothing where it need not, and the strongest directions stay."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from support_graphs import SIZES, classifier, token_ids
from torch import nn

from edgeft.compress.distill.narrow import narrow, principal_directions, rotate_parameter, rotate_units
from edgeft.compress.prune.structure import with_all_gradients
from edgeft.compress.prune.units import trace
from edgeft.compress.prune.units import width as width_units
from edgeft.errors import ModelError
from edgeft.models import model_facts, model_folder
from edgeft.models.shapes import blocks, width

IDS = token_ids([6, 11, 4])
SIZE = SIZES["hidden_size"]


def logits(model: Any) -> torch.Tensor:
    with torch.inference_mode():
        return torch.cat([model(input_ids=torch.tensor([ids])).logits for ids in IDS])


def units_of(model: Any) -> Any:
    with with_all_gradients(model):
        return width_units(trace(model), blocks(model)[0])


def test_a_turned_model_with_plain_rms_norms_answers_the_same() -> None:
    model = copy.deepcopy(classifier("llama"))
    before = logits(model)
    rotate_units(units_of(model), torch.linalg.qr(torch.randn(SIZE, SIZE, dtype=torch.float64)).Q)
    torch.testing.assert_close(logits(model), before, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("kind", ["bert", "distilbert", "roberta", "modernbert", "llama"])
def test_the_identity_turns_nothing(kind: str) -> None:
    model = copy.deepcopy(classifier(kind))
    before = logits(model)
    rotate_units(units_of(model), torch.eye(SIZE, dtype=torch.float64))
    torch.testing.assert_close(logits(model), before, atol=1e-6, rtol=1e-6)


def test_states_in_few_directions_lose_nothing() -> None:
    """A Llama whose hidden states lie in 24 of 64 directions, turned anyhow, is the same with a width of 24."""
    model = copy.deepcopy(classifier("llama"))
    units, q = units_of(model), torch.linalg.qr(torch.randn(SIZE, SIZE, dtype=torch.float64)).Q
    flat = q[:, :24] @ q[:, :24].T
    with torch.no_grad():
        for member in units.members:
            writes = isinstance(member.module, nn.Embedding) or "out" in member.remove.__name__
            if isinstance(member.module, nn.Embedding):
                member.module.weight.copy_(member.module.weight.double() @ flat)
            elif isinstance(member.module, nn.Linear) and writes:
                member.module.weight.copy_(flat @ member.module.weight.double())
    before = logits(model)
    narrow(model, 24, lambda: logits(model))
    assert width(model) == 24
    torch.testing.assert_close(logits(model), before, atol=1e-3, rtol=1e-2)  # the epsilon weighs otherwise


def test_directions_by_hand() -> None:
    """Two features that are always (3, 4) times something: the first direction is (0.6, 0.8)."""
    norm = nn.Identity()
    units: Any = type("Units", (), {"count": 2, "places": (norm,)})
    found = principal_directions(units, lambda: norm(torch.tensor([[[3.0, 4.0], [-6.0, -8.0]]])))
    torch.testing.assert_close(found[:, 0].abs(), torch.tensor([0.6, 0.8], dtype=torch.float64))


def test_turning_by_hand() -> None:
    q = torch.tensor([[0.6, -0.8], [0.8, 0.6]])
    linear, norm = nn.Linear(2, 2), nn.LayerNorm(2)
    weight = torch.tensor([[1.0, 2.0], [3.0, 4.0]])
    torch.testing.assert_close(rotate_parameter(weight, q, linear, True, "weight"), weight @ q)
    torch.testing.assert_close(rotate_parameter(weight, q, linear, False, "weight"), q.T @ weight)
    torch.testing.assert_close(
        rotate_parameter(torch.tensor([1.0, 0.0]), q, linear, False, "bias"), torch.tensor([0.6, -0.8])
    )
    torch.testing.assert_close(
        rotate_parameter(torch.tensor([1.0, 2.0]), q, norm, False, "weight"), torch.tensor([1.64, 1.36])
    )
    torch.testing.assert_close(
        rotate_parameter(torch.tensor([1.0, 0.0]), q, norm, False, "bias"), torch.tensor([0.6, -0.8])
    )


@pytest.mark.parametrize("kind", ["bert", "modernbert", "llama"])
def test_a_narrower_model_is_saved_and_loaded(kind: str, tiny_tokenizer: Any, tmp_path: Path) -> None:
    model = copy.deepcopy(classifier(kind))
    narrow(model, 40, lambda: logits(model))
    model_folder.save(model, copy.deepcopy(tiny_tokenizer), tmp_path, 32)
    loaded = model_folder.load_classifier(tmp_path, None)
    assert width(loaded) == 40
    torch.testing.assert_close(logits(loaded), logits(model))


@pytest.mark.parametrize("wanted", [0, SIZE + 1])
def test_a_width_that_is_not_there_is_refused(wanted: int) -> None:
    with pytest.raises(ModelError, match=f"a width of {wanted} is wanted of a model that has {SIZE}"):
        narrow(copy.deepcopy(classifier("bert")), wanted, lambda: None)


def test_a_narrower_student_learns_from_its_teacher(tiny_tokenizer: Any, tmp_path: Path) -> None:
    from support_kinds import dataset_of, trained

    from edgeft.compress.distill.distill import run
    from edgeft.data import dataset as datasets
    from edgeft.recipe import DistillConfig

    datasets.save(dataset_of("single-label", (48, 12, 8)), tmp_path / "data")
    teacher = trained("single-label", copy.deepcopy(tiny_tokenizer), tmp_path / "teacher")
    config = DistillConfig(num_layers=1, width=48, epochs=1.0, relation_weight=1.0, device="cpu", seed=0)
    run(config, {"data": tmp_path / "data", "teacher": teacher}, tmp_path / "student")
    assert model_facts.read_facts(tmp_path / "student").width == 48
    assert (
        model_folder.load_classifier(tmp_path / "student", None).classifier.in_features == SIZE
    )  # of the pooler's output


def test_a_narrower_student_learns_alike_in_two_processes(tiny_tokenizer: Any, tmp_path: Path, run: Any) -> None:
    from support_kinds import dataset_of, trained
    from support_processes import together

    from edgeft.data import dataset as datasets

    datasets.save(dataset_of("single-label", (24, 8, 8)), tmp_path / "data")
    teacher = trained("single-label", copy.deepcopy(tiny_tokenizer), tmp_path / "teacher", dropout=0.0)
    line = (
        *("distill", "--data", tmp_path / "data", "--teacher", teacher, "--device", "cpu", "--num-layers", 1),
        *("--width", 48, "--epochs", 1, "--batch-size", 8, "--soft-weight", 0, "--hard-weight", 0),
        *("--learning-rate", 1e-3, "--seed", 0, "--out"),
    )
    code, _, err = run(*line, tmp_path / "one")
    assert code == 0, err
    with together(*line, tmp_path / "two") as processes:
        for process in processes:
            assert process.wait() == 0, process.stderr[-2000:]
    assert losses(tmp_path / "one") == pytest.approx(losses(tmp_path / "two"), rel=1e-3)


def losses(folder: Path) -> list[float]:
    rows = map(json.loads, (folder / "history.jsonl").read_text().splitlines())
    return [row["loss"] for row in rows if "loss" in row]

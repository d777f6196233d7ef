"""Where a student starts from: layers of the teacher or of a checkpoint, or a whole checkpoint."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from support_graphs import classifier

from edgeft.compress.distill.distill import check_layers, make_student
from edgeft.errors import ModelError
from edgeft.models import model_folder
from edgeft.models.model_folder import Head
from edgeft.recipe import DistillConfig

HEAD = Head("AutoModelForSequenceClassification", ["a", "b", "c"])


@pytest.fixture
def folder(tiny_tokenizer: Any, tmp_path: Path) -> str:
    """A model folder of two layers."""
    model_folder.save(copy.deepcopy(classifier("bert")), copy.deepcopy(tiny_tokenizer), tmp_path / "bert", 64)
    return str(tmp_path / "bert")


def weights_of(layer: Any) -> torch.Tensor:
    weights: torch.Tensor = layer.attention.self.query.weight
    return weights


def test_a_checkpoint_is_taken_whole_or_by_layers(folder: str) -> None:
    whole = classifier("bert").bert.encoder.layer
    for layers, kept in ((None, [0, 1]), ([1], [1]), ([1, 0], [1, 0])):
        config = DistillConfig(student=folder, layers=layers, num_layers=1)
        student, _ = make_student(config, "no teacher is read", HEAD, torch.device("cpu"))
        found = student.bert.encoder.layer
        assert len(found) == len(kept)
        assert all(
            torch.equal(weights_of(one), weights_of(whole[place])) for one, place in zip(found, kept, strict=True)
        )


def test_layers_that_the_checkpoint_has_not_got_are_refused_before_anything_runs(folder: str) -> None:
    check_layers(DistillConfig(student=folder, layers=[0, 1]), folder)
    check_layers(DistillConfig(student=folder, num_layers=9), folder)  # a whole checkpoint has what it has
    with pytest.raises(ModelError, match=r"layer 2 of .*, which has layers 0 to 1"):
        check_layers(DistillConfig(student=folder, layers=[2]), folder)
    with pytest.raises(ModelError, match="9"):
        check_layers(DistillConfig(num_layers=9), folder)

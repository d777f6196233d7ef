"""A folder of transformers as the bench opens it, in a process of its own."""

from __future__ import annotations

from pathlib import Path

import pytest
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from edgeft.bench.harness import quality
from edgeft.bench.harness.subjects.child import Child
from edgeft.bench.harness.subjects.subject import Subject, subjects
from edgeft.errors import UserError


@pytest.fixture
def subject(tiny_model: Path, tmp_path: Path) -> Subject:
    names = {0: "dull", 1: "good"}
    model = AutoModelForSequenceClassification.from_pretrained(tiny_model, id2label=names)
    model.save_pretrained(tmp_path)
    AutoTokenizer.from_pretrained(tiny_model).save_pretrained(tmp_path)
    return subjects([str(tmp_path)], 1, None, None)[0]


def test_it_answers_and_says_what_it_is(subject: Subject) -> None:
    weights = Path(subject.place) / "model.safetensors"
    with Child(subject, ["a good film", "a film"]) as child:
        answers = child.request("answers", first=0, count=2)["answers"]
        facts = child.request("facts")["facts"]
        assert child.request("offline", batch=2, seconds=0.01)["texts"] >= 2
    assert {label for label, _ in answers} <= {"dull", "good"}
    assert all(0.5 <= score <= 1 for _, score in answers)
    assert facts["labels"] == ["dull", "good"]
    assert facts["bytes"] > weights.stat().st_size


def test_labels_of_another_file_are_refused(subject: Subject) -> None:
    with pytest.raises(UserError, match="has the labels dull, good; the labels of the file are neg, pos"):
        quality.check(subject, ["a good film"], ["neg", "pos"])

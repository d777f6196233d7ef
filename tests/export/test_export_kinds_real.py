"""Every kind on a real encoder: the fp32 artifact beside transformers.pipeline, on real texts."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from support_encoders import keep_layers
from support_kinds import LABELS, MINILM, TASKS

import edgeft
from edgeft import artifact
from edgeft.data.dataset import Dataset, split_of
from edgeft.export.candidates import FP32, capture_candidates
from edgeft.models import model_folder, model_layers
from edgeft.recipe import ExportConfig
from edgeft.runtime.loading import assemble
from edgeft.train import tasks

CLOSE = 1e-4
ROWS = 24
MAX_LENGTH = 64


@pytest.fixture(scope="module")
def texts(movie_rows: list[tuple[str, str]]) -> list[str]:
    return [text for text, _ in movie_rows[:ROWS]]


def columns_of(kind: str, texts: list[str]) -> dict[str, list[Any]]:
    n = len(texts)
    match kind:
        case "multi-label":
            return {"text": texts, "labels": [["film"] if place % 2 else [] for place in range(n)]}
        case "regression":
            return {"text": texts, "target": [float(place) for place in range(n)]}
        case "tokens":
            words = [text.split() for text in texts]
            return {"tokens": words, "tags": [["O"] * len(row) for row in words]}
    contexts = [" ".join(texts[place : place + 4]) for place in range(n)]
    answers = [{"text": [context.split()[0]], "answer_start": [0]} for context in contexts]
    return {"question": ["what is it about?"] * n, "context": contexts, "answers": answers}


def laid(kind: str, texts: list[str], root: Path) -> Any:
    """Two layers of the encoder with a random head of large weights, captured, fused and finished."""
    torch.manual_seed(0)
    tokenizer = model_folder.load_tokenizer(MINILM)
    model = model_folder.load(MINILM, tasks.task_class(kind).head(LABELS[kind]))
    keep_layers(model, 2)
    with torch.no_grad():
        model_layers.last_linear(model).weight.mul_(20)
    model_folder.save(model, tokenizer, root / "teacher", MAX_LENGTH)
    (root / "bed").mkdir()
    split = split_of(columns_of(kind, texts), np.arange(len(texts)) + 1, LABELS[kind])
    dataset = Dataset(TASKS[kind], LABELS[kind], split, split, split, unlabelled=[], kind=kind)
    return capture_candidates(ExportConfig(), root / "teacher", dataset, root / "bed")


def close(found: Any, expected: Any) -> float:
    """The largest difference of a score; everything else is equal."""
    if isinstance(expected, list):
        assert len(found) == len(expected)
        return max((close(*pair) for pair in zip(found, expected, strict=True)), default=0.0)
    assert {**found, "score": 0} == {**expected, "score": 0}
    return abs(float(found["score"]) - float(expected["score"]))


PIPES: dict[str, tuple[str, str, list[dict[str, Any]]]] = {
    "multi-label": ("text-classification", "AutoModelForSequenceClassification", [{"top_k": None}, {"top_k": 1}]),
    "regression": ("text-classification", "AutoModelForSequenceClassification", [{}]),
    "tokens": (
        "token-classification",
        "AutoModelForTokenClassification",
        [{"aggregation_strategy": way} for way in ("none", "simple", "first")],
    ),
}


@pytest.mark.parametrize("kind", [*PIPES, "squad"])
def test_a_real_encoder_of_every_kind(kind: str, texts: list[str], tmp_path: Path) -> None:
    candidates = laid(kind, texts, tmp_path)
    parity = candidates.parity
    assert (parity["rows"], parity["rows_with_other_tokens"]) == (ROWS, 0)
    assert parity["max_logit_difference"] <= CLOSE
    model: Any = assemble(candidates.folder, candidates.manifest, candidates.folder / FP32, threads=1)
    asked = candidates.task.predict_artifact(model, candidates.dataset.test)
    assert candidates.task.agreement(candidates.reference["test"], asked) == 1.0
    if kind not in PIPES:
        assert len({answer["answer"] for answer in map(model, candidates.inputs())}) > 3
        return
    name, auto, options = PIPES[kind]
    source = getattr(transformers, auto).from_pretrained(tmp_path / "teacher")
    pipe = transformers.pipeline(name, model=source, tokenizer=model_folder.load_tokenizer(tmp_path / "teacher"))
    short = [text for text, own in zip(texts, model.windows(texts), strict=True) if len(own) == 1]
    assert len(short) >= ROWS - 4
    for option in options:
        expected = pipe(short, **option)
        found = model(short, **option)
        nested = [[one] if isinstance(one, dict) else one for one in found]
        assert close(nested, [[one] if isinstance(one, dict) else one for one in expected]) <= CLOSE


def test_real_embeddings_are_those_of_mean_pooling(texts: list[str], tmp_path: Path) -> None:
    from edgeft.export.export import run

    (tmp_path / "texts.txt").write_text("\n".join(texts), encoding="utf-8")
    source = Path(shutil.copytree(MINILM, tmp_path / "model"))
    encoder = transformers.AutoModel.from_pretrained(MINILM)
    keep_layers(encoder, 2)
    encoder.save_pretrained(source)
    run(ExportConfig(precision="fp32", seed=0), {"data": tmp_path / "texts.txt", "model": source}, tmp_path / "out")
    model: Any = edgeft.load(tmp_path / "out")
    assert (model.manifest.decoding, model.manifest.inputs.max_length) == ({"pooling": "mean", "width": 384}, 256)
    assert artifact.GOLDEN in model.manifest.files
    pipe = transformers.pipeline(
        "feature-extraction",
        model=transformers.AutoModel.from_pretrained(source),
        tokenizer=model_folder.load_tokenizer(source),
    )
    means = [np.array(pipe(text)[0]).mean(axis=0) for text in texts]
    expected = np.array([mean / np.linalg.norm(mean) for mean in means])
    np.testing.assert_allclose(model.embed(texts), expected, atol=1e-5)

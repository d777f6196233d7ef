"""From a cleaned dataset to an artifact that cleans: export records what the data stage did."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from edgeft import artifact
from edgeft.cleaning import Cleaning, cleaner
from edgeft.data.dataset import Dataset, Split
from edgeft.export.candidates import FP32, ExportCandidates, capture_candidates
from edgeft.export.package import write_golden
from edgeft.models import model_folder
from edgeft.recipe import ExportConfig
from edgeft.runtime import load, replay

CLEANING = Cleaning(steps=["html", "whitespace", "lowercase"], anonymise=["email"])
DIRTY = ["A <b>Good</b>  film", "so<br/>poor,\nwrite to Joe@x.org", "the plot &amp; the actor", "was awful"]


@pytest.fixture
def candidates(tiny_model: Path, tmp_path: Path) -> ExportCandidates:
    """A tiny classifier captured for rows that were cleaned."""
    folder, scratch = tmp_path / "model", tmp_path / "scratch"
    scratch.mkdir()
    model_folder.save(
        model_folder.load_classifier(tiny_model, ["bad", "good"]), model_folder.load_tokenizer(tiny_model), folder, 32
    )
    texts = [cleaner(CLEANING)(text) for text in DIRTY]
    numbers = np.arange(len(texts), dtype=np.int64)
    split = Split(columns={"text": texts}, labels=numbers % 2, rows=numbers + 1)
    dataset = Dataset("text-classification", ["bad", "good"], split, split, split, [], cleaning=CLEANING)
    return capture_candidates(ExportConfig(), folder, dataset, scratch)


def test_the_artifact_cleans_as_the_dataset_was_cleaned(candidates: ExportCandidates, tmp_path: Path) -> None:
    assert candidates.manifest.inputs.cleaning == CLEANING
    assert candidates.parity["rows"] == len(DIRTY)
    shutil.copyfile(candidates.folder / FP32, candidates.folder / artifact.MODEL)
    write_golden(candidates.folder, candidates.manifest, candidates.dataset.test.texts)
    artifact.write_manifest(candidates.folder, candidates.manifest, [*artifact.REQUIRED, artifact.GOLDEN])
    model = load(candidates.folder)
    np.testing.assert_allclose(model.logits(DIRTY), candidates.reference["test"], atol=1e-4)
    assert replay(model).passed

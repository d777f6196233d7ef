"""A model cleans its texts as they were cleaned for training: by what its manifest records."""

from __future__ import annotations

import dataclasses
import sys
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import onnx
import pytest
from support_graphs import bag_of_words

from edgeft import artifact
from edgeft.artifact import InputSpec, Manifest, Quantization
from edgeft.cleaning import Cleaning, cleaner, versions
from edgeft.errors import ArtifactError, MissingExtraError, UserError
from edgeft.export.onnx.graph import add_probabilities
from edgeft.export.package import write_golden
from edgeft.files import write_json
from edgeft.runtime import load, replay
from edgeft.runtime.describe import describe

CLEANING = Cleaning(
    steps=["unicode", "html", "urls", "control", "whitespace"], anonymise=["email", "phone"], region="GB"
)
DIRTY = [
    "a <b>good</b>\n film&amp;plot",
    "the\u200b actor\x00 was caf\u00c3\u00a9 http://x.org/a?b=good, joe@x.org and a@x.org",
    "ring 020 7946 0958, or [EMAIL_1]",
    "<!-- bad -->",
    " \n ",
    "",
    "so fine",
]


@pytest.fixture
def folder(tmp_path: Path, tiny_tokenizer: Any) -> Path:
    """An artifact of a bag of words that cleans its texts, golden rows included."""
    onnx.save(add_probabilities(bag_of_words()), tmp_path / artifact.MODEL)
    tiny_tokenizer.backend_tokenizer.save(str(tmp_path / artifact.TOKENIZER))
    manifest = Manifest(
        task="text-classification",
        labels=["bad", "good"],
        inputs=InputSpec(names=["input_ids", "attention_mask"], max_length=32, pad_token_id=0, cleaning=CLEANING),
        quantization=Quantization(precision="fp32", scheme="none"),
    )
    write_golden(tmp_path, manifest, [cleaner(CLEANING)(text) for text in DIRTY])
    artifact.write_manifest(tmp_path, manifest, [*artifact.REQUIRED, artifact.GOLDEN])
    return tmp_path


def changed(folder: Path, **fields: Any) -> Path:
    """The same artifact with another cleaning."""
    manifest = artifact.read_manifest(folder)
    inputs = dataclasses.replace(manifest.inputs, cleaning=dataclasses.replace(manifest.inputs.cleaning, **fields))
    write_json(folder / artifact.MANIFEST, dataclasses.replace(manifest, inputs=inputs))
    return folder


def test_a_dirty_text_is_answered_as_the_clean_one(folder: Path) -> None:
    model = load(folder)
    clean = [cleaner(CLEANING)(text) for text in DIRTY]
    plain = load(changed(folder, steps=[], anonymise=[]))
    assert model.encode(DIRTY) == model.encode(clean) == plain.encode(clean) != plain.encode(DIRTY)
    for mine, theirs in ((model.logits, plain.logits), (model.probabilities, plain.probabilities)):
        np.testing.assert_array_equal(mine(DIRTY), theirs(clean))
    assert model(DIRTY, top_k=None) == plain(clean, top_k=None)
    assert model(DIRTY[0]) == plain(clean[0])


def test_golden_rows_replay_and_the_manifest_holds_the_cleaning(folder: Path) -> None:
    model = load(folder)
    assert replay(model).passed
    assert model.manifest.inputs.cleaning == CLEANING
    written = msgspec.json.decode((folder / artifact.MANIFEST).read_bytes())
    assert written["inputs"]["cleaning"]["region"] == "GB"


def test_what_the_cleaning_needs_is_missed_at_load(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "phonenumbers", None)
    with pytest.raises(MissingExtraError, match=r"phonenumbers is not installed .*edgeft\[clean\]"):
        load(folder)
    monkeypatch.setitem(sys.modules, "ftfy", None)
    with pytest.raises(MissingExtraError, match=r"ftfy is not installed .*edgeft\[clean\]"):
        load(changed(folder, anonymise=[]))
    load(changed(folder, steps=["html", "whitespace"]))


def test_a_step_of_a_later_edgeft_is_refused_at_load(folder: Path) -> None:
    with pytest.raises(ArtifactError, match="unknown step 'emoji'"):
        load(changed(folder, steps=["html", "emoji"]))


def test_half_a_surrogate_pair_is_refused_in_one_line_or_cleaned_away(folder: Path) -> None:
    load(folder).encode(["a good film \ud800"])  # step control takes it out
    with pytest.raises(UserError, match="text 1 is not valid Unicode"):
        load(changed(folder, steps=["html"], anonymise=[])).encode(["fine", "a good film \ud800"])


def test_another_version_of_what_cleans_is_said(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    here = versions(CLEANING)
    assert set(here) >= {"ftfy"}
    for known, said in ((here, False), ({**here, "ftfy": "1.0"}, True), ({}, False)):
        manifest = artifact.read_manifest(folder)
        inputs = dataclasses.replace(manifest.inputs, cleaning_versions=known)
        write_json(folder / artifact.MANIFEST, dataclasses.replace(manifest, inputs=inputs))
        load(folder)
        assert ("made with ftfy 1.0" in capsys.readouterr().err) is said


def test_a_package_that_an_earlier_artifact_did_not_name_is_no_other_version(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    manifest = artifact.read_manifest(changed(folder, anonymise=["iban", "phone"]))
    named = versions(CLEANING)  # as before IBANs were checked by python-stdnum
    assert named != versions(dataclasses.replace(CLEANING, anonymise=["iban", "phone"]))
    inputs = dataclasses.replace(manifest.inputs, cleaning_versions=named)
    write_json(folder / artifact.MANIFEST, dataclasses.replace(manifest, inputs=inputs))
    load(folder)
    assert capsys.readouterr().err == ""


def test_inspect_shows_the_cleaning_where_there_is_any(folder: Path) -> None:
    shown = describe(artifact.read_manifest(folder))
    assert "cleaning      unicode, html, urls, control, whitespace\n" in shown
    assert "anonymised    email, phone (GB)\n" in shown
    shown = describe(artifact.read_manifest(changed(folder, steps=[], anonymise=[])))
    assert "cleaning" not in shown
    assert "anonymised" not in shown

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from edgeft import artifact
from edgeft.artifact import MANIFEST, MODEL, TOKENIZER, InputSpec, Manifest, Quantization
from edgeft.cleaning import Cleaning
from edgeft.errors import ArtifactError

MINIMAL = Manifest(
    task="text-classification",
    labels=["a", "b"],
    inputs=InputSpec(names=["input_ids"], max_length=8, pad_token_id=0),
    quantization=Quantization(precision="int8", scheme="dynamic"),
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "artifact"
    folder.mkdir()
    (folder / MODEL).write_bytes(b"graph")
    (folder / TOKENIZER).write_bytes(b"{}")
    (folder / "golden.json").write_bytes(b"[]")
    artifact.write_manifest(folder, MINIMAL, [MODEL, TOKENIZER, "golden.json"])
    return folder


def check(folder: Path) -> Manifest:
    manifest = artifact.read_manifest(folder)
    artifact.verify_files(folder, manifest)
    return manifest


def test_what_was_written_is_read(folder: Path) -> None:
    manifest = check(folder)
    assert manifest.labels == ["a", "b"]
    assert {name: file.bytes for name, file in manifest.files.items()} == {MODEL: 5, TOKENIZER: 2, "golden.json": 2}
    assert manifest.files[MODEL].sha256 == artifact.file_sha256(folder / MODEL)
    assert artifact.total_bytes(manifest) == 7
    assert not list(folder.glob("*.tmp"))


def test_the_same_artifact_has_the_same_manifest_whatever_the_order_of_files(folder: Path) -> None:
    first = (folder / MANIFEST).read_bytes()
    artifact.write_manifest(folder, MINIMAL, ["golden.json", TOKENIZER, MODEL])
    assert (folder / MANIFEST).read_bytes() == first


def replace(old: bytes, new: bytes) -> Callable[[Path], object]:
    """Damage that changes the manifest's bytes."""

    def damage(folder: Path) -> None:
        content = (folder / MANIFEST).read_bytes()
        assert old in content
        (folder / MANIFEST).write_bytes(content.replace(old, new, 1))

    return damage


DAMAGES: dict[str, tuple[Callable[[Path], object], str]] = {
    "no folder": (shutil.rmtree, "no such artifact folder"),
    "no manifest": (lambda f: (f / MANIFEST).unlink(), "no manifest.json, which is written last"),
    "half a manifest": (lambda f: (f / MANIFEST).write_bytes((f / MANIFEST).read_bytes()[:100]), "can't be read"),
    "empty manifest": (lambda f: (f / MANIFEST).write_bytes(b""), "can't be read"),
    "a list": (lambda f: (f / MANIFEST).write_bytes(b"[]"), "can't be read: Expected `object`"),
    "not UTF-8": (replace(b'"int8"', b'"\xff"'), "can't be read"),
    "wrong type": (replace(b'"max_length": 8', b'"max_length": "8"'), r"Expected `int`, got `str` .*max_length"),
    "no labels": (replace(b'"labels"', b'"label5"'), "missing required field `labels`"),
    "later schema": (
        replace(b'"schema_version": 4', b'"schema_version": 9'),
        "manifest schema 9, this edgeft reads up to 4: install a newer",
    ),
    "later schema of another shape": (
        lambda f: (f / MANIFEST).write_bytes(b'{"schema_version": 9, "labels": {}}'),
        "manifest schema 9",
    ),
    "no graph": (lambda f: (f / MODEL).unlink(), "model.onnx is missing"),
    "short graph": (lambda f: (f / MODEL).write_bytes(b"gra"), "model.onnx has 3 bytes instead of 5"),
    "changed graph": (lambda f: (f / MODEL).write_bytes(b"grapf"), r"model.onnx was changed \(its SHA-256 differs\)"),
    "changed extra": (lambda f: (f / "golden.json").write_bytes(b"{}"), "golden.json was changed"),
    "graph is a folder": (lambda f: ((f / MODEL).unlink(), (f / MODEL).mkdir()), "model.onnx is missing"),
    "unlisted graph": (
        lambda f: artifact.write_manifest(f, MINIMAL, [TOKENIZER]),
        "model.onnx is not listed in the manifest",
    ),
}


@pytest.mark.parametrize("kind", DAMAGES)
def test_every_damage_has_its_one_line(folder: Path, kind: str) -> None:
    damage, words = DAMAGES[kind]
    damage(folder)
    with pytest.raises(ArtifactError, match=words) as caught:
        check(folder)
    assert "\n" not in str(caught.value)
    assert str(folder) in str(caught.value)


def test_all_damaged_files_are_named_at_once(folder: Path) -> None:
    (folder / MODEL).unlink()
    (folder / TOKENIZER).write_bytes(b"[]")
    with pytest.raises(ArtifactError, match=r"model.onnx is missing; tokenizer.json was changed"):
        check(folder)


def test_a_file_instead_of_a_folder(tmp_path: Path) -> None:
    (tmp_path / "model.onnx").write_bytes(b"graph")
    with pytest.raises(ArtifactError, match="no such artifact folder"):
        artifact.read_manifest(tmp_path / "model.onnx")


def test_unknown_fields_of_the_same_schema_are_passed_over(folder: Path) -> None:
    replace(b'"task"', b'"note": "x", "task"')(folder)
    check(folder)


def test_the_cleaning_is_read_as_written_and_absent_from_an_older_manifest(folder: Path) -> None:
    document = json.loads((folder / MANIFEST).read_bytes())
    document["inputs"]["cleaning"] = {"steps": ["html"], "anonymise": ["email"], "region": "DE", "names_model": None}
    (folder / MANIFEST).write_text(json.dumps(document))
    expected = Cleaning(steps=["html"], anonymise=["email"], region="DE")
    assert check(folder).inputs.cleaning == expected
    del document["inputs"]["cleaning"]
    (folder / MANIFEST).write_text(json.dumps({**document, "schema_version": 1}))
    assert check(folder).inputs.cleaning == Cleaning()
    document["inputs"]["cleaning"] = {"steps": "html"}
    (folder / MANIFEST).write_text(json.dumps(document))
    with pytest.raises(ArtifactError, match=r"can't be read: Expected `array`, got `str` .*cleaning"):
        check(folder)

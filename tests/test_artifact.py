from __future__ import annotations

import functools
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from edgeft import artifact
from edgeft.artifact import MANIFEST, MODEL, TOKENIZER, InputSpec, Manifest, Quantization
from edgeft.cleaning import Cleaning
from edgeft.errors import ArtifactError
from edgeft.files import file_sha256, open_regular

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
    assert manifest.files[MODEL].sha256 == file_sha256(folder / MODEL)
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


def instead(name: str, make: Callable[[Path], object]) -> Callable[[Path], object]:
    """Another thing in the place of a file."""

    def damage(folder: Path) -> None:
        (folder / name).unlink()
        make(folder / name)

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
    "graph is a folder": (instead(MODEL, Path.mkdir), "model.onnx is missing"),
    "unlisted graph": (
        lambda f: artifact.write_manifest(f, MINIMAL, [TOKENIZER]),
        "model.onnx is not listed in the manifest",
    ),
}


def linked_manifest(folder: Path) -> None:
    (folder / MANIFEST).rename(folder / "other")
    (folder / MANIFEST).symlink_to("other")


def link_to_a_copy(folder: Path) -> None:
    (folder / MODEL).rename(folder.parent / "elsewhere")
    (folder / MODEL).symlink_to(folder.parent / "elsewhere")


DAMAGES |= {
    "graph is a link to the same bytes": (link_to_a_copy, "model.onnx is a link, and links aren't followed"),
    "graph is a link to nothing": (
        instead(MODEL, lambda path: path.symlink_to("nothing")),
        "model.onnx is a link",
    ),
    "graph is a pipe": (instead(MODEL, os.mkfifo), "model.onnx is not a regular file"),
    "manifest is a pipe": (instead(MANIFEST, os.mkfifo), "its manifest.json is not a regular file"),
    "manifest is a link": (
        linked_manifest,
        "its manifest.json is a link, and links aren't followed",
    ),
    "manifest is a folder": (instead(MANIFEST, Path.mkdir), "its manifest.json is miss"),
    "manifest without end": (
        lambda f: (f / MANIFEST).write_bytes(b" " * (artifact.MANIFEST_BYTES + 1)),
        "has more than 8,388,608 bytes",
    ),
    "nested deeply": (replace(b'"parity": {}', b'"parity": {"a":' + b"[" * 5000 + b"]" * 5000 + b"}"), "can't be read"),
}


def change(path: str, value: object) -> Callable[[Path], object]:
    """Damage that puts a value into the manifest."""

    def damage(folder: Path) -> None:
        document = json.loads((folder / MANIFEST).read_bytes())
        *parents, last = path.split("/")
        functools.reduce(lambda inner, key: inner.setdefault(key, {}), parents, document)[last] = value
        (folder / MANIFEST).write_text(json.dumps(document))

    return damage


FILE = {"sha256": "0" * 64, "bytes": 1}
VALUES: dict[str, tuple[str, object, str]] = {
    "no tokens": ("inputs/max_length", 0, r"Expected `int` >= 1 .*max_length"),
    "too many tokens": ("inputs/max_length", 10**9, r"Expected `int` <= 1000000 .*max_length"),
    "a stride of all": ("inputs/stride", 8, "has stride 8, which must be less than max_length 8"),
    "a stride below 0": ("inputs/stride", -1, "Expected `int` >= 0 .*stride"),
    "a pad token below 0": ("inputs/pad_token_id", -1, "Expected `int` >= 0 .*pad_token_id"),
    "a pad token that no tensor holds": ("inputs/pad_token_id", 2**31, "Expected `int` <= 2147483647 .*pad_token_id"),
    "a label twice": ("labels", ["a", "a"], "has the same label twice"),
    "a label without end": ("labels", ["a" * 1001], "Expected `str` of length <= 1000 .*labels"),
    "labels without end": ("labels", [""] * 100_001, "Expected `array` of length <= 100000 .*labels"),
    "a share above 1": (
        "calibration/selective",
        {"threshold": 7, "max_error": 0.1, "confidence": 0.9},
        "Expected `float` <= 1.0 .*threshold",
    ),
    "full confidence": (
        "calibration/selective",
        {"threshold": None, "max_error": 0.1, "confidence": 1},
        "Expected `float` < 1.0 .*confidence",
    ),
    "threads that are no number": ("latency/by_threads_ms", {"two": 1.0}, "by_threads_ms|matching regex"),
    "a time below 0": ("latency/by_threads_ms", {"2": -1.0}, "Expected `float` >= 0"),
    "intervals that are none": ("metrics", {"artifact": {"intervals": 3}}, "Expected `object.*intervals"),
    "a digest that is none": ("files/model.onnx/sha256", "abc", "matching regex .*sha256"),
    "bytes below 0": ("files/model.onnx/bytes", -1, "Expected `int` >= 0 .*bytes"),
    "a file without end": ("files/model.onnx/bytes", 2**40, "Expected `int` <= 2147483648"),
    "too many files": ("files", {f"f{number}": FILE for number in range(257)}, "lists 257 files, and at most 256"),
    "files of too many bytes": (
        "files",
        {f"f{number}": {**FILE, "bytes": 2**31} for number in range(3)},
        "lists files of 6,442,450,944 bytes, and at most 4,294,967,296",
    ),
}


@pytest.mark.parametrize("kind", VALUES)
def test_a_value_that_no_manifest_has_is_named(folder: Path, kind: str) -> None:
    path, value, words = VALUES[kind]
    check(folder)
    change(path, value)(folder)
    with pytest.raises(ArtifactError, match=words) as caught:
        artifact.read_manifest(folder)
    assert "\n" not in str(caught.value)
    assert str(folder / MANIFEST) in str(caught.value)


NAMES = (
    *("", ".", "..", "../model.onnx", "/etc/hostname", "a/b", "a\\b", "c:model.onnx", "model.onnx ", "x.", "-", "~"),
    *("nul", "NUL.onnx", "Com1", "lpt9.txt", "a\nb", "a\x00b", "a" * 201, "\u202emodel"),
)


@pytest.mark.parametrize("name", NAMES)
def test_a_name_that_is_not_of_a_file_beside_the_manifest_is_refused(folder: Path, name: str) -> None:
    document = json.loads((folder / MANIFEST).read_bytes())
    document["files"][name] = FILE
    (folder / MANIFEST).write_text(json.dumps(document))
    with pytest.raises(ArtifactError, match="which is not the plain name of a file beside the manifest") as caught:
        artifact.read_manifest(folder)
    assert str(caught.value).isprintable()


def test_what_was_compared_is_what_is_given(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[str] = []

    def note(path: Path) -> Any:
        read.append(path.name)
        return open_regular(path)

    monkeypatch.setattr("edgeft.listed_files.open_regular", note)
    contents = artifact.verify_files(folder, artifact.read_manifest(folder), (MODEL,))
    assert contents == {MODEL: b"graph"}
    assert sorted(read) == sorted([MODEL, TOKENIZER, "golden.json"])  # each once


def test_one_file_is_read_with_its_digest(folder: Path) -> None:
    manifest = artifact.read_manifest(folder)
    assert artifact.read_file(folder, manifest, TOKENIZER) == b"{}"
    (folder / TOKENIZER).write_bytes(b"[]")
    with pytest.raises(ArtifactError, match=r"tokenizer.json was changed \(its SHA-256 differs\)"):
        artifact.read_file(folder, manifest, TOKENIZER)
    with pytest.raises(ArtifactError, match=r"has no report.html in its manifest.json"):
        artifact.read_file(folder, manifest, "report.html")


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


@pytest.mark.parametrize("named", ["runs/demo", "runs", "runs/demo/distill", "runs/demo/missing"])
def test_the_artifact_near_a_folder_is_proposed(named: str, tmp_path: Path) -> None:
    inside = tmp_path / "runs" / "demo" / "artifact"
    for folder in (inside, tmp_path / "runs" / "demo" / "distill", tmp_path / "runs" / "other" / "data"):
        folder.mkdir(parents=True)
    (inside / MANIFEST).write_text("{}")
    with pytest.raises(ArtifactError) as caught:
        artifact.read_manifest(tmp_path / named)
    assert str(caught.value).endswith(f"; did you mean {inside}?")
    with pytest.raises(ArtifactError) as caught:
        artifact.read_manifest(tmp_path / "runs" / "other" / "data")
    assert "did you mean" not in str(caught.value)

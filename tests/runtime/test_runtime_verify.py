"""Golden rows of this and of earlier releases."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
from pathlib import Path
from typing import Any

import msgspec
import pytest
from support_counts import write_artifact

import edgeft
from edgeft import artifact
from edgeft.bench.harness import quality
from edgeft.bench.measure import texts_of
from edgeft.errors import ArtifactError
from edgeft.export.package import hide_golden_texts
from edgeft.runtime import replay
from edgeft.runtime.loading import assemble
from edgeft.runtime.verify import Golden, difference, most_tolerance


def test_a_record_of_an_earlier_release_is_read() -> None:
    row = {"text": "a", "input_ids": [1], "logits": [0.5, 1.0], "probabilities": [0.4, 0.6], "label": "good"}
    golden = msgspec.json.decode(json.dumps({"tolerance": 0.1, "rows": [row]}).encode(), type=Golden)
    assert (golden.rows[0].logits, golden.rows[0].label) == ([0.5, 1.0], "good")


@pytest.mark.parametrize(
    ("kind", "change", "found"),
    [
        ("regression", {"logits": [1e6]}, {"same_labels": 20, "same_tokens": 20}),
        ("tokens", {"label": "O"}, {"same_labels": 19, "max_logit_difference": 0.0}),
        ("squad", {"logits": [0.0]}, {"max_logit_difference": float("inf")}),
        ("multi-label", {"input_ids": [2, 3]}, {"same_tokens": 19, "same_labels": 20}),
    ],
)
def test_a_changed_row_fails_the_replay(
    kind: str, change: dict[str, Any], found: dict[str, Any], kind_root: Any, tmp_path: Path
) -> None:
    shutil.copytree(kind_root(kind) / "artifact", tmp_path / "artifact")
    golden = json.loads((tmp_path / "artifact" / artifact.GOLDEN).read_text())
    golden["rows"][0] |= change
    (tmp_path / "artifact" / artifact.GOLDEN).write_text(json.dumps(golden))
    replayed = replay(assemble(tmp_path / "artifact", artifact.read_manifest(tmp_path / "artifact")))
    assert not replayed.passed
    for name, value in found.items():
        assert getattr(replayed, name) == value


def test_the_tolerance_of_a_number_is_in_its_own_unit(kind_root: Any) -> None:
    model = edgeft.load(kind_root("regression") / "artifact")
    golden = json.loads((model.folder / artifact.GOLDEN).read_text())
    assert golden["tolerance"] == pytest.approx(1e-3 * model.manifest.decoding["deviation"])


# ------------------------------------------------------------------------------------------- what would prove nothing


def changed_golden(folder: Path, change: dict[str, Any], promise: bool = False) -> Path:
    """An artifact whose golden.json is another one, its digest right; with `promise` the manifest speaks of it."""
    golden = json.loads((folder / artifact.GOLDEN).read_text()) | change
    (folder / artifact.GOLDEN).write_text(json.dumps(golden))
    manifest = artifact.read_manifest(folder)
    rows = artifact.GoldenRows(rows=len(golden["rows"]), tolerance=golden["tolerance"]) if promise else None
    artifact.write_manifest(folder, dataclasses.replace(manifest, golden=rows), list(manifest.files))
    return folder


@pytest.mark.parametrize("promise", [False, True])
@pytest.mark.parametrize(
    ("change", "line"),
    [
        ({"rows": []}, "has no rows, and a replay of none proves nothing"),
        ({"tolerance": 0.98}, "allows numbers to differ by 0.98, and more than 0.25 proves nothing"),
        ({"tolerance": -1.0}, "allows numbers to differ by -1"),
    ],
)
def test_a_replay_that_would_prove_nothing_is_refused(
    change: dict[str, Any], line: str, promise: bool, kind_root: Any, tmp_path: Path, run: Any
) -> None:
    shutil.copytree(kind_root("single-label") / "artifact", tmp_path / "artifact")
    folder = changed_golden(tmp_path / "artifact", change, promise)
    assert run("verify", folder)[0] == 0
    code, _, err = run("verify", folder, "--replay", "--json")
    assert code == 2
    assert line in err
    assert "make the artifact again with this edgeft (the same `edgeft pipeline` command" in err
    assert len(err.strip().splitlines()) == 1
    assert quality.replay_artifact(folder)["passed"] is False
    assert line in quality.replay_artifact(folder)["refused"]


def test_rows_other_than_those_that_the_manifest_speaks_of_are_refused(kind_root: Any, tmp_path: Path) -> None:
    shutil.copytree(kind_root("single-label") / "artifact", tmp_path / "artifact")
    golden = json.loads((tmp_path / "artifact" / artifact.GOLDEN).read_text())
    golden["rows"] = golden["rows"][:1]
    (tmp_path / "artifact" / artifact.GOLDEN).write_text(json.dumps(golden))
    model = assemble(tmp_path / "artifact", artifact.read_manifest(tmp_path / "artifact"))
    with pytest.raises(ArtifactError, match=r"has 1 rows with a tolerance of 0\.001, but manifest\.json speaks of 20"):
        replay(model)


def test_the_ceiling_of_a_regression_is_in_the_unit_of_its_targets(kind_root: Any) -> None:
    model = edgeft.load(kind_root("regression") / "artifact")
    assert most_tolerance(model) == pytest.approx(0.25 * model.manifest.decoding["deviation"])
    assert most_tolerance(edgeft.load(kind_root("tokens") / "artifact")) == 0.25


def test_numbers_that_are_none_differ_without_end() -> None:
    assert difference([1.0], [float("nan")]) == float("inf")
    assert difference([float("inf")], [float("inf")]) == float("inf")
    assert difference([1.0, 2.0], [1.5, 2.0]) == 0.5


# ------------------------------------------------------------------------------------------------------ without texts


@pytest.mark.parametrize("kind", ["single-label", "multi-label", "regression", "tokens", "squad"])
def test_golden_rows_without_texts_replay_from_their_token_ids(kind: str, kind_root: Any, tmp_path: Path) -> None:
    model = edgeft.load(kind_root(kind) / "artifact")
    shutil.copytree(model.folder, tmp_path / "artifact")
    hidden = hide_golden_texts(model.folder, tmp_path / "artifact", model.manifest)
    assert hidden.golden is not None
    assert not hidden.golden.texts
    written = (tmp_path / "artifact" / artifact.GOLDEN).read_text()
    assert not any(word in written for word in ("great", "unfilmed", "question"))
    bare = assemble(tmp_path / "artifact", hidden)
    found, whole = replay(bare), replay(model)
    assert found.passed
    assert (found.rows, found.texts, found.same_tokens) == (whole.rows, 0, 0)
    assert found.max_logit_difference <= 1e-5

    golden = json.loads(written)
    golden["rows"][0]["input_ids"][1] += 1
    (tmp_path / "artifact" / artifact.GOLDEN).write_text(json.dumps(golden))
    assert not replay(bare).passed


@pytest.mark.parametrize(
    "change",
    [
        {"windows": []},
        {"input_ids": [2, 10**9, 3], "windows": [{"tokens": 3}]},
        {"input_ids": [2, -1, 3], "windows": [{"tokens": 3}]},
        {"input_ids": [2, 5, 3], "windows": [{"tokens": 2}]},
        {"input_ids": [2, 5, 3], "windows": [{"tokens": 3, "start": 10**12}]},
        {"input_ids": [2, 5, 3], "windows": [{"tokens": 3, "first": 2, "text_tokens": 9}]},
        {"input_ids": [2, 5, 3], "windows": [{"tokens": 3, "types": [0]}]},
    ],
)
def test_rows_without_texts_that_cannot_be_asked_are_refused(
    change: dict[str, Any], kind_root: Any, tmp_path: Path
) -> None:
    model = edgeft.load(kind_root("tokens") / "artifact")
    shutil.copytree(model.folder, tmp_path / "artifact")
    hidden = hide_golden_texts(model.folder, tmp_path / "artifact", model.manifest)
    golden = json.loads((tmp_path / "artifact" / artifact.GOLDEN).read_text())
    golden["rows"][0] |= change
    (tmp_path / "artifact" / artifact.GOLDEN).write_text(json.dumps(golden))
    with pytest.raises(ArtifactError, match="has a row without a text whose token ids can't be cut as it says"):
        replay(assemble(tmp_path / "artifact", hidden))


def test_the_command_says_that_token_ids_were_asked(kind_root: Any, tmp_path: Path, run: Any) -> None:
    model = edgeft.load(kind_root("single-label") / "artifact")
    shutil.copytree(model.folder, tmp_path / "artifact")
    hidden = hide_golden_texts(model.folder, tmp_path / "artifact", model.manifest)
    artifact.write_manifest(tmp_path / "artifact", hidden, list(hidden.files))
    code, out, _ = run("verify", tmp_path / "artifact", "--replay")
    assert code == 0
    assert "replay: 20/20 answers (of token ids, not texts) equal" in out
    with pytest.raises(ArtifactError, match=r"has token ids instead of texts .* give texts with --file"):
        texts_of(tmp_path / "artifact")


def test_golden_rows_that_no_manifest_lists_are_not_replayed(tmp_path: Path) -> None:
    """Anybody may have put them there, or a pipe in their place."""
    folder = write_artifact(tmp_path / "artifact")
    (folder / artifact.GOLDEN).unlink()
    artifact.write_manifest(folder, artifact.read_manifest(folder), [artifact.MODEL, artifact.TOKENIZER])
    os.mkfifo(folder / artifact.GOLDEN)
    with pytest.raises(ArtifactError, match=r"has no golden\.json to replay"):
        replay(edgeft.load(folder))

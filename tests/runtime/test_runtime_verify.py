"""Golden rows of this and of earlier releases."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import msgspec
import pytest

import edgeft
from edgeft import artifact
from edgeft.runtime import replay
from edgeft.runtime.loading import assemble
from edgeft.runtime.verify import Golden


def test_a_record_of_an_earlier_release_is_read() -> None:
    row = {"text": "a", "input_ids": [1], "logits": [0.5, 1.0], "probabilities": [0.4, 0.6], "label": "good"}
    golden = msgspec.json.decode(json.dumps({"tolerance": 0.1, "rows": [row]}).encode(), type=Golden)
    assert (golden.rows[0].logits, golden.rows[0].label) == ([0.5, 1.0], "good")


@pytest.mark.parametrize(
    ("kind", "change", "found"),
    [
        ("regression", {"logits": [1e6]}, {"same_labels": 8, "same_tokens": 8}),
        ("tokens", {"label": "O"}, {"same_labels": 7, "max_logit_difference": 0.0}),
        ("squad", {"logits": [0.0]}, {"max_logit_difference": float("inf")}),
        ("multi-label", {"input_ids": [2, 3]}, {"same_tokens": 7, "same_labels": 8}),
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

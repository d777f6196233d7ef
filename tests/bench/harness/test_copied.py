"""What is sent to another machine of a subject."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

import pytest
from support_counts import write_artifact

from edgeft.artifact import GOLDEN, MANIFEST, MODEL, TOKENIZER
from edgeft.bench.harness.subjects.remote import pack_files
from edgeft.cli.bench import files_to_copy
from edgeft.errors import ArtifactError


def test_of_an_artifact_the_manifest_and_its_files_are_sent_alone(tmp_path: Path) -> None:
    folder = write_artifact(tmp_path / "counts")
    (folder / "private.txt").write_text("nobody listed me")
    (folder / "link").symlink_to("/etc/hostname")
    (folder / "inner").mkdir()
    with tarfile.open(fileobj=io.BytesIO(pack_files(files_to_copy(str(folder))))) as archive:
        assert set(archive.getnames()) == {f"counts/{name}" for name in (MANIFEST, MODEL, TOKENIZER, GOLDEN)}


def test_an_artifact_with_a_link_for_a_file_is_not_sent(tmp_path: Path) -> None:
    folder = write_artifact(tmp_path / "counts")
    (folder / GOLDEN).rename(tmp_path / "elsewhere")
    (folder / GOLDEN).symlink_to(tmp_path / "elsewhere")
    with pytest.raises(ArtifactError, match=r"golden\.json is a link, and links aren't followed"):
        files_to_copy(str(folder))


def test_a_graph_is_sent_with_what_belongs_to_it(tmp_path: Path) -> None:
    folder = write_artifact(tmp_path / "counts")
    assert set(files_to_copy(str(folder / MODEL))) == {MODEL, TOKENIZER}

"""The names that artifacts are served under."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from support_counts import write_artifact

from edgeft.cli.device import _load_by_name
from edgeft.errors import UserError


def test_two_runs_artifacts_are_told_apart_by_names(tmp_path: Path, run: Any) -> None:
    one, other = (str(write_artifact(tmp_path / name / "artifact")) for name in ("one", "other"))
    code, _, err = run("serve", one, other)
    assert code == 2
    assert err.splitlines() == [
        f"edgeft: serve: two artifacts are named artifact; name them yourself, as in NAME={other}"
    ]
    found = _load_by_name([one, f"second={other}"], None)
    assert list(found) == ["artifact", "second"]
    assert found["second"].folder == Path(other)
    with pytest.raises(UserError, match="two artifacts are named second"):
        _load_by_name([f"second={one}", f"second={other}"], None)


def test_a_folder_may_have_an_equals_sign(tmp_path: Path) -> None:
    assert list(_load_by_name([str(write_artifact(tmp_path / "a=b"))], None)) == ["a=b"]

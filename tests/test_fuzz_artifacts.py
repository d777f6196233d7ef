"""A short run of the fuzzer: 60 changed folders of the smallest artifact, by one seed, all in this process."""

from __future__ import annotations

import collections
import os
import shutil
import signal
import time
from pathlib import Path

import fuzz_artifacts
import pytest
from support_counts import write_artifact

QUICK = ("load", "serve", "inspect", "verify", "predict")


def test_changed_folders_end_in_answers_and_single_lines(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", [])
    base = write_artifact(tmp_path / "base")
    ends: collections.Counter[str] = collections.Counter()
    for number in range(60):
        folder = tmp_path / f"artifact-{number}"
        facts = fuzz_artifacts.mutate(base, folder, f"test/{number}")
        actions = fuzz_artifacts.actions(folder, slow=False)
        assert set(actions) == set(QUICK)
        for name in ("load", ("inspect", "verify", "predict")[number % 3]):
            end, words = fuzz_artifacts.try_action(actions[name])
            assert end in ("answered", "refused"), f"{number} {name} {facts}: {words}"
            assert not (facts["unlisted"] and end == "answered" and name != "inspect"), f"{number} {name} {facts}"
            ends[f"{name} {end}"] += 1
        shutil.rmtree(folder)
    capfd.readouterr()
    assert ends["load refused"] >= 20
    assert ends["load answered"] >= 5


def test_the_fuzzer_sees_what_it_looks_for(tmp_path: Path) -> None:
    base = write_artifact(tmp_path / "base")

    def break_down() -> None:
        raise ZeroDivisionError

    assert fuzz_artifacts.try_action(break_down)[0] == "traceback"
    kinds = {fuzz_artifacts.mutate(base, tmp_path / f"m{n}", f"{n}")["unlisted"] for n in range(30)}
    assert kinds == {True, False}


def test_a_hang_and_a_crash_are_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fuzz_artifacts, "LIMIT_SECONDS", 0.3)
    for action, end in ((lambda: time.sleep(9), "hang"), (lambda: os.kill(os.getpid(), signal.SIGKILL), "crash")):
        monkeypatch.setattr(fuzz_artifacts, "actions", lambda folder, slow, action=action: {"load": action})
        assert [found[1] for found in fuzz_artifacts.try_folder(tmp_path, slow=False)] == [end]

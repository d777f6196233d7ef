from __future__ import annotations

import os
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from edgeft import files
from edgeft.errors import OutputFolderError
from edgeft.files import is_temporary, sweep, take_lock, write_json, written_whole

GUESSED = ("a.json.tmp", f"a.json.{os.getpid()}.part")  # what earlier versions wrote to


@pytest.mark.parametrize("name", GUESSED, ids=["tmp", "part"])
def test_a_link_under_a_guessed_name_is_not_followed(name: str, tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_text("precious")
    (tmp_path / name).symlink_to(victim)
    write_json(tmp_path / "a.json", {"a": 1})
    with written_whole(tmp_path / "a.json") as file:
        file.write(b"{}")
    assert victim.read_text() == "precious"
    assert (tmp_path / "a.json").read_bytes() == b"{}"


def test_a_file_is_never_written_through_a_link(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "victim").write_text("precious")
    (tmp_path / "link").symlink_to(tmp_path / "victim")
    write_json(tmp_path / "link", {})
    assert (tmp_path / "victim").read_text() == "precious"
    monkeypatch.setattr(files, "_temporary_name", lambda path: "planted")
    (tmp_path / "planted").symlink_to(tmp_path / "victim")
    with pytest.raises(FileExistsError):
        write_json(tmp_path / "a.json", {})
    assert (tmp_path / "victim").read_text() == "precious"


def test_two_writers_of_one_file_never_share_a_temporary_one(tmp_path: Path) -> None:
    target = tmp_path / "a.jsonl"
    with written_whole(target) as first, written_whole(target) as second:
        first.write(b"first")
        second.write(b"second")
        assert len(list(tmp_path.iterdir())) == 2
    assert target.read_bytes() == b"first"
    assert list(tmp_path.iterdir()) == [target]


def test_a_new_file_may_be_read_as_the_umask_says(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        write_json(tmp_path / "a.json", {})
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "a.json").stat().st_mode) == 0o640


def test_a_name_as_long_as_a_file_system_takes(tmp_path: Path) -> None:
    write_json(tmp_path / ("a" * 255), {})
    assert [path.name for path in tmp_path.iterdir()] == ["a" * 255]


WRITER = """
import sys, time
from pathlib import Path
from edgeft.files import written_whole
with written_whole(Path(sys.argv[1])) as file:
    file.write(b"half")
    file.flush()
    print("half", flush=True)
    time.sleep(60)
"""
HOLDER = """
import sys, time
from pathlib import Path
from edgeft.files import take_lock
lock = take_lock(Path(sys.argv[1]))
print("half", flush=True)
time.sleep(60)
"""


@pytest.fixture
def alive(tmp_path: Path) -> Callable[[str], subprocess.Popen[str]]:
    """Starts a program that has come half-way."""

    def start(program: str) -> subprocess.Popen[str]:
        command = [sys.executable, "-c", program, str(tmp_path / "a.jsonl")]
        child = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert child.stdout
        assert child.stdout.readline() == "half\n"
        return child

    return start


def killed(child: subprocess.Popen[str]) -> None:
    with child:
        child.send_signal(signal.SIGKILL)


def test_the_next_writer_sweeps_up_what_a_kill_left_and_not_what_another_one_writes(
    alive: Callable[[str], subprocess.Popen[str]], tmp_path: Path
) -> None:
    child = alive(WRITER)
    (left,) = tmp_path.iterdir()
    assert is_temporary(left.name)
    write_json(tmp_path / "a.jsonl", 1)
    assert left.exists()  # its writer lives
    killed(child)
    write_json(tmp_path / "other", 1)
    assert left.exists()  # of another file
    write_json(tmp_path / "a.jsonl", 2)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.jsonl", "other"]


def test_a_killed_writer_with_our_own_number_is_not_taken_for_us(tmp_path: Path) -> None:
    """In a container a program often has the same process id at each start."""
    (tmp_path / files._temporary_name(tmp_path / "a")).write_text("half")
    write_json(tmp_path / "a", 1)
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_sweeping_takes_temporary_files_alone(tmp_path: Path) -> None:
    (tmp_path / "deep").mkdir()
    names = [".edgeft-notes.tmp", "a.tmp", files._temporary_name(Path("x")), f"deep/{files._temporary_name(Path('x'))}"]
    for name in names:
        (tmp_path / name).write_text("")
    sweep(tmp_path, below=False)
    assert not (tmp_path / names[2]).exists()
    assert (tmp_path / names[3]).exists()
    sweep(tmp_path)
    assert sorted(path.name for path in tmp_path.rglob("*")) == [".edgeft-notes.tmp", "a.tmp", "deep"]


def test_a_lock_is_given_back_however_its_process_ends(
    alive: Callable[[str], subprocess.Popen[str]], tmp_path: Path
) -> None:
    child = alive(HOLDER)
    assert take_lock(tmp_path / "a.jsonl") is None
    killed(child)
    lock = take_lock(tmp_path / "a.jsonl", wait=True)
    assert lock is not None
    assert take_lock(tmp_path / "a.jsonl") is None
    lock.close()
    with take_lock(tmp_path / "a.jsonl") or pytest.fail("it was given back"):
        assert take_lock(tmp_path / "a.jsonl") is None


def test_a_file_system_without_locks_is_one_line_and_no_lock_that_a_kill_leaves(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import fcntl

    def refuse(*_: object) -> None:
        raise OSError(38, "Function not implemented")

    monkeypatch.setattr(fcntl, "flock", refuse)
    with pytest.raises(OutputFolderError, match=r"has no file locks; give a folder on a local disk$"):
        take_lock(tmp_path / "a.lock")


def test_a_file_that_another_host_may_be_writing_is_swept_by_its_age_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two containers on one volume: neither sees the other's processes, and both may count them alike."""
    path = tmp_path / "a.json"
    here = files._host()
    monkeypatch.setattr(files, "_host", lambda: "0123abcd")
    theirs = tmp_path / files._temporary_name(path)
    monkeypatch.setattr(files, "_host", lambda: here)
    for earlier in (theirs, tmp_path / f".edgeft-{files._target(path)}-{os.getpid()}-{'0' * 16}.tmp"):
        earlier.write_text("half")
        assert files.is_temporary(earlier.name)
        files.write_atomically(path, b"{}")
        assert earlier.exists()
        os.utime(earlier, (0, time.time() - files.STALE_SECONDS - 1))
        files.write_atomically(path, b"{}")
        assert not earlier.exists()
    ours = tmp_path / files._temporary_name(path)
    ours.write_text("half")
    files.write_atomically(path, b"{}")
    assert not ours.exists()

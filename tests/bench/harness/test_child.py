"""A subject's process: opened, asked, and what is said when it fails."""

from __future__ import annotations

import http.server
import socket
import threading
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from edgeft.bench.harness.scenarios import offline
from edgeft.bench.harness.subjects.child import Child
from edgeft.bench.harness.subjects.subject import Subject, subjects
from edgeft.errors import EdgeftError, UserError

Make = Callable[..., Subject]


def test_queries_are_timed_one_by_one(subject: Make) -> None:
    with Child(subject("waits", seconds=0.004), ["a", "bb"]) as child:
        assert set(child.started) == {"import_ms", "load_ms", "first_answer_ms"}
        times = child.request("ask", first=1, count=5)["ms"]
    assert len(times) == 5
    assert min(times) >= 4.0
    assert not psutil.pid_exists(child.pid)


def test_what_a_subject_prints_is_no_answer(subject: Make) -> None:
    with Child(subject("talks"), ["a"]) as child:
        assert len(child.request("ask", first=0, count=2)["ms"]) == 2


def test_answers_and_facts(subject: Make) -> None:
    with Child(subject("waits", seconds=0.0), ["a", "four"]) as child:
        assert child.request("answers", first=0, count=9)["answers"] == [["negative", 0.75], ["positive", 0.75]]
        assert child.request("answers", first=1, count=1)["answers"] == [["positive", 0.75]]
        assert child.request("facts")["facts"] == {}
        assert child.request("facts")["peak_rss_bytes"] > 1e6
        assert set(child.request("where").values()) == {None}
    with Child(subject("talks"), ["a"]) as child:
        assert child.request("answers", first=0, count=1)["answers"] is None


def test_what_cant_be_opened_is_one_line(subject: Make) -> None:
    with pytest.raises(UserError, match=r"^it: ValueError: no weights in this folder$"):
        Child(subject("breaks"), ["a"])
    with pytest.raises(UserError, match="has no attribute 'nothing'"):
        Child(subject("nothing"), ["a"])


def test_a_server_that_isnt_there_or_takes_no_text_is_one_line() -> None:
    with socket.socket() as bound:  # and not listening
        bound.bind(("127.0.0.1", 0))
        address = f"http://127.0.0.1:{bound.getsockname()[1]}"
        with pytest.raises(UserError, match=rf"^{address}: can't be asked: \[Errno 111\] Connection refused$"):
            Child(subjects([address], 1, None, None)[0], ["a"])
    with http.server.HTTPServer(("127.0.0.1", 0), http.server.SimpleHTTPRequestHandler) as files:
        threading.Thread(target=files.handle_request, daemon=True).start()
        address = f"http://127.0.0.1:{files.server_port}"
        with pytest.raises(UserError, match=rf"^{address}: answers 501: <!DOCTYPE HTML>"):
            Child(subjects([address], 1, None, None)[0], ["a"])


def test_a_process_that_ends_is_one_line_with_its_last_words(subject: Make) -> None:
    with (
        Child(subject("dies"), ["a"]) as child,
        pytest.raises(EdgeftError, match=r"^it: its process ended with exit code 9: out of memory$"),
    ):
        child.request("ask", first=0, count=1)


def test_a_process_that_was_killed_meanwhile_is_said(subject: Make) -> None:
    with Child(subject("waits", seconds=0.0), ["a"]) as child:
        own = psutil.Process(child.pid)
        own.kill()
        while own.status() != psutil.STATUS_ZOMBIE:
            time.sleep(0.01)
        with pytest.raises(EdgeftError, match=r"^it: its process ended with exit code -9: no message$"):
            child.request("ask", first=0, count=1)


def test_a_query_that_fails_in_any_stream_is_said(subject: Make) -> None:
    with (
        Child(subject("third"), ["a"]) as child,
        pytest.raises(EdgeftError, match="it: ValueError: the third"),
    ):
        child.request("server", rate=1000.0, count=20, seed=0, streams=3)


def test_an_answer_that_doesnt_come_is_not_waited_for(subject: Make) -> None:
    with (
        Child(subject("waits", seconds=5.0, stall=0), ["a"]) as child,
        pytest.raises(EdgeftError, match=r"no answer within 0.2 s"),
    ):
        child.request("ask", within=0.2, first=0, count=1)


def test_offline_counts_whole_calls(subject: Make) -> None:
    with Child(subject("together", seconds=0.002), ["a"]) as child:
        done = child.request("offline", batch=4, seconds=0.1)
    assert done["texts"] % 4 == 0
    assert done["texts"] / done["seconds"] <= 500
    assert done["seconds"] >= 0.1


def test_a_subject_of_one_text_a_time_has_no_batches(subject: Make) -> None:
    with Child(subject("waits", seconds=0.001), ["a"]) as child:
        found = offline.measure_throughput(child, 0.1)
    assert found["1"] is not None
    assert found["1"] <= 1000
    assert (found["8"], found["32"]) == (None, None)


@pytest.mark.parametrize(
    ("place", "said"),
    [
        ("nowhere", "neither an artifact, an .onnx file"),
        ("none.py:load", "there is no such file"),
        ("none.onnx", "none.onnx: no such file; an ONNX file is asked through"),
    ],
)
def test_places_that_are_nothing(place: str, said: str) -> None:
    with pytest.raises(UserError, match=said):
        subjects([place], 1, None, None)


def test_kinds_of_places(tmp_path: Path) -> None:
    (tmp_path / "artifact").mkdir()
    (tmp_path / "artifact" / "manifest.json").write_text("{}")
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "config.json").write_text("{}")
    (tmp_path / "model.onnx").write_text("")
    (tmp_path / "tokenizer.json").write_text("{}")
    (tmp_path / "own.py").write_text("")
    names = ("artifact", "folder", "model.onnx", "own.py:load")
    made = subjects([*(str(tmp_path / name) for name in names), "http://localhost:8000"], 2, None, 64)
    assert [one.kind for one in made] == ["artifact", "callable", "onnx", "callable", "http"]
    assert made[2].options == {
        "path": str(tmp_path / "model.onnx"),
        "tokenizer": str(tmp_path / "tokenizer.json"),
        "max_length": 64,
        "threads": 2,
    }
    twice = subjects([str(tmp_path / "artifact")] * 2, 1, None, None)
    assert [one.name for one in twice] == ["artifact", "artifact (2)"]

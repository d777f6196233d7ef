from __future__ import annotations

import io
import sys

import pytest

from edgeft import progress
from edgeft.progress import Bar, say, track


class Terminal(io.StringIO):
    """A stderr that says it is a terminal."""

    def isatty(self) -> bool:
        return True


def test_a_line_goes_to_stderr(capsys: pytest.CaptureFixture[str]) -> None:
    say("hello")
    assert tuple(capsys.readouterr()) == ("", "hello\n")


def test_without_a_terminal_a_bar_ends_in_one_plain_line(capsys: pytest.CaptureFixture[str]) -> None:
    with Bar("distill", 3) as bar:
        for _ in range(3):
            bar.advance()
        bar.show("loss 0.31")
    assert tuple(capsys.readouterr()) == ("", "distill: 3/3 loss 0.31\n")


def test_a_long_bar_shows_plain_lines_now_and_then(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(progress, "PLAIN_SECONDS", -1.0)
    with Bar("count", None) as bar:
        bar.advance(2)
    assert capsys.readouterr().err == "count: 2\ncount: 2\n"


def test_a_failed_bar_says_nothing_more(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ValueError, match="x"), Bar("count", 2):
        raise ValueError("x")
    assert capsys.readouterr().err == ""


def test_track_counts_sized_and_unsized(capsys: pytest.CaptureFixture[str]) -> None:
    assert list(track([1, 2], "list")) == [1, 2]
    assert list(track(iter([1, 2]), "iterator")) == [1, 2]
    assert list(track(iter([1, 2]), "known", total=2)) == [1, 2]
    assert capsys.readouterr().err == "list: 2/2\niterator: 2\nknown: 2/2\n"


def test_on_a_terminal_the_bar_is_live_and_has_the_note(monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in ("NO_COLOR", "TERM", "TTY_COMPATIBLE"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("COLUMNS", "120")
    stderr = Terminal()
    monkeypatch.setattr(sys, "stderr", stderr)
    with Bar("distill", 2) as bar:
        bar.advance(2)
        bar.show("loss 0.31")
    assert "2/2" in stderr.getvalue()
    assert "loss 0.31" in stderr.getvalue()
    assert "\x1b[" in stderr.getvalue()

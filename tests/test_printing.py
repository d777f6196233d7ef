"""Words from elsewhere are shown on a terminal as words: no control sequence, no markup."""

from __future__ import annotations

import io
import sys
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from rich.table import Table
from rich.text import Text

from edgeft.cli.app import stdout
from edgeft.progress import Bar, say
from edgeft.terminal.console import WordConsole
from edgeft.terminal.printing import printable

HOSTILE = "good\x1b]0;title\x07\x1b[2J\x9b31m\rbad\u202egnp.exe\u2066\u2028\udc80[red]:smile:"
SHOWN = "good\\x1b]0;title\\x07\\x1b[2J\\x9b31m\\rbad\\u202egnp.exe\\u2066\\u2028\\udc80[red]:smile:"


@pytest.mark.parametrize(
    "text", ["plain", "two\nlines\tand a tab", "ünïcödé 漢字 \U0001f600", "12\u2009345", "می\u200cخواهم", ""]
)
def test_harmless_words_stay_as_they_are(text: str) -> None:
    assert printable(text) == text


def test_what_would_act_is_written_out() -> None:
    assert printable(HOSTILE) == SHOWN
    assert printable(SHOWN) == SHOWN


def test_a_plain_line_of_progress_is_one(capsys: pytest.CaptureFixture[str]) -> None:
    say(HOSTILE)
    assert capsys.readouterr().err == f"{SHOWN}\n"


@pytest.mark.parametrize("terminal", [False, True])
@pytest.mark.parametrize("as_text", [False, True])
def test_tables_show_labels_as_words(monkeypatch: pytest.MonkeyPatch, terminal: bool, as_text: bool) -> None:
    stream = io.StringIO()
    monkeypatch.setattr(sys, "stdout", stream)
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setenv("FORCE_COLOR", "1" if terminal else "")
    table = Table("label", title=HOSTILE)
    table.add_row(Text(HOSTILE, style="bold red") if as_text else HOSTILE)
    console = stdout()
    console.print(table)
    console.print(HOSTILE, soft_wrap=True)
    written = stream.getvalue()
    for sequence in ("\x1b]", "\x1b[2J", "\x07", "\x9b", "\u202e", "\u2066", "\u2028"):
        assert sequence not in written
    assert written.count("[red]:smile:") == 3
    assert ("\x1b[" in written) is terminal  # rich's own colours


def test_a_bar_shows_its_note_as_words(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = io.StringIO()
    monkeypatch.setattr(sys, "stderr", stream)
    monkeypatch.setenv("FORCE_COLOR", "1")
    with Bar("[red]title", 2) as bar:
        bar.show("[blink]\x1b[2Jnote")
        bar.advance()
    assert "[red]title" in stream.getvalue()
    assert "[blink]" in stream.getvalue()
    assert "\x1b[2J" not in stream.getvalue()


def test_both_consoles_take_words_for_words() -> None:
    from edgeft.progress import console

    assert isinstance(console(), WordConsole)
    assert isinstance(stdout(), WordConsole)
    assert isinstance(stdout(), Console)


def test_an_error_names_a_file_as_words(run: Any, tmp_path: Path) -> None:
    code, _, error = run("inspect", tmp_path / "a\x1b[31mb\u202e")
    assert code == 2
    assert "a\\x1b[31mb\\u202e" in error
    assert "\x1b" not in error


def test_answers_are_words_and_json_is_exact(capsys: pytest.CaptureFixture[str]) -> None:
    from edgeft.cli import device

    answers = [("a\x1b[2Jtext", [{"label": "go\x1b[31mod", "score": 1.0}])]
    device._print_answers(answers, False, True)
    line, document = capsys.readouterr().out.splitlines()
    assert "go\\x1b[31mod" in line
    assert "a\\x1b[2Jtext" in line
    assert "\\u001b[31m" in document

"""Options in messages: every command is told the form that it takes itself."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

import pytest
from support import last_json, write_csv

from edgeft import recipe
from edgeft.cli.flags import flags_of

WESTERN = "".join(f"caf\u00e9 number {i},{'ab'[i % 2]}\n" for i in range(30))
MODEL = ("--model", "demo:all-minilm-l6-v2")


@pytest.fixture
def western(tmp_path: Path) -> Path:
    """A file in cp1252, and nothing else that is wrong with it."""
    path = tmp_path / "a.csv"
    path.write_bytes(f"text,label\n{WESTERN}".encode("cp1252"))
    return path


def error_of(run: Any, *words: object) -> str:
    """The one line that a command ends with."""
    code, _, err = run(*words)
    said = [line for line in err.splitlines() if line.startswith("edgeft: ")]
    assert (code, len(said)) == (2, 1), err
    return str(said[0])


@pytest.mark.parametrize(
    ("words", "flag"),
    [
        (("data",), "--encoding cp1252"),
        (("data", "--preview", "3"), "--encoding cp1252"),
        (("data", "--out", "out"), "--encoding cp1252"),
        (("advise",), "--encoding cp1252"),
        (("pipeline", *MODEL, "--run-dir", "r", "--data"), "--set data.encoding=cp1252"),
    ],
)
def test_a_file_in_cp1252_is_answered_with_the_flag_of_the_command(
    run: Any, western: Path, words: tuple[str, ...], flag: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    said = error_of(run, *words, western)
    assert said.endswith(f"the whole file decodes as cp1252: {flag}")
    assert "skip-bad-rows" not in said


def test_one_stray_byte_is_a_row_to_leave_out(run: Any, tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_bytes(f"text,label\n{WESTERN}".encode() + b"a\xe9b,a\n")
    document = last_json(run("data", path, "--json")[1])
    assert (document["rows"]["total"], document["todo"][0]["option"]) == (30, "data.skip_bad_rows")


def test_the_flag_that_is_proposed_reads_the_file(run: Any, western: Path) -> None:
    flag = error_of(run, "data", western).rpartition(": ")[2]
    assert last_json(run("data", western, *flag.split(), "--json")[1])["rows"]["total"] == 30


@pytest.mark.parametrize(
    ("words", "mends"),
    [
        (("data",), "--text-column review --label-column stars"),
        (("pipeline", *MODEL, "--run-dir", "r", "--data"), "--text-column review --label-column stars"),
    ],
)
def test_a_mistyped_column_is_named_as_it_was_typed(
    run: Any, words: tuple[str, ...], mends: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    path = write_csv(tmp_path / "a.csv", [("a film", "good"), ("no film", "bad")], ("review", "stars"))
    said = error_of(run, *words, path, "--text-column", "reviw", "--label-column", "star")
    assert said.endswith(mends.replace(" --label", ", --label"))
    said = error_of(run, *words, path, "--text-column", "quux", "--label-column", "zzz")
    assert said.endswith("--text-column and --label-column name your own")


def test_numbers_as_labels_are_answered_with_flags(run: Any, tmp_path: Path) -> None:
    rows = [(f"film number {i}", str(i % 5)) for i in range(60)]
    path = write_csv(tmp_path / "a.csv", rows, ("text", "my score"))
    _, shown, _ = run("data", path, "--label-column", "my score")
    assert "--set data." not in shown
    assert "--task text-regression --target-column 'my score'" in " ".join(shown.split())


def test_checks_of_flags_name_flags(run: Any) -> None:
    said = run("data", "a.csv", "--test-from", "3", "--test-fraction", "2", "--anonymise-names", "x")[2]
    assert "edgeft: --test-fraction: expected" in said
    assert "edgeft: --test-from: there is no --time-column" in said
    assert "edgeft: --anonymise-names: nothing is anonymised; set --anonymise=true" in said


@pytest.mark.parametrize(
    ("command", "path", "flag"),
    [
        ("data", "data.text_column", "--text-column"),
        ("data", "task", "--task"),
        ("advise", "data.label_column", "--label-column"),
        ("finetune", "finetune.lora_rank", "--lora-rank"),
        ("pipeline", "data.file", "--data"),
        ("pipeline", "task", "--task"),
        ("search", "finetune.model", "--model"),
        ("pipeline", "data.encoding", None),
        ("finetune", "data.encoding", None),
        ("no-such-command", "task", None),
    ],
)
def test_the_flags_of_a_command(command: str, path: str, flag: str | None) -> None:
    assert flags_of([command, "x"]).get(path) == flag


def test_outside_a_command_an_option_is_spelled_as_in_a_recipe() -> None:
    assert recipe.name_option("data.text_column") == "data.text_column"
    assert recipe.spell_option("data.text_column", "2024") == "--set 'data.text_column=\"2024\"'"
    with recipe.spelled_with({"data.clean": "--clean", "finetune.packing": "--packing"}):
        assert recipe.spell_option("data.clean", ["html", "urls"]) == "--clean html --clean urls"
        assert recipe.spell_option("finetune.packing", False) == "--no-packing"
        assert recipe.spell_option("data.clean", "-x y") == "'--clean=-x y'"
        assert recipe.spell_option("task", "a") == "--set task=a"
    words = shlex.split(recipe.spell_option("data.label_delimiter", "|"))
    assert recipe.parse_settings([words[1]]) == {"data.label_delimiter": "|"}

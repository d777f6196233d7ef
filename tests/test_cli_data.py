"""`edgeft data` and `edgeft advise`: results on stdout, one-line errors, and no torch for a look at the rows."""

from __future__ import annotations

import dataclasses
import json
import random
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from support import last_json, write_csv

from edgeft import cli, recipe
from edgeft.cli import lines
from edgeft.data.profile import scan
from edgeft.errors import missing_extra
from edgeft.recipe import DataConfig
from edgeft.recipe.spelling import setting

WORDS = (
    "actor ending plot music camera story comedy drama audience director screen silence laughter script evening summer "
    "winter village city teacher doctor brother daughter garden letter window kitchen station journey mountain river"
)


def review(index: int, word: str) -> tuple[str, str]:
    """Twelve words by chance, and an address."""
    generator = random.Random(f"{index} {word}")
    return f"{' '.join(generator.sample(WORDS.split(), 12))} {word} ada{index}@example.com", word


ROWS = [review(index, word) for index in range(40) for word in ("good", "bad")]


@pytest.fixture
def rows(tmp_path: Path) -> Path:
    return write_csv(tmp_path / "rows.csv", [*ROWS, ROWS[0]], ("text", "label"))


def test_a_look_at_the_rows(run: Any, rows: Path, tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    code, shown, _ = run("data", rows, "--html", page, "--json")
    assert code == 0
    assert "What to do" in shown
    document = last_json(shown)
    assert (document["schema_version"], document["rows"]["total"]) == (1, 81)
    assert document["duplicates"]["rows"][0]["row"] == 81
    assert "ada3@" not in shown
    assert "ada3@" not in page.read_text(encoding="utf-8")
    assert document["command"].startswith("edgeft data ")


def test_the_command_that_is_printed_runs(
    run: Any, rows: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    command = shlex.split(last_json(run("data", rows, "--json")[1])["command"])
    assert {"--anonymise", "duplicates"} <= set(command)
    code, shown, err = run(*command[1:], "--json")
    assert code == 0, err
    assert last_json(shown)["metrics"]["duplicates"] == 1
    assert (tmp_path / "data" / "dataset.json").is_file()


def test_files_may_be_several_with_or_without_a_flag(run: Any, rows: Path, tmp_path: Path) -> None:
    other = write_csv(
        tmp_path / "other.csv", [("another good film", "good"), ("another bad film", "bad")], ("text", "label")
    )
    assert last_json(run("data", rows, other, "--json")[1])["rows"]["total"] == 83
    assert last_json(run("data", "--file", rows, "--json")[1])["rows"]["total"] == 81
    found = last_json(run("data", rows, "--test-file", other, "--json")[1])
    assert found["splits"]["rows"]["test"] == 2


def test_a_preview_shows_before_and_after(run: Any, rows: Path) -> None:
    code, shown, _ = run("data", rows, "--anonymise", "--preview", "2")
    assert code == 0
    assert [line[:2] for line in shown.splitlines() if line[:2] in ("- ", "+ ")] == ["- ", "+ "] * 2
    after = [line for line in shown.splitlines() if line.startswith("+ ")]
    assert all("[EMAIL_1]" in line and "@" not in line for line in after)
    document = last_json(run("data", rows, "--anonymise", "--preview", "2", "--json")[1].splitlines()[-1])
    assert "@" not in json.dumps(document)
    assert [change["steps"] for change in document["changes"]] == [["anonymise"]] * 2
    _, shown, err = run("data", rows, "--preview", "2")
    assert "no cleaning is set" in err
    assert "0 rows change, no more" in shown


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("data",), "no file"),
        (("data", "missing.csv"), "no such file"),
        (("data", "a.csv", "--file", "b.csv"), "one way"),
        (("data", "a.csv", "--out", "d", "--preview", "3"), "give one of them"),
        (("data", "a.csv", "--preview", "3", "--html", "p.html"), "give one of them"),
        (("data", "a.csv", "--preview", "0"), "--preview 0"),
        (("advise",), "--rows and --tokens"),
        (("advise", "a.csv", "--rows", "3"), "the file tells by itself"),
        (("advise", "--rows", "0", "--tokens", "9"), "--rows 0"),
        (("advise", "--rows", "9", "--tokens", "nan"), "--tokens nan"),
        (("advise", "--rows", "9", "--tokens", "inf"), "--tokens inf"),
        (("advise", "--rows", "9", "--tokens", "9", "--task", "nonsense"), "nonsense"),
    ],
)
def test_errors_are_one_line(run: Any, arguments: tuple[str, ...], words: str) -> None:
    code, shown, err = run(*arguments)
    said = [line for line in err.splitlines() if line.startswith("edgeft: ")]
    assert (code, shown, len(said)) == (2, "", 1)
    assert words in said[0]


def test_a_page_that_can_not_be_written_is_known_before_the_work(run: Any, rows: Path, tmp_path: Path) -> None:
    code, shown, err = run("data", rows, "--html", tmp_path / "nowhere" / "page.html")
    assert (code, shown) == (2, "")
    assert "there is no folder" in err
    code, _, err = run("data", rows, "--html", tmp_path)
    assert (code, "is a folder" in err) == (2, True)


def test_a_look_imports_no_torch(rows: Path) -> None:
    program = (
        "import sys; from edgeft import cli; sys.argv = ['edgeft', 'data', sys.argv[1]]; cli.main(); "
        "print([name for name in ('torch', 'transformers', 'datasets', 'matplotlib') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", program, str(rows)], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


def test_a_models_own_tokenizer_counts(run: Any, rows: Path, tiny_model: Path) -> None:
    found = last_json(run("data", rows, "--model", tiny_model, "--json")[1])["lengths"]
    assert found["unit"] == "tokens"
    assert str(tiny_model) in found["counted_by"]
    assert found["limit"]
    code, _, err = run("data", rows, "--model", rows.parent / "nothing")
    assert (code, "no such model folder" in err) == (2, True)


def test_without_the_demos_package_words_are_counted(run: Any, rows: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cli.tokens, "DEMO_PACKAGE", "no_such_package")
    found = last_json(run("data", rows, "--json")[1])
    assert found["lengths"]["unit"] == "words and punctuation marks"
    assert any("give --model" in thing["why"] for thing in found["todo"])


def test_advice_for_a_file_and_for_a_problem_that_is_told(run: Any, rows: Path, tiny_model: Path) -> None:
    code, shown, _ = run("advise", rows, "--json")
    assert code == 0
    document = last_json(shown)
    assert document["problem"]["labels"] == 2
    words = shlex.split(document["command"])
    assert words[:4] == ["edgeft", "pipeline", "--data", str(rows)]
    assert words[4] == "--model"
    words[5] = str(tiny_model)
    code, shown, err = run(*words[1:], "--dry-run")
    assert code == 0, err
    assert shown.split()[0] == "data"
    document = last_json(run("advise", "--rows", 5000, "--tokens", 60, "--labels", 3, "--json")[1])
    assert document["problem"]["rows"] == 5000
    assert "--data FILE" in document["command"]


def test_commands_carry_what_was_set(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    config = DataConfig(file=["a b.csv", "c.csv"], task="text-regression", clean=["html"], text_column="body")
    things: list[dict[str, Any]] = [
        {"level": "set", "option": "data.clean", "value": "duplicates", "why": ""},
        {"level": "set", "option": "data.anonymise", "value": True, "why": ""},
        {"level": "look", "option": "data.clean", "value": "conflicts", "why": ""},
    ]
    assert lines.data_line(config, things) == (
        "edgeft data 'a b.csv' c.csv --task text-regression --text-column body --clean html --clean duplicates "
        "--anonymise --out data"
    )
    advice: list[dict[str, Any]]
    advice = [{"option": "finetune.model", "value": "org/m"}, {"option": "finetune.epochs", "value": 3}]
    assert lines.pipeline_line(config, advice, things) == (
        "edgeft pipeline --data 'a b.csv' --data c.csv --model org/m --set task=text-regression "
        "--set data.text_column=body --set 'data.clean=[html, duplicates]' --set data.anonymise=true "
        "--set finetune.epochs=3"
    )


THINGS: list[dict[str, Any]] = [{"level": "set", "option": "data.balance", "value": "class_weights", "why": ""}]
NASTY = (
    *("yes", "null", "~", "2024-01-20", "#", ",", "'", '"', "a: b", "- a", "-x", "--json", "[a]", '["a"]', "{a: 1}"),
    *("1e3", "0x10", "$HOME", "a\nb", "\t", " a ", "!!int 3", "*a", "&a", "%a", "@a", "...", "---", "=", "a b, c", "é"),
)
TEXTS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1) | st.sampled_from(NASTY)


def read_back(line: str) -> tuple[DataConfig, dict[str, Any]]:
    """The config and the other arguments of a printed `edgeft data` or `edgeft advise`."""
    bound = cli.app.parse_args(shlex.split(line)[1:], exit_on_error=False, print_error=False)[1]
    given = dict(bound.arguments)
    config: DataConfig = given.pop("config", None) or DataConfig()
    files = list(given.pop("files", None) or [])
    assert not (files and config.file)
    return dataclasses.replace(config, file=files or config.file), given


def recipe_back(line: str) -> recipe.Recipe:
    """The recipe of a printed `edgeft pipeline`."""
    given = cli.app.parse_args(shlex.split(line)[1:], exit_on_error=False, print_error=False)[1].arguments
    assert set(given) == {"data", "model", "set"}
    settings = {"data.file": given["data"], "finetune.model": given["model"]}
    return recipe.load(None, settings | recipe.parse_settings(given["set"]))


def listed(config: DataConfig) -> DataConfig:
    """With files in lists, as one file in a list is that file."""
    names = ("file", "validation_file", "test_file")
    files: dict[str, Any]
    files = {name: [value] if isinstance(value := getattr(config, name), str) else value for name in names}
    return dataclasses.replace(config, **files)


@given(TEXTS, TEXTS, TEXTS, st.lists(TEXTS, min_size=1, max_size=3), st.lists(TEXTS, min_size=1, max_size=3))
@example("yes", "#", "2024-01-20", ["a, b.csv", "[c].csv"], ["-d.csv"])
@example("a\nb", "\t", "x" * 200 + " " + "y" * 200, ["-a.csv", "b.csv"], ["null", "1"])
@settings(deadline=None, max_examples=40)
def test_every_printed_value_comes_back(
    column: str, delimiter: str, group: str, files: list[str], tests: list[str]
) -> None:
    config = DataConfig(
        file=files,
        test_file=tests,
        text_column=column,
        label_delimiter=delimiter,
        group_column=group,
        time_column=delimiter,
        validation_from=group,
        clean=["html"],
        anonymise_kinds=["email", "iban"],
        anonymise=True,
        test_fraction=1e-5,
        seed=3,
    )
    wanted = dataclasses.replace(config, balance="class_weights")
    assert listed(read_back(lines.advise_line(config))[0]) == config
    assert listed(read_back(lines.data_line(config, THINGS))[0]) == wanted
    advice: list[dict[str, Any]]
    advice = [{"option": "finetune.model", "value": column}, {"option": "finetune.epochs", "value": 3}]
    found = recipe_back(lines.pipeline_line(config, advice, THINGS))
    assert (listed(found.data), found.finetune.model, found.finetune.epochs) == (wanted, column, 3)


def test_texts_are_quoted_so_that_a_person_can_read_them() -> None:
    assert setting("data.text_column", "yes") == 'data.text_column="yes"'
    assert setting("data.test_file", ["a, b.csv", "c.csv"]) == 'data.test_file=["a, b.csv", "c.csv"]'
    assert setting("data.anonymise", True) == "data.anonymise=true"
    assert "\n" not in setting("data.text_column", "a\nb")


def test_the_folder_that_is_suggested_is_a_new_one(
    run: Any, rows: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data").mkdir()
    rows.rename(tmp_path / "data" / "r.csv")
    command = shlex.split(last_json(run("data", "data/r.csv", "--json")[1])["command"])
    assert command[-2:] == ["--out", "data-2"]
    code, _, err = run(*command[1:])
    assert code == 0, err
    assert lines.data_line(DataConfig(file="a.csv"), []).endswith("--out data-3")
    assert lines.data_line(DataConfig(file="data-3/reviews"), []).endswith("--out data-4")


def test_a_preview_as_json_has_no_text_where_not_everything_can_be_found(
    run: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def absent(*_: Any) -> None:
        raise missing_extra("phonenumbers", "to find phone numbers")

    file = write_csv(tmp_path / "a.csv", [("<p>call (415) 555-0132", "x"), ("<p>or me", "y")], ("text", "label"))
    line = ("data", file, "--clean", "html", "--preview", "2", "--json")
    assert last_json(run(*line)[1])["changes"][0]["before"] == "<p>call [PHONE_1]"
    monkeypatch.setattr(scan, "check_region", absent)
    _, shown, err = run(*line)
    assert "holds no texts" in err
    assert [set(change) for change in last_json(shown)["changes"]] == [{"file", "row", "steps"}] * 2
    assert "0132" not in shown.splitlines()[-1]


def test_advice_counts_the_rows_that_will_train(run: Any, rows: Path) -> None:
    assert last_json(run("advise", rows, "--max-train-rows", "30", "--json")[1])["problem"]["rows"] == 30


def test_labels_that_are_free_text_are_shown_nowhere(run: Any, tmp_path: Path) -> None:
    texts = [(f"text {n}", f"I am Ada, call (415) 555-{n:04} or write to ada{n}@example.com") for n in range(120)]
    file = write_csv(tmp_path / "a.csv", texts, ("text", "label"))
    page = tmp_path / "page.html"
    code, shown, err = run("data", file, "--html", page, "--json")
    assert code == 0
    assert not any(quoted in shown + err + page.read_text(encoding="utf-8") for quoted in ("Ada", "ada3", "555-0003"))
    document = last_json(shown)
    assert document["targets"] == {"unlisted_labels": 120}
    assert [thing["level"] for thing in document["todo"]].count("must") == 1
    assert "120 different labels in 120 rows" in document["todo"][0]["why"]
    assert "--label-column" in document["todo"][0]["why"]
    notes = last_json(run("advise", file, "--json")[1])["notes"]
    assert any("120 different labels" in note for note in notes)

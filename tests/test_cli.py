"""The command line: every bad input is one line with exit code 2 and leaves nothing half-written."""

from __future__ import annotations

import csv
import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from support import last_json, write_csv
from support_processes import edgeft

GOOD = [(f"a {word} film number {index}", word) for index in range(40) for word in ("good", "bad")]


def bad_files(folder: Path) -> dict[str, tuple[bytes, tuple[str, ...]]]:
    """Name -> content of the file, and what the message must say."""
    good = "review,stars\n" + "".join(f"{text},{label}\n" for text, label in GOOD)
    return {
        "missing-column": (good.replace("review", "body").encode(), ("'review'", "'body'", "'stars'")),
        "empty": (b"", ("empty",)),
        "one-label": (b"review,stars\n" + b"fine,good\nbest,good\n" * 20, ("'good'",)),
        "label-once": (good.encode() + b"so so,meh\n", ("'meh'", "row 81")),
        "empty-texts": (good.encode() + b" ,good\n,bad\n", ("81", "82")),
        "not-utf8": (good.encode() + b"caf\xe9,good\n", ("UTF-8", "row 81")),
        "ragged": (good.encode() + b"fine,good,extra\n", ("row 81", "3", "2")),
    }


@pytest.mark.parametrize("case", sorted(bad_files(Path())))
def test_a_bad_file_is_one_line(case: str, run: Any, tmp_path: Path, tiny_model: Path) -> None:
    content, words = bad_files(tmp_path)[case]
    (tmp_path / "rows.csv").write_bytes(content)
    out = tmp_path / "run"
    code, _, err = run(
        *("pipeline", "--data", tmp_path / "rows.csv", "--text-column", "review", "--label-column", "stars"),
        *("--model", tiny_model, "--run-dir", out, "--set", "finetune.max_length=32"),
    )
    lines = [line for line in err.splitlines() if line.startswith("edgeft: ")]
    assert code == 2
    assert len(lines) == 1
    assert "Traceback" not in err
    assert all(word in lines[0] for word in words), lines[0]
    assert not out.exists()


@pytest.fixture
def rows(tmp_path: Path) -> Path:
    return write_csv(tmp_path / "rows.csv", GOOD)


def pipeline_flags(rows: Path, model: object, out: Path) -> list[object]:
    flags = ["pipeline", "--data", rows, "--text-column", "review", "--label-column", "stars"]
    return [*flags, "--model", model, "--run-dir", out, "--set", "finetune.max_length=32"]


def test_all_recipe_errors_at_once(run: Any, rows: Path, tiny_model: Path, tmp_path: Path) -> None:
    code, _, err = run(
        *pipeline_flags(rows, tiny_model, tmp_path / "run"),
        *("--set", "finetune.lerning_rate=1", "--set", "distill.epochs=-1", "--set", "prune.importance=best"),
    )
    assert code == 2
    assert "finetune.lerning_rate: unknown key; did you mean finetune.learning_rate?" in err
    assert "distill.epochs" in err
    assert "taylor, magnitude, random" in err
    assert not (tmp_path / "run").exists()


def test_a_missing_model_and_one_without_tokenizer(run: Any, rows: Path, tiny_model: Path, tmp_path: Path) -> None:
    code, _, err = run(*pipeline_flags(rows, tmp_path / "nowhere", tmp_path / "run"))
    assert (code, err.count("\n")) == (2, 1)
    assert "nowhere" in err
    bare = tmp_path / "bare"
    bare.mkdir()
    for name in ("config.json", "model.safetensors"):
        (bare / name).write_bytes((tiny_model / name).read_bytes())
    code, _, err = run(*pipeline_flags(rows, bare, tmp_path / "run"))
    assert code == 2
    assert "tokenizer" in err
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        ("finetune.max_length=999", "finetune.max_length=999 is more than the model's 64 positions"),
        ("distill.layers=[0,9]", "layer 9 of"),
        ("distill.num_layers=12", "12"),
    ],
)
def test_what_the_model_has_not_is_known_before_the_first_row(
    setting: str, words: str, run: Any, rows: Path, tiny_model: Path, tmp_path: Path
) -> None:
    code, _, err = run(*pipeline_flags(rows, tiny_model, tmp_path / "run"), "--set", setting)
    assert code == 2
    assert words in err
    assert not (tmp_path / "run").exists()


def test_a_broken_tokenizer_is_one_line(run: Any, rows: Path, tiny_model: Path, tmp_path: Path) -> None:
    broken = tmp_path / "broken"
    shutil.copytree(tiny_model, broken)
    (broken / "tokenizer.json").write_text('{"version": "1.0", "model": {}}')
    code, _, err = run(*pipeline_flags(rows, broken, tmp_path / "run"))
    assert (code, err.count("\n")) == (2, 1)
    assert "broken" in err


def test_a_folder_of_somebody_else_is_left_alone(run: Any, rows: Path, tiny_model: Path, tmp_path: Path) -> None:
    mine = tmp_path / "thesis"
    mine.mkdir()
    (mine / "chapter.txt").write_text("years of work")
    code, _, err = run(*pipeline_flags(rows, tiny_model, mine))
    assert code == 2
    assert "is not empty" in err
    assert [path.name for path in mine.iterdir()] == ["chapter.txt"]


def test_an_artifact_that_is_none_and_no_text(run: Any, tmp_path: Path) -> None:
    code, _, err = run("predict", tmp_path / "nothing", "text")
    assert (code, err.count("\n")) == (2, 1)
    assert "no such artifact folder" in err
    assert run("predict", tmp_path)[0] == 2


@pytest.mark.parametrize(
    ("module", "extra"),
    [("jinja2", "report"), ("onnxruntime", "cpu"), ("onnx", "train"), ("torch_pruning", "train"), ("peft", "train")],
)
def test_a_missing_extra_is_named(
    module: str, extra: str, run: Any, rows: Path, tiny_model: Path, tmp_path: Path, monkeypatch: Any
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    code, _, err = run(*pipeline_flags(rows, tiny_model, tmp_path / "run"))
    assert code == 2
    assert f"pip install 'edgeft[{extra}]'" in err
    assert not (tmp_path / "run").exists()


def test_flags_out_of_range_and_unknown_commands(run: Any, tmp_path: Path, tiny_model: Path) -> None:
    data = tmp_path / "data"
    data.mkdir()
    code, _, err = run("finetune", "--data", data, "--out", tmp_path / "o", "--model", tiny_model, "--lora-rank", "0")
    assert code == 2
    assert err.startswith("edgeft: --lora-rank: ")
    code, _, err = run("finetun")
    assert code == 2
    assert err.count("\n") == 1


def test_a_stage_alone_whose_input_is_missing(run: Any, tmp_path: Path) -> None:
    code, _, err = run("distill", "--data", tmp_path / "d", "--teacher", tmp_path / "t", "--out", tmp_path / "o")
    assert code == 2
    assert "input not found" in err
    assert not (tmp_path / "o").exists()


def test_two_processes_do_not_share_a_run_folder(run: Any, rows: Path, tiny_model: Path, tmp_path: Path) -> None:
    import fcntl

    out = tmp_path / "run"
    flags = [*pipeline_flags(rows, tiny_model, out), "--until", "data"]
    assert run(*flags)[0] == 0
    with (out / "run.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        code, _, err = run(*flags)
        assert code == 2
        assert "another process is running there" in err
    assert run(*flags)[0] == 0


def test_files_of_texts(run: Any, rows: Path, real_artifact: Path, tmp_path: Path) -> None:
    code, _, err = run("predict", real_artifact, "--file", rows, "--text-column", "nope")
    assert (code, err.count("\n")) == (2, 1)
    assert "no column 'nope'" in err
    out = tmp_path / "answers.jsonl"
    assert run("predict", real_artifact, "--file", rows, "--text-column", "review", "--out", out)[0] == 0
    answers = [json.loads(line) for line in out.read_text(encoding="utf-8").splitlines()]
    with rows.open(encoding="utf-8", newline="") as opened:
        assert [answer["text"] for answer in answers] == [row["review"] for row in csv.DictReader(opened)]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["answers.jsonl", "rows.csv"]
    asked = answers[-1]["text"]
    assert answers[-1]["predictions"] == last_json(run("predict", real_artifact, asked, "--json")[1])[0]["predictions"]
    (tmp_path / "bad.jsonl").write_text('{"text": "a"}\n{"text": 3}\n')
    (tmp_path / "empty.txt").write_text("")
    for wrong, said in (
        ([asked, "--top-k", 0], "top_k is 0"),
        ([asked, "--batch-size", 0], "batch_size is 0"),
        ([asked, "--out", out, "--json"], "--out and --json"),
        ([asked, "--out", tmp_path / "a.csv"], "name it"),
        ([asked, "--out", tmp_path / "none" / "a.jsonl"], "there is no folder"),
        (["--file", out, "--out", out], "is the file that is read"),
        (["--file", tmp_path / "empty.txt"], "empty.txt has no text"),
        (["--file", tmp_path / "bad.jsonl", "--out", tmp_path / "b.jsonl"], "line 2: 'text' is int"),
    ):
        code, _, err = run("predict", real_artifact, *wrong)
        assert (code, err.count("\n")) == (2, 1)
        assert said in err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["answers.jsonl", "bad.jsonl", "empty.txt", "rows.csv"]
    made = edgeft("predict", real_artifact, "--file", "-", stdin="a fine film\nawful\n")
    assert (made.returncode, made.stdout.count("\n")) == (0, 2)
    lines = tmp_path / "texts.txt"
    lines.write_text("a fine film\n\nawful\n", encoding="utf-8")
    code, shown, _ = run("predict", real_artifact, "--file", lines, "--json")
    assert code == 0
    assert [item["text"] for item in last_json(shown)] == ["a fine film", "", "awful"]
    code, _, err = run("predict", real_artifact.parent, "text")
    assert code == 2
    assert f"did you mean {real_artifact}?" in err


def test_until_and_dry_run(run: Any, rows: Path, tiny_model: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    flags = pipeline_flags(rows, tiny_model, out)
    code, shown, _ = run(*flags, "--dry-run", "--json")
    assert code == 0
    assert list(last_json(shown)) == [
        "data",
        "baseline",
        "finetune",
        "distill",
        "prune",
        "export",
        "calibrate",
        "package",
        "bench",
    ]
    assert not out.exists()
    code, _, err = run(*flags, "--until", "nonsense")
    assert code == 2
    assert "the stages are data, baseline" in err
    code, shown, _ = run(*flags, "--until", "baseline", "--json")
    assert code == 0
    assert list(last_json(shown)["stages"]) == ["data", "baseline"]
    assert last_json(run(*flags, "--dry-run", "--json")[1])["baseline"] == "complete"


def test_recipes_as_commands(run: Any) -> None:
    assert run("recipe", "list")[1].split() == ["demo", "fsdp-qlora", "small"]
    assert "method: qlora" in run("recipe", "show", "demo")[1]
    assert last_json(run("recipe", "schema")[1])["$defs"]["Recipe"]["type"] == "object"
    assert "| `distill.epochs` |" in run("recipe", "docs")[1]


def test_help_imports_nothing_heavy() -> None:
    done = edgeft("--help")
    assert done.returncode == 0
    code = "import sys, edgeft.cli; print([name for name in ('torch', 'transformers', 'numpy') if name in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"

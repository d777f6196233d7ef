"""Every kind from rows to an artifact that is asked, inspected, verified, measured and served; one command each."""

from __future__ import annotations

import contextlib
import io
import json
import time
from pathlib import Path
from typing import Any

import pytest
from litestar.testing import TestClient
from rich.console import Console
from support import last_json
from support_encoders import tiny_encoder
from support_kinds import KINDS, TASKS, columns_of, pair_tokenizer

import edgeft.stage_folder
from edgeft import recipe
from edgeft.pipeline import summary
from edgeft.pipeline.run import run_pipeline
from edgeft.serve import ServeSettings, create_app
from edgeft.train import tasks

QUICK = {
    "finetune.method": "full",
    "finetune.epochs": 2.0,
    "finetune.learning_rate": 3e-3,
    "finetune.max_length": 20,
    "finetune.bootstrap_resamples": 100,
    "export.precision": "fp32",
    "distill.num_layers": 1,
    "distill.epochs": 4.0,
    "distill.learning_rate": 3e-3,
    "prune.max_drop_points": 50.0,
    "bench.queries": 10,
    "bench.warmup": 1,
    "report.mistakes": 3,
}
QUICKLY = ("--seconds", 0.5, "--rounds", 1)
SECONDS = {"multi-label": "subset_accuracy", "regression": "mae", "tokens": "token_accuracy", "squad": "exact_match"}
ASKED: dict[str, Any] = {"squad": {"question": "is the film so", "context": "the great actor is bad"}}
TEXT = "the great actor is bad"


def rows_file(kind: str, path: Path) -> Path:
    columns = columns_of(kind, 100, 0)
    rows = [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]
    path.write_text("\n".join(map(json.dumps, rows)))
    return path


@pytest.fixture(scope="module", params=[kind for kind in KINDS if kind != "single-label"])
def shipped(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, tiny_tokenizer: Any
) -> tuple[str, Path, str]:
    """A kind, its run folder, and what was said on the way."""
    kind, root = request.param, tmp_path_factory.mktemp(request.param)
    tokenizer = pair_tokenizer(tiny_tokenizer) if kind == "squad" else tiny_tokenizer
    model = tiny_encoder("bert", tokenizer, root / "model")
    settings = {**QUICK, "task": TASKS[kind], "data.file": str(rows_file(kind, root / "rows.jsonl"))}
    settings |= {"finetune.model": str(model), "budget": "drop<=50pt"}
    if kind == "multi-label":
        settings |= {"data.multi_label": True, "data.label_column": "labels"}
    said = io.StringIO()
    with contextlib.redirect_stderr(said):
        results = run_pipeline(recipe.load(None, settings), root / "run")
    shown = io.StringIO()
    summary.show(results, root / "run", Console(file=shown, width=200))
    return kind, root / "run", said.getvalue() + shown.getvalue()


def test_the_run_says_its_own_metric_everywhere(shipped: tuple[str, Path, str]) -> None:
    kind, folder, said = shipped
    names = edgeft.load(folder / "artifact").manifest.labels
    lead, second = tasks.task_class(kind).lead_of(names), SECONDS[kind]
    assert f"pipeline: baseline: nothing for {kind} rows, left out" in said
    assert not (folder / "baseline").exists()
    pruned = edgeft.stage_folder.read_result(folder / "prune")
    assert pruned is not None
    assert pruned.metrics["kept"] == 0
    manifest = edgeft.load(folder / "artifact").manifest
    for name in ("teacher", "artifact"):
        assert {lead, second} <= set(manifest.metrics[name])
        assert manifest.metrics[name]["intervals"][lead]["value"] == pytest.approx(manifest.metrics[name][lead])
    assert manifest.metrics["artifact"][lead] == pytest.approx(manifest.metrics["teacher"][lead], abs=0.1)
    card = (folder / "artifact" / "README.md").read_text()
    assert "accuracy |" not in card.replace("token accuracy |", "").replace("subset accuracy |", "")
    assert ("Calibration error" in card) == (kind in ("multi-label", "tokens"))
    page = (folder / "artifact" / "report.html").read_text()
    assert 'id="confusion"' not in page
    assert 'id="bench"' in page
    quality = json.loads((folder / "bench" / "bench.json").read_text())["quality"]
    assert quality[lead] == pytest.approx(manifest.metrics["artifact"][lead])
    assert bool(manifest.latency["against_teacher"]) == (kind != "squad")


def test_the_commands_of_a_device(shipped: tuple[str, Path, str], run: Any, tmp_path: Path) -> None:
    kind, folder, _ = shipped
    made = folder / "artifact"
    model = edgeft.load(made, threads=1)
    code, shown, err = run("inspect", made)
    assert code == 0, err
    assert f"({kind})" in shown
    assert ("read in windows that share 5" in shown) == (kind in ("tokens", "squad"))
    code, shown, err = run("verify", made, "--replay")
    assert code == 0, err
    assert "answers and" in shown
    more = ("--context", TEXT) if kind == "squad" else ()
    asked = ASKED["squad"]["question"] if kind == "squad" else TEXT
    code, shown, err = run("predict", made, asked, *more, "--json")
    assert code == 0, err
    (answered,) = last_json(shown)
    expected = model(ASKED.get(kind, TEXT))
    assert answered["predictions"] == (expected if isinstance(expected, list) else [expected])
    columns = {"question": [asked] * 3, "context": [TEXT] * 3} if kind == "squad" else {"text": [TEXT] * 3}
    table = tmp_path / "rows.csv"
    cells = zip(*columns.values(), strict=True)
    table.write_text("\n".join([",".join(columns), *(",".join(row) for row in cells)]))
    code, _, err = run("predict", made, "--file", table, "--out", tmp_path / "out.jsonl")
    assert code == 0, err
    lines = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    assert [line["predictions"] for line in lines] == [answered["predictions"]] * 3
    assert {name: lines[0][name] for name in columns} == {name: cells[0] for name, cells in columns.items()}
    for given in ((), ("--file", table)):
        code, shown, err = run("bench", made, *given, *QUICKLY, "--scenario", "offline", "--json")
        assert code == 0, err
        assert last_json(shown)["subjects"][0]["offline_texts_per_s"]["8"] > 0


def test_the_server(shipped: tuple[str, Path, str]) -> None:
    kind, folder, _ = shipped
    model: Any = edgeft.load(folder / "artifact", threads=1)
    with TestClient(create_app({"one": model}, ServeSettings())) as client:
        deadline = time.monotonic() + 10
        while client.get("/readyz").status_code != 200:
            assert time.monotonic() < deadline
        (card,) = client.get("/v1/model").json()["models"]
        assert (card["kind"], card["long_texts"]) == (kind, model.long_texts)
        one, many = ({"questions": [ASKED["squad"]] * 2}, ASKED["squad"]) if kind == "squad" else (
            {"texts": [TEXT] * 2}, {"text": TEXT})  # fmt: skip
        expected = model([ASKED.get(kind, TEXT)])
        assert client.post("/v1/predict", json=many).json()["predictions"] == expected
        assert client.post("/v1/predict", json=one).json()["predictions"] == expected * 2
        if "top_k" in model.takes:
            found = client.post("/v1/predict", json={**many, "top_k": 2}).json()["predictions"]
            assert isinstance(found[0], list)
        wrong = {"text": TEXT} if kind == "squad" else {"question": "a", "context": "b"}
        assert "is for other models; this one takes" in client.post("/v1/predict", json=wrong).json()["error"]
        strategy = client.post("/v1/predict", json={**many, "aggregation_strategy": "simple"})
        assert strategy.status_code == (200 if kind == "tokens" else 422)


def test_options_and_inputs_of_another_kind_are_one_line(shipped: tuple[str, Path, str], run: Any) -> None:
    kind, folder, _ = shipped
    made = folder / "artifact"
    if kind == "squad":
        code, _, err = run("predict", made, "is it so")
        assert (code, "a question needs the text in which its answer may stand; give --context" in err) == (2, True)
        code, _, err = run("predict", made, "--file", folder / "run.json")
        assert (code, "a question needs a context beside it; give .jsonl" in err) == (2, True)
    else:
        wrong = ("--top-k", 2) if kind == "tokens" else ("--aggregation-strategy", "first")
        code, _, err = run("predict", made, TEXT, *wrong)
        assert (code, "is no option of" in err) == (2, True)
        code, _, err = run("predict", made, TEXT, "--context", TEXT)
        assert (code, "--context is for question-answering" in err) == (2, True)


def test_exported_embeddings_are_printed_and_served(tiny_model: Path, tmp_path: Path, run: Any) -> None:
    (tmp_path / "texts.txt").write_text("\n".join(columns_of("regression", 8, 0)["text"]))
    export = ("export", "--data", tmp_path / "texts.txt", "--model", tiny_model, "--out", tmp_path / "out")
    code, _, err = run(*export, "--precision", "fp32")
    assert code == 0, err
    assert "has no head, so its embeddings are exported" in err
    model: Any = edgeft.load(tmp_path / "out", threads=1)
    code, shown, _ = run("predict", tmp_path / "out", TEXT, "--json")
    assert code == 0
    assert last_json(shown)[0]["predictions"] == model(TEXT)
    assert run("verify", tmp_path / "out", "--replay")[0] == 0
    assert "pooling mean, width 64" in run("inspect", tmp_path / "out")[1]
    assert run("bench", tmp_path / "out", *QUICKLY)[0] == 0
    with TestClient(create_app({"one": model}, ServeSettings())) as client:
        answer = client.post("/v1/predict", json={"texts": [TEXT, "a"]}).json()["predictions"]
    assert answer == model([TEXT, "a"])

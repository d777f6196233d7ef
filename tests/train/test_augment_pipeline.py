"""`augment.enabled`: the step stands between the teacher and the student, and the student learns from the new rows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support import last_json, write_csv
from tiny_generators import SENTENCES

from edgeft import recipe
from edgeft.data import dataset as datasets
from edgeft.data.prepare import run as prepare
from edgeft.data.read import sources
from edgeft.errors import ModelError, RecipeError
from edgeft.pipeline.preflight import preflight
from edgeft.pipeline.run import run_pipeline
from edgeft.pipeline.stages import in_run, steps
from edgeft.stage_folder import read_result
from edgeft.train.loop.loop import plan

ROWS = [(text, "bad" if "bad" in text or "awful" in text else "good") for text in SENTENCES]


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_csv(tmp_path_factory.mktemp("rows") / "rows.csv", ROWS, ("text", "label"))


def chosen(rows: Path, model: Path, **settings: Any) -> recipe.Recipe:
    options: dict[str, Any] = {
        "data.file": str(rows),
        "baseline.enabled": False,
        "finetune.model": str(model),
        "finetune.method": "full",
        "finetune.learning_rate": 2e-3,
        "finetune.epochs": 6,
        "finetune.max_length": 16,
        "distill.num_layers": 2,
        "distill.epochs": 1,
        "distill.batch_size": 8,
        "prune.epochs": 0.2,
        "prune.max_drop_points": 100,
    }
    named = {name.replace("__", "."): value for name, value in settings.items()}
    return recipe.load(None, options | named)


def test_the_student_learns_from_the_new_rows_and_is_measured_on_the_old_ones(
    rows: Path, tiny_model: Path, tmp_path: Path
) -> None:
    settings = chosen(rows, tiny_model, augment__enabled=True, augment__copies=2)
    results = run_pipeline(settings, tmp_path / "run", until="prune")
    assert list(results) == ["data", "finetune", "augment", "distill", "prune"]
    before, after = (datasets.load(tmp_path / "run" / name) for name in ("data", "augment"))
    count = results["augment"].metrics["train_rows"]
    assert count == {"before": len(before.train), "after": len(after.train)}
    assert len(after.train) > 1.5 * len(before.train)
    for name in ("validation.parquet", "test.parquet"):
        assert (tmp_path / "run" / "data" / name).read_bytes() == (tmp_path / "run" / "augment" / name).read_bytes()
    assert results["distill"].metrics["steps"] == plan(recipe.resolve(settings).distill, len(after.train)).steps
    taught = {len(np.load(path)) for path in (tmp_path / "run" / ".cache").glob("teacher-*/logits.npy")}
    assert taught == {len(after.train)}
    assert results["prune"].inputs["data"] == results["distill"].inputs["data"] == results["augment"].digest
    again = run_pipeline(settings, tmp_path / "run", until="prune")
    assert {name: result.seconds for name, result in again.items()} == {
        name: result.seconds for name, result in results.items()
    }


def test_only_the_stages_that_learn_from_the_teacher_read_the_new_rows(
    rows: Path, tiny_model: Path, tmp_path: Path
) -> None:
    found = {step.name: step for step in steps(chosen(rows, tiny_model, augment__enabled=True), in_run(tmp_path))}
    assert list(found)[:4] == ["data", "finetune", "augment", "distill"]
    assert found["augment"].inputs() == {"data": tmp_path / "data", "teacher": tmp_path / "finetune"}
    read = {name: step.inputs()["data"].name for name, step in found.items() if name != "data"}
    assert {name for name, folder in read.items() if folder == "augment"} == {"distill", "prune"}
    free = chosen(rows, tiny_model, augment__enabled=True, augment__teacher_agrees=False)
    inputs = next(step for step in steps(free, in_run(tmp_path)) if step.name == "augment").inputs()
    assert set(inputs) == {"data"}
    assert "augment" not in [step.name for step in steps(chosen(rows, tiny_model), in_run(tmp_path))]


def test_what_can_not_be_augmented_is_known_before_the_first_row(rows: Path, tiny_model: Path) -> None:
    on: dict[str, Any] = {"augment__enabled": True}
    with pytest.raises(RecipeError, match=r"augment.masked_model: no model for masked_lm"):
        preflight(recipe.resolve(chosen(rows, tiny_model, augment__methods=["masked_lm"], **on)))
    named = {"augment__methods": ["masked_lm"], "augment__masked_model": str(tiny_model)}
    with pytest.raises(ModelError, match=r"BertModel has no masked-language-model head"):
        preflight(recipe.resolve(chosen(rows, tiny_model, **named, **on)))
    with pytest.raises(RecipeError, match=r"multi-label rows can't be augmented yet \(single-label rows can\)"):
        preflight(recipe.resolve(chosen(rows, tiny_model, data__multi_label=True, **on)))
    preflight(recipe.resolve(chosen(rows, tiny_model, **named)))


def test_the_command_alone(rows: Path, tmp_path: Path, run: Any) -> None:
    config = recipe.DataConfig(file=str(rows), seed=0)
    prepare(config, sources.local_files(config), tmp_path / "data")
    code, out, err = run("augment", "--data", tmp_path / "data", "--out", tmp_path / "more", "--copies", 2, "--json")
    assert code == 0, err
    assert "no teacher was given" in err
    assert last_json(out)["metrics"]["train_rows"]["after"] == len(datasets.load(tmp_path / "more").train)
    assert read_result(tmp_path / "more") is not None
    code, out, err = run("augment", "--data", tmp_path / "data", "--out", tmp_path / "table", "--max-rows", 5)
    assert all(word in out for word in ("swap", "deletion", "in evaluation"))
    code, _, err = run("augment", "--data", tmp_path / "data", "--out", tmp_path / "bad", "--methods", "masked_lm")
    assert (code, [line for line in err.splitlines() if line.startswith("edgeft: ")]) == (
        2,
        ["edgeft: augment.masked_model: no model for masked_lm; name a folder or a Hugging Face id"],
    )
    assert not (tmp_path / "bad").exists()

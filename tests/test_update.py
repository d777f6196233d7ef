"""`edgeft update` on a tiny model: what it keeps, what it refuses, what it leaves as it was."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support import TINY_RUN, last_json, up_and_down, write_csv

import edgeft
from edgeft import artifact, recipe
from edgeft.data.dataset import Dataset, load, split_of
from edgeft.errors import GateError, OutputFolderError
from edgeft.pipeline.run import run_pipeline
from edgeft.pipeline.update import compare_teachers
from edgeft.pipeline.update.update_recipe import check_apart
from edgeft.recipe import UpdateConfig
from edgeft.stage_folder import digest, read_result
from edgeft.train.forgetting import REHEARSAL_FRACTION
from edgeft.train.loop import checkpoints
from edgeft.train.metrics import bootstrap
from edgeft.train.metrics.slices import MOST

Rows = list[tuple[str, str]]
Command = Callable[..., tuple[int, str, str]]
ROWS = up_and_down()
OLD, NEW, LATER = ROWS[::3], ROWS[1::3], ROWS[2::3]
COLUMNS = (TINY_RUN["data.text_column"], TINY_RUN["data.label_column"])
TRAINING = {"epochs": 3, "batch_size": 8, "learning_rate": 2e-3}
SETTINGS: dict[str, Any] = {
    **TINY_RUN,
    "data.validation_fraction": 0.2,
    "data.test_fraction": 0.4,
    "baseline.enabled": False,
    **{f"{stage}.{name}": value for stage in ("finetune", "distill") for name, value in TRAINING.items()},
    "budget": "size<=900MB",
}


@pytest.fixture(scope="module")
def first(tmp_path_factory: pytest.TempPathFactory, tiny_model: Path) -> Path:
    """A whole run over the first third of the rows."""
    folder = tmp_path_factory.mktemp("update")
    file = write_csv(folder / "old.csv", OLD)
    chosen = recipe.load(None, {**SETTINGS, "data.file": str(file), "finetune.model": str(tiny_model)})
    run_pipeline(chosen, folder / "run")
    return folder / "run"


@pytest.fixture(scope="module")
def started(first: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same run as far as its teacher, with no artifact."""
    folder = tmp_path_factory.mktemp("started") / "run"
    shutil.copytree(first, folder)
    for name in ("distill", "export", "calibrate", "package", "bench", "artifact"):
        shutil.rmtree(folder / name)
    return folder


def flipped(rows: Rows) -> Rows:
    return [(text, {"up": "down", "down": "up"}[label]) for text, label in rows]


# --------------------------------------------------------------------------------------------------- what it makes


def test_an_update_ends_with_an_artifact_that_knows_both(
    first: Path, tiny_model: Path, tmp_path: Path, run: Command
) -> None:
    before = digest(first)
    file = write_csv(tmp_path / "new.csv", NEW)
    command = ("update", first, "--data", file, "--run-dir", tmp_path / "run", "--budget-drop", 100, "--json")
    code, out, err = run(*command)
    assert code == 0, err
    assert digest(first) == before

    stages = last_json(out)["stages"]
    assert list(stages) == [
        *("data", "finetune", "update", "distill", "export", "calibrate", "package", "bench"),
        *("update_artifact", "artifact"),
    ]
    teacher, shipped = (stages[name]["metrics"] for name in ("update", "update_artifact"))
    counts = stages["data"]["metrics"]["update"]
    for found in (teacher, shipped):
        assert found["rows"]["earlier rows"]["rows"] == counts["test"]["old"]
        assert found["rows"]["new rows"]["rows"] == counts["test"]["new"]
        assert set(found["rows"]) == {"earlier rows", "new rows", "earlier rows, down", "earlier rows, up"}
    own = read_result(first / "finetune")
    assert own is not None
    assert teacher["rows"]["earlier rows"]["before"] == pytest.approx(own.metrics["test"]["accuracy"])
    old = round(REHEARSAL_FRACTION * counts["train"]["old"])
    assert stages["finetune"]["metrics"]["update"]["rehearsed"] == old
    assert "accuracy of the teacher on test rows, before and after" in out
    assert "accuracy of the artifact on test rows, before and after" in out

    model = edgeft.load(tmp_path / "run" / "artifact")
    assert model(["it is a good film"])[0]["label"] in ("up", "down")
    lineage = artifact.read_manifest(tmp_path / "run" / "artifact").lineage
    assert lineage["update"]["artifact"]["rows"] == shipped["rows"]
    assert lineage["teacher"] == str(tiny_model)
    assert f"made by edgeft from `{tiny_model}`" in (tmp_path / "run" / "artifact" / "README.md").read_text()
    report = (tmp_path / "run" / "artifact" / "report.html").read_text()
    assert '<section id="update">' in report
    assert "earlier rows, up" in report
    assert "<b>Within budget</b><ul><li>size&lt;=900MB: measured 0." in report
    assert "accuracy of the artifact" in report

    chosen = recipe.load(str(tmp_path / "run" / "recipe.yaml"))
    assert chosen.update.run == str(first)
    assert chosen.update.max_old_drop_points == 100
    assert chosen.finetune.rehearsal_fraction == REHEARSAL_FRACTION
    assert chosen.data.text_column == COLUMNS[0]

    code, out, err = run(*command)
    assert code == 0
    assert err.count("complete, kept") == len(stages)
    code, out, err = run("pipeline", tmp_path / "run" / "recipe.yaml", "--run-dir", tmp_path / "run", "--dry-run")
    assert code == 0
    assert [line.split()[1] for line in out.splitlines()[:2]] == ["complete", "complete"]


def test_an_artifact_is_compared_through_the_runtime(first: Path) -> None:
    from edgeft.pipeline.update import compare_artifacts

    dataset = load(first / "data")
    right = compare_artifacts.measure_of(first / "artifact", dataset)
    answers = [row["label"] for row in edgeft.load(first / "artifact")(dataset.test.texts)]
    assert right.tolist() == [  # type: ignore[union-attr]
        float(answer == dataset.labels[label]) for answer, label in zip(answers, dataset.test.labels, strict=True)
    ]


def test_an_update_can_be_updated(started: Path, tmp_path: Path, run: Command) -> None:
    files = {name: write_csv(tmp_path / f"{name}.csv", rows) for name, rows in (("new", NEW), ("later", LATER))}
    quick = ("--budget-drop", 100, "--until", "update", "--json")
    assert run("update", started, "--data", files["new"], "--run-dir", tmp_path / "one", *quick)[0] == 0
    code, out, err = run("update", tmp_path / "one", "--data", files["later"], *quick)
    assert code == 0, err
    metrics = last_json(out)["stages"]["data"]["metrics"]
    assert last_json(out)["run_dir"] == str(tmp_path / "one-update")
    one = load(tmp_path / "one" / "data")
    assert metrics["update"]["test"]["old"] == len(one.test)
    two = load(tmp_path / "one-update" / "data")
    assert two.test.texts[: len(one.test)] == one.test.texts
    assert set(two.train.files) == {"old.csv", "new.csv", "later.csv"}


def test_a_killed_update_goes_on_to_the_same_bytes(
    started: Path, tmp_path: Path, run: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = write_csv(tmp_path / "new.csv", NEW)

    def command(name: str) -> tuple[int, str, str]:
        steps = ("--set", "finetune.checkpoint_steps=4", "--until", "finetune")
        return run("update", started, "--data", file, "--run-dir", tmp_path / name, *steps)

    assert command("whole")[0] == 0
    save = checkpoints.save

    def save_and_die(*arguments: Any) -> None:
        save(*arguments)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(checkpoints, "save", save_and_die)
        assert command("killed")[0] == 130
    assert (tmp_path / "killed" / "finetune" / "checkpoints" / "last.pt").exists()
    assert command("killed")[0] == 0
    whole, killed = (read_result(tmp_path / name / "finetune") for name in ("whole", "killed"))
    assert whole is not None
    assert killed is not None
    assert whole.digest == killed.digest


def test_rows_of_several_labels_are_updated_as_far_as_they_can_be_trained(
    tiny_model: Path, tmp_path: Path, run: Command
) -> None:
    def write(name: str, rows: Rows) -> Path:
        found = [{"text": text, "label": [label, "odd"] if len(text) % 2 else [label]} for text, label in rows]
        path = tmp_path / f"{name}.jsonl"
        path.write_text("".join(json.dumps(row) + "\n" for row in found))
        return path

    training = {key: value for key, value in SETTINGS.items() if key.startswith("finetune.")}
    own = {"data.file": str(write("old", OLD)), "data.multi_label": True, "data.test_fraction": 0.4}
    chosen = recipe.load(None, {**training, **own, "finetune.model": str(tiny_model), "baseline.enabled": False})
    run_pipeline(chosen, tmp_path / "run", "finetune")
    more = ("--budget-drop", 100, "--until", "update", "--json")
    code, out, err = run("update", tmp_path / "run", "--data", write("new", NEW), *more)
    assert code == 0, err
    found = last_json(out)["stages"]["update"]["metrics"]
    assert found["metric"] == "micro_f1"
    assert {"earlier rows, odd", "earlier rows, up", "earlier rows, down"} < set(found["rows"])


# ------------------------------------------------------------------------------------------------- what it refuses


def test_poisoned_rows_are_refused_and_nothing_ships(started: Path, tmp_path: Path, run: Command) -> None:
    file = write_csv(tmp_path / "new.csv", flipped(NEW))
    careless = ("finetune.ewc_weight=0", "finetune.rehearsal_fraction=0", "finetune.epochs=6")
    settings = [argument for setting in careless for argument in ("--set", setting)]
    command = ("update", started, "--data", file, "--run-dir", tmp_path / "run", *settings)
    code, _, err = run(*command, "--budget-drop", 0)
    assert code == 1
    line = err.strip().splitlines()[-1]
    assert line.startswith("edgeft: update: accuracy of the teacher on earlier rows")
    assert "at most 0 points may be lost, so nothing ships" in line
    assert not (tmp_path / "run" / "artifact").exists()
    assert not (tmp_path / "run" / "distill").exists()
    code, _, err = run(*command, "--budget-drop", 100, "--until", "update")
    assert code == 0
    assert "finetune: complete, kept" in err


@pytest.fixture
def errors(tmp_path: Path, run: Command) -> Callable[..., str]:
    """The one line of a command that ends with exit code 2 and leaves nothing."""

    def call(*arguments: object) -> str:
        code, out, err = run("update", *arguments)
        assert (code, out) == (2, "")
        assert not (tmp_path / "out").exists()
        return err.strip().splitlines()[-1]

    return call


def test_a_folder_that_is_no_run(started: Path, tmp_path: Path, errors: Callable[..., str]) -> None:
    rest = ("--data", write_csv(tmp_path / "new.csv", NEW), "--run-dir", tmp_path / "out")
    assert "absent: no such folder; an update needs the folder" in errors(tmp_path / "absent", *rest)
    assert "not a run folder of edgeft (run.json is missing)" in errors(started / "data", *rest)
    half = tmp_path / "half"
    shutil.copytree(started, half)
    (half / "finetune" / "stage.json").unlink()
    assert "its stage finetune is not complete" in errors(half, *rest)


def test_a_run_that_forgot_too_much_is_no_start(started: Path, tmp_path: Path, errors: Callable[..., str]) -> None:
    """Its teacher is trained, but its own gate has not passed."""
    refused = tmp_path / "refused"
    shutil.copytree(started, refused)
    text = (refused / artifact.RECIPE).read_text(encoding="utf-8")
    (refused / artifact.RECIPE).write_text(
        recipe.to_yaml(recipe.load(str(refused / artifact.RECIPE), {"update.run": str(started)})), encoding="utf-8"
    )
    assert "run: null" in text
    line = errors(refused, "--data", write_csv(tmp_path / "new.csv", NEW), "--run-dir", tmp_path / "out")
    assert "its stage update is not complete" in line
    # Nor is it a place for an update of a later run: the chain leads back to it.
    with pytest.raises(OutputFolderError, match="which an update leaves as it is"):
        check_apart(refused, started)


def test_rows_that_are_not_new_or_not_known(started: Path, tmp_path: Path, errors: Callable[..., str]) -> None:
    same = write_csv(tmp_path / "same.csv", OLD[:20])
    assert "same.csv: all 20 rows stand in the earlier run already" in errors(
        started, "--data", same, "--run-dir", tmp_path / "out"
    )
    meh = write_csv(tmp_path / "meh.csv", [*NEW, ("so so", "meh")])
    line = errors(started, "--data", meh, "--run-dir", tmp_path / "out")
    assert "label 'meh' (row 145" in line
    assert "an update learns no new label" in line


def test_an_update_does_not_write_into_its_run(started: Path, tmp_path: Path, errors: Callable[..., str]) -> None:
    file = write_csv(tmp_path / "new.csv", NEW)
    for place in (started, started / "more"):
        assert "which an update leaves as it is" in errors(started, "--data", file, "--run-dir", place)


def test_options_of_updates_are_for_updates(first: Path, run: Command, tmp_path: Path) -> None:
    model = ("--model", first / "finetune", "--run-dir", tmp_path / "out", "--data", first.parent / "old.csv")
    columns = ("--text-column", COLUMNS[0], "--label-column", COLUMNS[1])
    for setting, line in (
        ("update.max_old_drop_points=2", "update.max_old_drop_points: there is no update.run"),
        ("finetune.ewc_weight=5", "finetune.ewc_weight: has no effect without earlier rows"),
    ):
        code, _, err = run("pipeline", *model, *columns, "--set", setting)
        assert code == 2
        assert line in err


# ------------------------------------------------------------------------------------------------------- the table


def rows_of(labels: list[int]) -> Dataset:
    names = ["a", "b"]
    columns = {"text": [str(i) for i in range(len(labels))], "label": [names[label] for label in labels]}
    split = split_of(columns, np.arange(len(labels)), names)
    return Dataset(task="text-classification", labels=names, train=split, validation=split, test=split, unlabelled=[])


def test_the_table_by_hand() -> None:
    """25 earlier rows of a, 10 of b, 5 new ones; one row of a and four of b are lost, all new ones are won."""
    dataset = rows_of([0] * 25 + [1] * 10 + [1] * 5)
    before = np.array([1.0] * 35 + [0.0] * 5)
    after = np.array([0.0] + [1.0] * 24 + [0.0] * 4 + [1.0] * 6 + [1.0] * 5)
    table = compare_teachers.compare_parts(dataset, 35, before, after, 1)
    lost = bootstrap.interval(before[:35] - after[:35], 35)
    assert lost is not None
    # the same draws in the same order
    assert table["earlier rows"] == {
        "rows": 35,
        "before": 1.0,
        "after": 30 / 35,
        "change_points": pytest.approx(-100 * 5 / 35),
        "judged": True,
        "answers_lost": 5,
        "level": 0.95,
        "least_loss_points": pytest.approx(100 * lost.low),
    }
    assert 0 < lost.low < 5 / 35
    assert table["new rows"]["change_points"] == 100
    assert table["new rows"]["answers_lost"] == -5
    assert table["earlier rows, a"] == {
        "rows": 25,
        "before": 1.0,
        "after": 0.96,
        "change_points": pytest.approx(-4),
        "judged": True,
        "answers_lost": 1,
        "level": 0.975,
        "least_loss_points": 0,
    }
    assert compare_teachers.describe_losses(table, 14.3) == []
    assert compare_teachers.describe_losses(table, 1)[0] == (
        "earlier rows (35) fell from 1.0000 to 0.8571, by 5 of 35 answers (14.3 points), "
        f"and by at least {100 * lost.low:.1f} points in its 95% interval"
    )
    assert table["earlier rows, b"]["least_loss_points"] == pytest.approx(10)  # a draw with one of the four
    assert len(compare_teachers.describe_losses(table, 9.9)) == 1 + (100 * lost.low > 9.9)
    assert not compare_teachers.describe_losses(
        {"all": table["earlier rows"]}, table["earlier rows"]["least_loss_points"]
    )  # as allowed
    assert compare_teachers.describe_unproved(table, 1) == [
        "earlier rows, a fell from 1.0000 to 0.9600, by 1 of 25 answers (4.0 points): may be chance"
    ]


def test_one_answer_of_32_refuses_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """22 of 32 answers of one label before, 21 after: 3.1 points of a budget of one."""
    dataset = rows_of([0] * 32 + [1] * 32)
    before = np.array([1.0] * 22 + [0.0] * 10 + [1.0] * 32)
    after = np.array([1.0] * 21 + [0.0] * 11 + [1.0] * 32)
    compare_teachers.judge_update(UpdateConfig(run="x"), dataset, 64, before, after, tmp_path, "teacher")
    line = "on earlier rows, a fell from 0.6875 to 0.6562, by 1 of 32 answers (3.1 points): may be chance"
    assert line in " ".join(capsys.readouterr().err.split())


def test_a_part_in_which_losing_everything_proves_nothing_is_listed_and_not_judged(tmp_path: Path) -> None:
    assert compare_teachers.fewest_rows(0.95) == 6
    assert 0.5**6 <= 0.025 < 0.5**5  # by hand: what an interval leaves to chance at one end
    assert (compare_teachers.slice_level(2), compare_teachers.fewest_rows(compare_teachers.slice_level(2))) == (
        0.975,
        7,
    )
    assert compare_teachers.fewest_rows(compare_teachers.slice_level(30)) == 11
    for rows, refused in ((6, False), (7, True)):
        dataset = rows_of([0] * 1500 + [1] * rows)
        before, after = np.ones(1500 + rows), np.array([1.0] * 1500 + [0.0] * rows)
        table = compare_teachers.compare_parts(dataset, len(before), before, after, 1)
        assert table["earlier rows, b"]["judged"] is refused
        assert table["earlier rows, b"]["change_points"] == -100
        assert bool(compare_teachers.describe_losses(table, 1)) is refused
        reasons = [line.rsplit(": ")[-1] for line in compare_teachers.describe_unproved(table, 1)]
        assert reasons == ([] if refused else ["too few rows to judge"])


def refusals(true_loss: float, draws: int) -> int:
    """How many of so many simulated updates of 300 earlier rows with two labels are refused, at a budget of 1 point.

    Three of four answers are right; the update loses 2% of all answers and wins as many, and loses more on top.
    """
    dataset = rows_of([0, 1] * 150)
    refused = 0
    for seed in range(draws):
        rng = np.random.default_rng(seed)
        before = rng.random(300) < 0.75
        kept_right = rng.random(300) >= (0.02 + true_loss) / 0.75
        after = np.where(before, kept_right, rng.random(300) < 0.02 / 0.25)
        table = compare_teachers.compare_parts(dataset, 300, before * 1.0, after * 1.0, 1)
        refused += bool(compare_teachers.describe_losses(table, 1))
    return refused


def test_harmless_updates_pass_and_true_losses_are_caught() -> None:
    assert refusals(0.0, 200) <= 0.05 * 200
    assert refusals(0.06, 50) >= 0.75 * 50


def test_parts_by_value_are_the_most_frequent_ones() -> None:
    found = compare_teachers.index_values([{"a"}, {"a", "b"}, set(), {"b"}, {"b"}])
    assert {value: places.tolist() for value, places in found.items()} == {"b": [1, 3, 4], "a": [0, 1]}
    assert list(found) == ["b", "a"]
    many = compare_teachers.index_values([{str(number)} for number in range(100)] + [{"99"}])
    assert len(many) == MOST
    assert many["99"].tolist() == [99, 100]


def test_a_metric_that_is_undefined_refuses_nothing(tmp_path: Path) -> None:
    dataset = rows_of([0] * 30 + [1] * 30)
    table = compare_teachers.compare_parts(dataset, 60, lambda rows: None, lambda rows: 0.5)
    assert table["earlier rows"]["change_points"] is None
    assert compare_teachers.describe_losses(table, 0) == []
    assert "new rows" not in table


def test_a_refusal_keeps_and_shows_the_figures(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    dataset = rows_of([0] * 30)
    config = UpdateConfig(run="x", max_old_drop_points=2.5)
    with pytest.raises(GateError, match=r"^update: accuracy of the teacher on earlier rows \(30\) fell .* at most 2.5"):
        compare_teachers.judge_update(config, dataset, 30, np.ones(30), np.zeros(30), tmp_path, "teacher")
    assert "update: accuracy of the teacher on earlier rows, a (30): 1.0000 -> 0.0000" in capsys.readouterr().err
    assert json.loads((tmp_path / compare_teachers.FIGURES).read_text())["rows"]["earlier rows"]["after"] == 0
    unset = UpdateConfig(run="x")
    assert (
        compare_teachers.judge_update(unset, dataset, 30, np.ones(30), np.ones(30), tmp_path, "teacher")[
            "max_old_drop_points"
        ]
        == 1
    )

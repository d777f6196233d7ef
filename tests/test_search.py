"""`edgeft search` on a tiny model: what it finds, a kill, several workers, and that the test split decides nothing."""

from __future__ import annotations

import os
import shlex
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import optuna
import pytest
from support import last_json, up_and_down, write_csv
from support_processes import Forked

from edgeft import recipe
from edgeft.errors import OutputFolderError, RecipeError, TrainingError, UserError
from edgeft.pipeline import run as pipeline
from edgeft.recipe import Recipe
from edgeft.report import terminal
from edgeft.search import space, study
from edgeft.search.engine import run_trials, short_name
from edgeft.search.finetuning import run
from edgeft.search.finetuning.objective import STUDY, FinetuningSearch, LookReporter, with_options
from edgeft.search.finetuning.summary import FinetuningSummary
from edgeft.search.folder import search_folder
from edgeft.search.sampling import SeededSampler
from edgeft.search.space import Choices, Range
from edgeft.stage_folder import read_result
from edgeft.train.finetune import run as finetune
from edgeft.train.loop.watch import Watcher, watch_with

SPACE = """
finetune.learning_rate: {low: 1e-6, high: 1e-2, log: true}
finetune.batch_size: [16, 32]
"""
SETTINGS: dict[str, Any] = {
    "seed": 3,
    "data.validation_fraction": 0.25,
    "data.test_fraction": 0.25,
    "finetune.method": "full",
    "finetune.epochs": 1,
    "finetune.max_length": 16,
    "finetune.checkpoint_steps": 2,
    "finetune.learning_rate": 2e-3,
}
Search = Callable[..., FinetuningSummary]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Holds the labelled rows and the space."""
    folder = tmp_path_factory.mktemp("search")
    write_csv(folder / "rows.csv", up_and_down(), ("text", "label"))
    (folder / "space.yaml").write_text(SPACE)
    return folder


@pytest.fixture(scope="module")
def chosen(folder: Path, tiny_model: Path) -> Recipe:
    places = {"data.file": str(folder / "rows.csv"), "finetune.model": str(tiny_model)}
    return recipe.load(None, {**places, **SETTINGS})


@pytest.fixture(scope="module")
def whole(folder: Path, chosen: Recipe) -> FinetuningSummary:
    """A search that nothing disturbed."""
    return run.search(chosen, folder / "space.yaml", folder / "whole", 8)


def command(folder: Path, model: Path, run_dir: Path, trials: int, *further: object) -> list[object]:
    settings = [part for path, value in SETTINGS.items() for part in ("--set", f"{path}={value}")]
    flags = ["--data", folder / "rows.csv", "--model", model, "--space", folder / "space.yaml", "--run-dir", run_dir]
    return ["search", *flags, "--trials", trials, *settings, *further]


def outcomes(found: FinetuningSummary) -> list[tuple[Any, ...]]:
    """Scores to nine digits: a process of its own may sum with another number of threads."""
    scores = [None if row.score is None else round(row.score, 9) for row in found.rows]
    rows = zip(found.rows, scores, strict=True)
    return [(row.number, row.state, score, row.looks, row.options) for row, score in rows]


def open_empty(folder: Path, pruner: str) -> optuna.Study:
    return study.open_study(folder, STUDY, SeededSampler(0), study.make_pruner(pruner), ["maximize"])


def opened(folder: Path) -> optuna.Study:
    return optuna.load_study(study_name=STUDY, storage=f"sqlite:///{folder / study.STORAGE}")


# ------------------------------------------------------------------------------------------------------ what it finds


def test_the_best_completed_trial_wins_and_alone_keeps_its_model(whole: FinetuningSummary) -> None:
    assert [row.number for row in whole.rows] == list(range(8))
    done = [row for row in whole.rows if row.state == "complete"]
    assert whole.best.score == max(row.score or 0.0 for row in done)
    assert {path.name for path in (whole.folder / "trials").iterdir()} == {f"{whole.best.number:04d}"}
    result = read_result(whole.model)
    assert result is not None
    assert whole.validation == result.metrics["validation"]
    assert whole.test == result.metrics["test"]
    assert whole.best.score == pytest.approx(whole.validation["accuracy"], abs=1e-5)


def test_hopeless_trials_end_early_and_leave_nothing(whole: FinetuningSummary) -> None:
    pruned = [row for row in whole.rows if row.state == "pruned"]
    assert pruned
    for row in pruned:
        assert row.number >= 5
        assert row.looks < max(other.looks for other in whole.rows)
        assert not (whole.folder / "trials" / f"{row.number:04d}").exists()
        # Of the completed trials, half were better at that look.
        there = opened(whole.folder).trials
        scores = sorted(
            trial.intermediate_values[row.looks]
            for trial in there[: row.number]
            if trial.state == optuna.trial.TrialState.COMPLETE and row.looks in trial.intermediate_values
        )
        assert (row.score or 0.0) < scores[len(scores) // 2]


def test_the_search_starts_at_the_recipe_and_stays_in_the_space(whole: FinetuningSummary) -> None:
    assert whole.rows[0].options == {"finetune.learning_rate": 2e-3, "finetune.batch_size": 16}
    assert len({row.options["finetune.learning_rate"] for row in whole.rows}) == 8
    assert all(1e-6 <= row.options["finetune.learning_rate"] <= 1e-2 for row in whole.rows)
    assert {row.options["finetune.batch_size"] for row in whole.rows} == {16, 32}


def test_the_best_recipe_reads_back_and_makes_the_same_model(
    whole: FinetuningSummary, chosen: Recipe, tmp_path: Path
) -> None:
    base = recipe.resolve(chosen)
    expected = replace(
        base,
        finetune=replace(base.finetune, **{short_name(path): value for path, value in whole.best.options.items()}),
    )
    loaded = recipe.load(str(whole.recipe))
    assert loaded == expected == recipe.resolve(loaded)
    assert {state for _, state in pipeline.plan(loaded, tmp_path / "run")} == {
        "would run"
    }  # a recipe that a pipeline takes
    inputs = {"data": whole.folder / "data", "model": Path(loaded.finetune.model or "")}
    again, kept = finetune(loaded.finetune, inputs, tmp_path / "again"), read_result(whole.model)
    assert kept is not None
    assert (again.key, again.digest) == (kept.key, kept.digest)


def test_the_table_and_the_page_show_every_trial(whole: FinetuningSummary, capsys: pytest.CaptureFixture[str]) -> None:
    from edgeft.cli.app import stdout

    terminal.show(whole.report(), stdout())
    shown = capsys.readouterr().out
    assert f"best: trial {whole.best.number}, validation accuracy" in shown
    assert f"edgeft pipeline {whole.recipe}" in shown
    assert shown.count("pruned") == sum(row.state == "pruned" for row in whole.rows)
    assert sum(whole.importance.values()) == pytest.approx(1.0)
    assert max(whole.importance, key=lambda path: whole.importance[path]) == "finetune.learning_rate"
    page = whole.page.read_text(encoding="utf-8")
    assert page.count("<svg") == 3
    assert page.count('<th scope="row" dir="auto">') == len(whole.rows) + len(whole.importance)
    assert "http://" not in page.replace("http://www.w3.org", "")


def test_more_trials_are_added_to_those_that_are_there(whole: FinetuningSummary, chosen: Recipe, folder: Path) -> None:
    again = run.search(chosen, folder / "space.yaml", folder / "whole", 8)
    assert outcomes(again) == outcomes(whole)
    assert again.page.read_bytes() == whole.page.read_bytes()


# -------------------------------------------------------------------------------------------- a kill, several workers


def test_a_search_that_was_killed_goes_on_as_if_it_had_not_been(
    whole: FinetuningSummary, chosen: Recipe, folder: Path, tiny_model: Path
) -> None:
    there = folder / "killed"
    checkpoint = there / "trials" / "0001" / "checkpoints" / "last.pt"
    with Forked(*command(folder, tiny_model, there, 4)) as process:
        process.wait_until(checkpoint.exists)
        process.kill()
    states = [trial.state.name for trial in opened(there).trials]
    assert states[:2] == ["COMPLETE", "RUNNING"]
    found = run.search(chosen, folder / "space.yaml", there, 4)
    assert outcomes(found) == outcomes(whole)[:4]


def test_a_kill_after_the_training_and_before_the_study_knew(
    chosen: Recipe, folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def die(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(optuna.Study, "tell", die)
        with pytest.raises(KeyboardInterrupt):
            run.search(chosen, folder / "space.yaml", folder / "late", 1)
    before = read_result(folder / "late" / "trials" / "0000")
    assert before is not None
    capsys.readouterr()
    found = run.search(chosen, folder / "space.yaml", folder / "late", 1)
    assert "finetune: complete, kept" in capsys.readouterr().err
    assert read_result(found.model) == before
    assert [row.state for row in found.rows] == ["complete"]


def test_workers_share_one_study_with_whoever_else_joins(chosen: Recipe, folder: Path, tiny_model: Path) -> None:
    there = folder / "together"
    with Forked(*command(folder, tiny_model, there, 6, "--workers", 2, "--json")) as process:
        process.wait_until(lambda: any("search: trial" in log.read_text() for log in there.glob("workers/*.log")))
        found = run.search(chosen, folder / "space.yaml", there, 6)  # the same command in another terminal
        assert process.wait() == 0, process.stderr
        theirs = last_json(process.stdout)
    assert len(theirs["trials"]) == len(found.rows) == 6
    ended = opened(there).trials
    assert all(trial.state.is_finished() for trial in ended)
    assert len({trial.params["finetune.learning_rate"] for trial in ended}) == 6
    logs = [path.read_text() for path in (there / "workers").iterdir()]
    assert len(logs) == 2
    assert any("search: trial" in log for log in logs)
    best = max((trial for trial in ended if trial.value is not None), key=lambda trial: (trial.value, -trial.number))
    assert theirs["best"]["number"] == best.number or found.best.number == best.number
    assert [path.name for path in (there / "trials").iterdir()] == [f"{best.number:04d}"]


def test_a_trial_belongs_to_one_process_until_that_ends(folder: Path, tmp_path: Path) -> None:
    options = space.Range(0.0, 1.0, False, None, False)
    where = {"finetune.weight_decay": options}
    made = open_empty(tmp_path, "none")
    first = study.claim(made, tmp_path, where, 2)
    second = study.claim(made, tmp_path, where, 2)
    assert first is not None
    assert second is not None
    assert study.claim(made, tmp_path, where, 2) is None
    second.lock.close()  # as the system does for a process that died
    taken = study.claim(made, tmp_path, where, 2)
    assert taken is not None
    assert (taken.trial.number, taken.trial.params) == (1, second.trial.params)
    assert study.claim(made, tmp_path, where, 2) is None


@pytest.mark.parametrize(("name", "hopeless_from"), [("median", 5), ("halving", 2), ("none", None)])
def test_a_pruner_ends_what_is_below_the_others(name: str, hopeless_from: int | None, tmp_path: Path) -> None:
    """Trials of four looks; each is worse than the one before.

    Halving learns from the first trial how long a training is, and compares from the second one on.
    """
    where = {"finetune.weight_decay": Range(0.0, 1.0, False, None, False)}
    made = open_empty(tmp_path, name)
    ended_at: list[int | None] = []
    for number in range(8):
        claim = study.claim(made, tmp_path, where, 8)
        assert claim is not None
        for look in (1, 2, 3, 4):
            claim.trial.report(0.9 - 0.1 * number, look)
            if claim.trial.should_prune():
                break
        made.tell(claim.trial, 0.9 - 0.1 * number)
        ended_at.append(look if look < 4 else None)
        claim.lock.close()
    first = next((number for number, look in enumerate(ended_at) if look), None)
    assert first == hopeless_from


def test_workers_end_with_the_process_that_started_them(whole: FinetuningSummary, chosen: Recipe, folder: Path) -> None:
    where = space.read(folder / "space.yaml", recipe.resolve(chosen))
    search = FinetuningSearch(
        base=recipe.resolve(chosen),
        space=where,
        folder=whole.folder,
        trials=100,
        pruner="none",
        parent=os.getppid() + 1,
    )
    assert search.is_orphaned()
    assert not replace(search, parent=os.getppid()).is_orphaned()
    assert not replace(search, parent=None).is_orphaned()
    run_trials(search)  # takes no trial
    assert len(opened(whole.folder).trials) == 8
    with pytest.raises(KeyboardInterrupt):
        LookReporter(cast(optuna.Trial, opened(whole.folder).trials[0]), set(), search).on_step(1, {})


# ----------------------------------------------------------------------------------------------- what must not decide


def test_the_test_split_decides_nothing(chosen: Recipe, folder: Path, tmp_path: Path) -> None:
    found = []
    rows = up_and_down()[:40]
    for name, swap in (("true", {}), ("swapped", {"up": "down", "down": "up"})):
        file = write_csv(
            tmp_path / f"{name}.csv", [(f"{text} x", swap.get(a, a)) for text, a in rows], ("text", "label")
        )
        data = replace(chosen.data, test_file=str(file))
        found.append(run.search(replace(chosen, data=data), folder / "space.yaml", tmp_path / name, 2))
    true, swapped = found
    assert outcomes(true) == outcomes(swapped)
    assert true.best.options == swapped.best.options
    assert true.test["accuracy"] == pytest.approx(1 - swapped.test["accuracy"])


# ------------------------------------------------------------------------------------------------------------- errors


def test_options_that_do_not_go_together_fail_their_trial_alone(
    chosen: Recipe, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from edgeft.cli.app import stdout

    file = tmp_path / "space.yaml"
    file.write_text("finetune.method: [full, head]\nfinetune.freeze_layers: [0, 9]\n")
    reporting = replace(chosen, finetune=replace(chosen.finetune, report_to=["tensorboard"]))
    found = run.search(reporting, file, tmp_path / "run", 4)
    failed = [row for row in found.rows if row.state == "failed"]
    assert failed
    assert all(row.options["finetune.freeze_layers"] == 9 and row.score is None for row in failed)
    assert found.best.options["finetune.freeze_layers"] == 0
    terminal.show(found.report(), stdout())
    assert f"trial {failed[0].number} failed: finetune.freeze_layers" in capsys.readouterr().out
    # Of a completed trial that isn't the best, the trackers' logs stay.
    others = [row.number for row in found.rows if row.state == "complete" and row != found.best]
    assert others
    for number in others:
        assert [path.name for path in (tmp_path / "run" / "trials" / f"{number:04d}").iterdir()] == ["logs"]

    file.write_text("finetune.freeze_layers: [8, 9]\n")
    with pytest.raises(TrainingError, match=r"^none of the 2 trials was completed: finetune.freeze_layers"):
        run.search(chosen, file, tmp_path / "none", 2)


def test_every_problem_of_a_space_at_once(chosen: Recipe, tmp_path: Path) -> None:
    file = tmp_path / "space.yaml"
    file.write_text(
        """
finetune.lora_rnk: [4, 8]
distill.epochs: [1, 2]
finetune.seed: [1, 2]
finetune.method: [full, lara]
finetune.schedule: {low: 1, high: 2}
finetune.batch_size: {low: 8, high: 16, step: 2.5}
finetune.epochs: {low: 0, high: 2, stp: 1}
finetune.learning_rate: {low: 1e-3, high: 1e-5, log: true}
finetune.weight_decay: {low: 0, high: 0.1, log: true}
finetune.max_length: [32]
finetune.lora_alpha: 16
finetune.warmup_fraction: {low: 0.1}
finetune.freeze_layers: [1, 1]
"""
    )
    with pytest.raises(RecipeError) as caught:
        space.read(file, chosen)
    lines = str(caught.value).splitlines()
    assert all(line.startswith(f"{file}: finetune.") or line.startswith(f"{file}: distill.") for line in lines)
    said = [line.removeprefix(f"{file}: ") for line in lines]
    assert said == [
        "finetune.lora_rnk: unknown option; did you mean finetune.lora_rank?",
        "distill.epochs: only options of finetune are searched as yet; set it once with --set distill.epochs=VALUE",
        "finetune.seed: is not searched: that would choose the luckiest seed",
        said[3],
        "finetune.schedule: is no number, so it has choices, as in [one, two], and no range",
        "finetune.batch_size.step: expected a positive int, not 2.5",
        "finetune.epochs.stp: unknown key; did you mean step?",
        said[7],
        "finetune.learning_rate: low 0.001 must be less than high 1e-05",
        "finetune.weight_decay: log needs low above 0, not 0",
        "finetune.max_length: 1 choices leave nothing to search; give two, or use --set",
        "finetune.lora_alpha: expected a list of choices, or low and high; one value, 16, goes in --set",
        "finetune.warmup_fraction: a range needs low and high; high not given",
        "finetune.freeze_layers: a choice stands there twice",
    ]
    assert said[3].startswith("finetune.method: expected one of the choices, not 'lara'; one of full, head")
    assert said[7].startswith("finetune.epochs: expected `float` > 0")


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("[1, 2]", "expected option paths, as in finetune.lora_rank"),
        ("", "expected option paths"),
        ("a: [", "not YAML"),
    ],
)
def test_a_file_that_is_no_space(text: str, line: str, chosen: Recipe, tmp_path: Path) -> None:
    (tmp_path / "space.yaml").write_text(text)
    with pytest.raises(RecipeError, match=line):
        space.read(tmp_path / "space.yaml", chosen)
    with pytest.raises(RecipeError, match=r"^--space .*nowhere.yaml: can't be read \(No such file"):
        space.read(tmp_path / "nowhere.yaml", chosen)


def test_values_are_read_as_the_recipe_reads_them(chosen: Recipe, tmp_path: Path) -> None:
    file = tmp_path / "space.yaml"
    file.write_text(
        "finetune.learning_rate: [1e-4, 1e-3]\n"
        "finetune.gradual_unfreezing: [true, false]\n"
        "finetune.epochs: {low: 1, high: 3, step: 1}\n"
        "finetune.lora_rank: {low: 4, high: 64, log: true}\n"
    )
    assert space.read(file, chosen) == {
        "finetune.learning_rate": Choices((1e-4, 1e-3)),
        "finetune.gradual_unfreezing": Choices((True, False)),
        "finetune.epochs": Range(1.0, 3.0, False, 1.0, False),
        "finetune.lora_rank": Range(4, 64, True, 1, True),
    }
    assert Range(1.0, 3.0, False, 0.5, False).contains(2.5)
    assert not Range(1.0, 3.0, False, 0.5, False).contains(2.4)
    assert not Range(1.0, 3.0, False, None, False).contains(None)
    assert not Choices((True, False)).contains(1)


def assert_the_way_on(there: Path) -> None:
    """It is said where --set can say it, and not of what one of two editions of edgeft doesn't know."""
    with search_folder(there, {"seed": 5, "finetune": {"model": "it's", "epochs": 1.0}}):
        pass
    with pytest.raises(OutputFolderError) as raised:
        enter(there, {"seed": 6, "finetune": {"model": "b", "epochs": 1.0}})
    words = shlex.split(str(raised.value).partition("or go on with it by ")[2])
    assert words[::2] == ["--set", "--set"]
    assert recipe.parse_settings(words[1::2]) == {"seed": 5, "finetune.model": "it's"}
    for other in ({"model": "b", "epochs": 1.0, "new": 1}, {"model": "b"}):
        with pytest.raises(OutputFolderError, match=r"give another --run-dir$"):
            enter(there, {"seed": 5, "finetune": other})


def enter(there: Path, definition: dict[str, Any]) -> None:
    with search_folder(there, definition):
        raise AssertionError("the folder was taken up")


def test_a_folder_is_one_search_s_own(whole: FinetuningSummary, chosen: Recipe, folder: Path, tmp_path: Path) -> None:
    file = folder / "space.yaml"
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("years of work")
    with pytest.raises(OutputFolderError, match=r"mine is not empty and is not a search of edgeft"):
        run.search(chosen, file, tmp_path / "mine", 2)
    assert (tmp_path / "mine" / "thesis.txt").exists()
    other = replace(chosen, finetune=replace(chosen.finetune, epochs=2.0))
    with pytest.raises(OutputFolderError, match=r"another search \(finetune.epochs 1.0 -> 2.0\); give another --run"):
        run.search(other, file, whole.folder, 9)
    assert_the_way_on(tmp_path / "way")
    reporting = replace(chosen, finetune=replace(chosen.finetune, report_to=["tensorboard"]))
    assert outcomes(run.search(reporting, file, whole.folder, 8)) == outcomes(whole)
    rows = write_csv(tmp_path / "rows.csv", up_and_down(), ("text", "label"))
    moved = replace(chosen, data=replace(chosen.data, file=str(rows)))
    run.search(moved, file, tmp_path / "run", 1)
    write_csv(rows, up_and_down()[:-1], ("text", "label"))
    with pytest.raises(OutputFolderError, match=r"rows.csv changed since the search in .* began"):
        run.search(moved, file, tmp_path / "run", 2)


@pytest.mark.parametrize(
    ("settings", "line"),
    [
        ({"finetune.processes": 2}, "a trial is one process"),
        ({"update.run": "earlier"}, "a search is over a training of its own"),
    ],
)
def test_what_a_trial_can_not_do_is_refused(
    settings: dict[str, Any], line: str, folder: Path, tiny_model: Path, tmp_path: Path
) -> None:
    places = {"data.file": str(folder / "rows.csv"), "finetune.model": str(tiny_model)}
    with pytest.raises(UserError, match=line):
        run.search(recipe.load(None, {**places, **SETTINGS, **settings}), folder / "space.yaml", tmp_path / "run", 2)


def test_loras_options_follow_the_method(chosen: Recipe, folder: Path, tmp_path: Path) -> None:
    file = tmp_path / "space.yaml"
    file.write_text("finetune.lora_rank: [4, 8]\n")
    with pytest.raises(UserError, match=r"^finetune.lora_rank: does nothing for method full; take it out of the space"):
        run.search(chosen, file, tmp_path / "run", 2)
    for methods, line in (
        ("full, head", "finetune.lora_rank: does nothing for method full and head"),
        ("lora, prefix", "finetune.method=prefix: can't be merged into a plain model"),
    ):
        file.write_text(f"finetune.lora_rank: [4, 8]\nfinetune.method: [{methods}]\n")
        with pytest.raises(UserError, match=f"^{line}"):
            run.search(chosen, file, tmp_path / "run", 2)
    file.write_text("finetune.lora_rank: [4, 8]\nfinetune.method: [full, lora]\n")
    tried = {"finetune.method": "full", "finetune.lora_rank": 4}
    assert with_options(chosen, tried).finetune == replace(chosen.finetune, method="full")
    assert with_options(chosen, {**tried, "finetune.method": "lora"}).finetune.lora_rank == 4
    ranked = replace(chosen, finetune=replace(chosen.finetune, lora_rank=4))
    run._preflight(ranked, space.read(file, ranked))  # a trial of LoRA reads the rank, one in full leaves it


def test_rows_that_can_not_ship_can_be_searched(folder: Path, tiny_model: Path, tmp_path: Path) -> None:
    places = {"data.file": str(folder / "rows.csv"), "finetune.model": str(tiny_model), "data.multi_label": True}
    found = run.search(recipe.load(None, {**places, **SETTINGS}), folder / "space.yaml", tmp_path / "run", 1)
    assert found.metric == "micro_f1"
    assert found.best.score == pytest.approx(found.validation["micro_f1"], abs=1e-3)


def test_an_error_before_the_first_trial_leaves_no_folder(chosen: Recipe, folder: Path, tmp_path: Path) -> None:
    wrong = replace(chosen, data=replace(chosen.data, label_column="stars"))
    with pytest.raises(UserError, match="stars"):
        run.search(wrong, folder / "space.yaml", tmp_path / "run", 2)
    assert not (tmp_path / "run").exists()


def test_a_trial_that_stops_by_hand_is_not_counted(chosen: Recipe, folder: Path, tmp_path: Path) -> None:
    class Hand(Watcher):
        def on_step(self, step: int, values: Any) -> None:
            if step == 3:
                raise KeyboardInterrupt

    with watch_with(Hand()), pytest.raises(KeyboardInterrupt):
        run.search(chosen, folder / "space.yaml", tmp_path / "run", 1)
    assert [trial.state.name for trial in opened(tmp_path / "run").trials] == ["RUNNING"]
    found = run.search(chosen, folder / "space.yaml", tmp_path / "run", 1)
    assert [row.state for row in found.rows] == ["complete"]


def test_the_command_checks_its_numbers(run: Any, tmp_path: Path) -> None:
    code, _, err = run("search", "--trials", 0, "--space", tmp_path / "space.yaml")
    assert code == 2
    assert "trials" in err
    code, _, err = run("search", "--trials", 2, "--space", tmp_path / "space.yaml")
    assert code == 2
    assert err.count("\n") == 1


def test_latencies_of_another_machine_are_refused_with_the_remedy(tmp_path: Path) -> None:
    here = {"processor": "A", "cores": 2, "instruction_sets": ["avx2"]}
    there = here | {"processor": "B", "instruction_sets": ["avx2", "avx512f"]}
    folder = tmp_path / "search"
    with search_folder(folder, {"seed": 5, "machine": there}, "--out"):
        pass
    with pytest.raises(OutputFolderError) as caught, search_folder(folder, {"seed": 5, "machine": here}, "--out"):
        pass
    assert "holds latencies of another machine (processor B -> A, instruction_sets " in str(caught.value)
    assert "give another --out, in which all is measured anew" in str(caught.value)
    with search_folder(folder, {"seed": 5, "machine": there}, "--out"):
        pass


def test_a_search_of_an_earlier_release_names_no_machine_and_goes_on(tmp_path: Path) -> None:
    with search_folder(tmp_path / "search", {"seed": 5}, "--out"):
        pass
    with search_folder(tmp_path / "search", {"seed": 5, "machine": {"cores": 2}}, "--out"):
        pass


def test_a_search_for_a_budget_says_on_which_machine_it_is(tmp_path: Path) -> None:
    from types import SimpleNamespace

    from edgeft.runtime.machine import host
    from edgeft.search.budgeted.run import define

    search: Any = SimpleNamespace(base=recipe.load(None), run=tmp_path, space={})
    assert define(search)["machine"] == host.identity()

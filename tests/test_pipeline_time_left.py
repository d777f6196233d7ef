"""What a run says of itself as a whole: the stage, and about how long is left, as soon as that can be known."""

from __future__ import annotations

import time
from typing import Any

import pytest

from edgeft import recipe
from edgeft.models import model_facts
from edgeft.pipeline.time_left import RunProgress
from edgeft.progress import Bar, about, part_of
from edgeft.search.engine import describe_options
from edgeft.stage_folder import StageResult

NAMES = ["data", "finetune", "distill", "export", "artifact"]
ROWS = {"train": 1000, "validation": 100, "test": 100, "unlabelled": 0}
SETTINGS: dict[str, Any] = {
    "finetune.model": "given",
    "finetune.epochs": 2,
    "distill.epochs": 4,
    "distill.num_layers": 3,
}


def result(stage: str, seconds: float = 0.0, **metrics: Any) -> StageResult:
    about: dict[str, Any] = {"key": "", "config": {}, "inputs": {}, "digest": "", "versions": {}, "seed": 0}
    return StageResult(stage=stage, seconds=seconds, metrics=metrics, **about)


@pytest.fixture
def progress(monkeypatch: pytest.MonkeyPatch) -> RunProgress:
    """A run over a teacher of six layers."""
    monkeypatch.setattr(
        model_facts, "read_facts", lambda source: model_facts.Facts(kind="bert", layers=6, positions=64)
    )
    return RunProgress(recipe.resolve(recipe.load(None, SETTINGS)), NAMES)


def test_nothing_is_said_of_the_time_before_a_training_has_been_timed(
    progress: RunProgress, capsys: pytest.CaptureFixture[str]
) -> None:
    progress.begin("data")
    progress.end("data", result("data", 1.0, rows=ROWS))
    progress.begin("finetune")
    assert capsys.readouterr().err == "stage 1 of 5: data\nstage 2 of 5: finetune\n"
    assert progress.left("finetune", 2, 125, 60.0) == ""  # too few steps
    assert progress.left("finetune", 9, 1000, 10.0) == ""  # too small a share
    assert progress.left("finetune", 9, 1000, 40.0) != ""
    assert progress.left("another bar", 50, 125, 60.0) == ""


def test_the_estimate_by_hand(progress: RunProgress, capsys: pytest.CaptureFixture[str]) -> None:
    """Fine-tuning is 6 layers x (3 x 2 x 1000 + 4 x 200) = 40,800 units; at 408 s, a unit takes 10 ms."""
    progress.begin("data")
    progress.end("data", result("data", 1.0, rows=ROWS))
    progress.begin("finetune")
    # Distilling: 6 x 1000 for the teacher's outputs + 3 x (3 x 4 x 1000 + 800) = 44,400 units, 444 s.
    # Export: 12 s + 3 x 200 rows x the student's 60 ms (a text alone takes the teacher 2 x 60 ms, the runtime half
    # of it, half the layers) = 12 + 18 s; artifact: 3 + 6 s. With 204 s of fine-tuning to go: 687 s.
    assert progress.left("finetune", 50, 100, 204.0) == "about 11 min left"
    progress.end("finetune", result("finetune", 408.0, latency_ms=120.0))
    progress.begin("distill")
    assert progress.pace_s == pytest.approx(0.01)
    assert capsys.readouterr().err.splitlines()[-1] == "stage 3 of 5: distill, about 8 min left"
    progress.end("distill", result("distill", 44.4))
    progress.begin("export")
    assert capsys.readouterr().err.splitlines()[-1] == "stage 4 of 5: export, less than a minute left"


def test_what_an_earlier_run_left_takes_no_time_until_something_is_computed_again(progress: RunProgress) -> None:
    done = {name: result(name, 500.0, rows=ROWS) for name in ("data", "finetune", "distill")}
    progress.before = done
    for name in ("data", "finetune"):
        progress.begin(name)
        progress.end(name, done[name])
    assert progress.seconds("distill", progress.pace_s) == 0
    progress.end("finetune", result("finetune", 400.0))
    assert progress.seconds("distill", progress.pace_s) == pytest.approx(435, abs=1)


def test_a_stage_of_unknown_length_ahead_is_no_reason_to_guess(
    monkeypatch: pytest.MonkeyPatch, progress: RunProgress
) -> None:
    progress.names = ["data", "finetune", "augment", "distill", "export", "artifact"]
    progress.begin("data")
    progress.end("data", result("data", 1.0, rows=ROWS))
    progress.begin("finetune")
    assert progress.left("finetune", 50, 100, 204.0) == ""


def test_lengths_of_time() -> None:
    said = [about(seconds) for seconds in (3, 59, 65, 700, 5000, 9000)]
    assert said == ["less than a minute"] * 2 + ["about 1 min", "about 12 min", "about 83 min", "about 2.5 h"]


def test_a_bar_says_where_the_whole_run_stands(
    progress: RunProgress, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    progress.begin("data")
    progress.end("data", result("data", 1.0, rows=ROWS))
    progress.begin("finetune")
    monkeypatch.setattr("edgeft.progress.PLAIN_SECONDS", -1.0)
    with part_of(progress), Bar("finetune", 100) as bar:
        bar.resume(40)  # by a process that was killed: no pace of this one
        bar.advance()
        bar._begun = time.monotonic() - 102
        bar._looked = -1e9
        bar.show("loss 0.31, best accuracy 0.8400 on validation")
        bar.advance(29)
    assert (
        "finetune: 70/100 loss 0.31, best accuracy 0.8400 on validation (stage 2 of 5, about "
        in capsys.readouterr().err
    )
    with Bar("finetune", 1) as bar:
        bar.advance()
    assert "stage" not in capsys.readouterr().err


def test_a_trial_is_named_by_what_differs() -> None:
    base = recipe.resolve(recipe.load(None, {"finetune.epochs": 2, "distill.num_layers": 3}))
    assert describe_options(base, {"finetune.epochs": 2.0, "distill.num_layers": 3}) == "the recipe itself"
    assert describe_options(base, {"finetune.epochs": 2.0, "distill.num_layers": 1}) == "distill.num_layers 1"
    assert describe_options(base, {"finetune.learning_rate": 3e-5}) == "finetune.learning_rate 3e-05"

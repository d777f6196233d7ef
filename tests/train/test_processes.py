"""Two real processes on gloo: the same loss as one, resumable, started by torchrun, accelerate or the recipe.

Where it doesn't matter who starts them, they are forked with torch already imported.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch
from support_processes import Forked, together
from tiny_language import data_folder, language_folder, pairs_folder

from edgeft.data.prepare import run as prepare
from edgeft.errors import TrainingError, UserError
from edgeft.models.model_folder import load_classifier
from edgeft.pipeline import launch
from edgeft.pipeline.stages import stage_of
from edgeft.recipe import BaselineConfig, DataConfig, FinetuneConfig
from edgeft.stage_folder import read_result
from edgeft.train.baseline import run as baseline
from edgeft.train.loop.processes import Processes

WORDS = ("good", "bad", "fine", "awful", "great", "poor")
TORCHRUN = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2")
ACCELERATE = ("-m", "accelerate.commands.launch", "--cpu", "--num_processes", "2", "--num_machines", "1")
PLAIN = ("--mixed_precision", "no", "--dynamo_backend", "no")
# 216 training rows, of which a batch of 15 leaves an odd end; each step has two batches.
SGD = {
    "optimizer": "sgd",
    "learning-rate": 0.05,
    "method": "full",
    "epochs": 1,
    "batch-size": 15,
    "gradient-accumulation": 2,
    "max-length": 16,
    "warmup-fraction": 0,
    "seed": 1,
}


@pytest.fixture(scope="module")
def steady(tmp_path_factory: pytest.TempPathFactory, tiny_tokenizer: Any) -> Path:
    """A tiny BERT without dropout, so that processes with random states of their own compute alike."""
    from transformers import BertConfig, BertModel

    folder = tmp_path_factory.mktemp("steady")
    torch.manual_seed(0)
    sizes = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
    off = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    BertModel(BertConfig(vocab_size=len(tiny_tokenizer), max_position_embeddings=64, **sizes, **off)).save_pretrained(
        folder
    )
    tiny_tokenizer.save_pretrained(folder)
    return folder


def words(data: Path, model: Path, out: Path, **options: Any) -> list[str]:
    """The command line of a training."""
    flags = [
        part
        for name, value in {**SGD, **options}.items()
        for part in ([f"--{name}"] if value is True else [f"--{name}", str(value)])
    ]
    return ["finetune", "--data", str(data), "--model", str(model), "--out", str(out), *flags]


def config_of(model: Path, **options: Any) -> FinetuneConfig:
    """The same as a config."""
    named = {name.replace("-", "_"): value for name, value in {**SGD, **options}.items()}
    return FinetuneConfig(model=str(model), **named)


def train_alone(data: Path, model: Path, out: Path, **options: Any) -> None:
    launch.run(stage_of("finetune"), config_of(model, **options), {"data": data, "model": model}, out)


def train_in_two(data: Path, model: Path, out: Path, **options: Any) -> None:
    with together(*words(data, model, out, **options)) as processes:
        for process in processes:
            assert process.wait() == 0, process.stderr[-3000:]


def start_by(start: tuple[str, ...], data: Path, model: Path, out: Path) -> str:
    """Standard error of a run that ended well."""
    done = subprocess.run(
        [sys.executable, *start, "-m", "edgeft", *words(data, model, out)],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stderr


def losses(folder: Path) -> list[float]:
    rows = map(json.loads, (folder / "history.jsonl").read_text(encoding="utf-8").splitlines())
    return [row["loss"] for row in rows if "loss" in row]


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory, data: Path, steady: Path) -> Path:
    """The training in one process."""
    out = tmp_path_factory.mktemp("alone") / "out"
    train_alone(data, steady, out)
    return out


@pytest.mark.parametrize("start", [TORCHRUN, (*ACCELERATE, *PLAIN)], ids=["torchrun", "accelerate"])
def test_two_processes_have_the_loss_curve_of_one(
    start: tuple[str, ...], data: Path, steady: Path, alone: Path, tmp_path: Path
) -> None:
    said = start_by(start, data, steady, tmp_path / "out")
    assert losses(tmp_path / "out") == pytest.approx(losses(alone), rel=1e-5)
    assert len(losses(alone)) == 8
    assert losses(alone)[-1] != losses(alone)[0]
    assert said.count("finetune: full on cpu") == 1  # one of them talks
    one, two = (load_classifier(folder, None).state_dict() for folder in (alone, tmp_path / "out"))
    for name, weights in one.items():
        torch.testing.assert_close(weights, two[name], rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("kind", ["pairs", "text", "squad"])
def test_two_processes_take_any_rows(kind: str, steady: Path, tmp_path: Path) -> None:
    made = data_folder(tmp_path / "data", kind) if kind != "squad" else questions(tmp_path)
    model = {
        "pairs": lambda: pairs_folder(tmp_path / "model", "t5"),
        "text": lambda: language_folder(tmp_path / "model", "llama"),
        "squad": lambda: steady,
    }[kind]()
    length = 24 if kind == "squad" else 16
    options: dict[str, Any] = {"max-length": length, "batch-size": 3, "learning-rate": 0.01}
    options |= {"packing": True} if kind == "text" else {}
    train_alone(made, model, tmp_path / "one", **options)
    train_in_two(made, model, tmp_path / "two", **options)
    # T5 draws dropout, so that its processes differ after the first step; the others have none.
    steps = 1 if kind == "pairs" else None
    assert losses(tmp_path / "two")[:steps] == pytest.approx(
        losses(tmp_path / "one")[:steps], rel=0.2 if steps else 1e-5
    )


def questions(folder: Path) -> Path:
    """A data folder of questions whose answer stands in a short text."""
    contexts = [f"the {thing} was so {word}" for thing in ("film", "plot", "actor", "movie") for word in WORDS]
    rows = [
        {
            "question": f"was the {context.split()[1]} good",
            "context": context,
            "answers": {"text": [context.split()[-1]], "answer_start": [context.rindex(" ") + 1]},
        }
        for context in contexts
    ]
    file = folder / "rows.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    config = DataConfig(file=str(file), task="question-answering", validation_fraction=0.2, test_fraction=0.2, seed=0)
    prepare(config, {"file": file}, folder / "data")
    return folder / "data"


def test_killed_and_resumed_two_processes_end_in_the_same_bits(data: Path, steady: Path, tmp_path: Path) -> None:
    options = {"epochs": 3, "checkpoint-steps": 3, "optimizer": "adamw"}
    train_in_two(data, steady, tmp_path / "whole", **options)
    out = tmp_path / "killed"
    with together(*words(data, steady, out, **options)) as processes:
        processes[0].wait_until((out / "checkpoints" / "last.pt").exists)
        for process in processes:
            process.kill()
    assert not (out / "stage.json").exists()
    train_in_two(data, steady, out, **options)
    whole, killed = read_result(tmp_path / "whole"), read_result(out)
    assert whole
    assert killed
    assert killed.digest == whole.digest


@pytest.mark.parametrize("method", ["lora", "qlora"])
def test_split_frozen_weights_have_the_loss_curve_of_whole_ones(
    method: str, data: Path, steady: Path, tmp_path: Path
) -> None:
    options = {"method": method, "lora-dropout": 0, "learning-rate": 0.5, "precision": "fp32"}
    train_alone(data, steady, tmp_path / "whole", **options)
    train_in_two(data, steady, tmp_path / "split", **options, **{"shard-frozen": True})
    assert losses(tmp_path / "split") == pytest.approx(losses(tmp_path / "whole"), rel=1e-5)
    whole, split = read_result(tmp_path / "whole"), read_result(tmp_path / "split")
    assert whole
    assert split
    assert split.metrics["merge_difference"] <= 1e-4
    assert split.metrics["trainable_parameters"] == whole.metrics["trainable_parameters"]
    one, two = (load_classifier(folder, None).state_dict() for folder in (tmp_path / "whole", tmp_path / "split"))
    for name, weights in one.items():
        torch.testing.assert_close(weights, two[name], rtol=1e-4, atol=1e-6)


def test_splitting_what_is_whole_anyway_is_refused(data: Path, steady: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"^finetune.shard_frozen: there is one process"):
        launch.run(
            stage_of("finetune"), FinetuneConfig(model=str(steady), shard_frozen=True), {"data": data}, tmp_path / "out"
        )
    said = refusal(words(data, steady, tmp_path / "out", **{"shard-frozen": True}))
    assert said.startswith("edgeft: finetune.shard_frozen: nothing is frozen")


def refusal(line: list[str]) -> str:
    """The line with which two processes refuse a command; the second has no more to say than that it is the second."""
    with together(*line) as processes:
        assert [process.wait() for process in processes] == [2, 2]
        first, second = (process.stderr.splitlines() for process in processes)
    assert second == [first[-1].replace("edgeft:", "edgeft (process 1):")]
    return first[-1]


def test_the_recipe_starts_processes(data: Path, steady: Path, alone: Path, tmp_path: Path) -> None:
    config = config_of(steady, processes=2)
    result = launch.run(stage_of("finetune"), config, {"data": data, "model": steady}, tmp_path / "out")
    assert losses(tmp_path / "out") == pytest.approx(losses(alone), rel=1e-5)
    assert result.metrics["steps"] == 8


def test_processes_end_with_the_one_that_started_them(data: Path, steady: Path, tmp_path: Path) -> None:
    line = words(data, steady, tmp_path / "out", processes=2, epochs=500, **{"checkpoint-steps": 3})
    with Forked(*line) as started:
        started.wait_until((tmp_path / "out" / "checkpoints" / "last.pt").exists)
        others = psutil.Process(started.pid).children(recursive=True)
        assert len(others) >= 3  # torchrun and two that train
        started.kill()
    _, alive = psutil.wait_procs(others, timeout=30)
    assert not alive


def test_what_the_user_did_wrong_is_one_line(data: Path, steady: Path, tmp_path: Path) -> None:
    said = refusal(words(data, steady, tmp_path / "out", **{"freeze-layers": 9}))
    assert said.startswith("edgeft: finetune.freeze_layers: 9 is more than the 2 layers of the model")
    assert not (tmp_path / "out").exists()


def test_a_training_that_can_not_go_on_is_one_line(
    data: Path, steady: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    config = config_of(steady, processes=2, **{"learning-rate": 1e30})
    with pytest.raises(
        TrainingError, match=r"^the loss became nan at step \d+, batch \d+ of \d+ \(rows? .*; lower learning_rate$"
    ):
        launch.run(stage_of("finetune"), config, {"data": data, "model": steady}, tmp_path / "out")
    assert "Traceback" not in capfd.readouterr().err


def test_a_stage_for_one_process_refuses_several(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(UserError, match=r"^baseline: runs in one process, and 2 were started"):
        baseline(BaselineConfig(), {"data": data}, tmp_path / "out")
    with pytest.raises(UserError, match=r"^finetune.processes: 3 processes are asked for, and 2 were started$"):
        launch.run(stage_of("finetune"), FinetuneConfig(model="demo:x", processes=3), {"data": data}, tmp_path / "out")


@pytest.mark.parametrize("batch", [[4, 7, 1, 9, 2], [4, 7], [4]])
def test_shares_of_a_batch(batch: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    processes = Processes(torch.nn.Linear(1, 1), 0)
    assert processes.share(batch) == (batch, 1.0)
    monkeypatch.setenv("WORLD_SIZE", "3")
    shares = []
    for rank in range(3):
        monkeypatch.setenv("RANK", str(rank))
        own, counts = processes.share(batch)
        assert own  # every process has a pass to do
        assert counts in (0.0, 3.0)
        shares += own if counts else []
    assert sorted(shares) == sorted(batch)

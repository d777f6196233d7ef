"""Power cuts: after any of them a folder is whole or refused with one line, and the same command mends it."""

from __future__ import annotations

import dataclasses
import os
import random
import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from support_faults import Record, Recorder, cuts, folder_after, recorded

from edgeft import artifact, files, keys, stage, stage_folder
from edgeft.artifact import InputSpec, Manifest, Quantization
from edgeft.errors import ArtifactError
from edgeft.export import package
from edgeft.pipeline.run import run_folder
from edgeft.recipe import StageConfig
from edgeft.stage_folder import CHECKPOINTS, Inputs, StageResult
from edgeft.train.loop import checkpoints

CUTS = int(os.environ.get("EDGEFT_CUTS", "500"))  # of all tests here together
MANIFEST = Manifest(
    task="text-classification",
    labels=["a", "b"],
    inputs=InputSpec(names=["input_ids"], max_length=8, pad_token_id=0),
    quantization=Quantization(precision="int8", scheme="dynamic"),
)
STAGES = ("data", "train", "package", "artifact")


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Here the disk is a model, so nothing waits for the real one."""
    monkeypatch.setattr(os, "fsync", lambda _: None)
    monkeypatch.setattr(keys, "versions", dict)


# ---------------------------------------------------------------------------------------------------- a tiny whole run


def words(seed: int, name: str) -> bytes:
    """Other bytes for each seed and file."""
    return f"{name} of {seed}\n".encode() * 40


def fill_data(config: Any, inputs: Inputs, out: Path) -> dict[str, Any]:
    (out / "parts" / "deep").mkdir(parents=True)
    for name in ("train.bin", "test.bin", "parts/one.bin", "parts/deep/two.bin"):
        (out / name).write_bytes(words(config.seed, name))
    files.write_json(out / "dataset.json", {"rows": 40})
    return {"rows": 40}


def fill_train(config: Any, inputs: Inputs, out: Path) -> dict[str, Any]:
    for step in (1, 2):
        state = checkpoints.load(out)
        assert state is None or state["seed"] == config.seed, "goes on with the checkpoint of another run"
        checkpoints.save(out, {"seed": config.seed, "step": step})
    shutil.copyfile(inputs["data"] / "train.bin", out / "model.safetensors")
    (out / "config.json").write_text(f'{{"seed": {config.seed}}}')
    return {}


def fill_package(config: Any, inputs: Inputs, out: Path) -> dict[str, Any]:
    shutil.copyfile(inputs["train"] / "model.safetensors", out / artifact.MODEL)
    (out / artifact.TOKENIZER).write_bytes(words(config.seed, "tokenizer"))
    files.write_json(out / artifact.GOLDEN, [1])
    artifact.write_manifest(out, MANIFEST, [*artifact.REQUIRED, artifact.GOLDEN])
    return {}


def fill_artifact(config: Any, inputs: Inputs, out: Path) -> dict[str, Any]:
    package.ship(inputs["package"], out, {"recipe_sha256": "0"}, {artifact.RECIPE: "a: 1\n", artifact.CARD: "# card\n"})
    return {}


FILLS = dict(zip(STAGES, (fill_data, fill_train, fill_package, fill_artifact), strict=True))


def run(root: Path, seed: int) -> dict[str, StageResult]:
    """All stages over one run folder, as `edgeft pipeline` does it."""
    results, config = {}, StageConfig(seed=seed)
    with run_folder(root / "run"):
        files.write_atomically(root / "run" / artifact.RECIPE, f"seed: {seed}\n".encode())
        inputs = {"recipe": root / "run" / artifact.RECIPE}
        for name in STAGES:
            out = root / "run" / name
            results[name] = stage.stage(name)(FILLS[name])(config, inputs, out)
            inputs = {name: out}
    return results


def contents(root: Path) -> dict[str, bytes]:
    """Every file of a run, of those that tell of seconds and memory only that they are there."""
    timed = (stage_folder.COMPLETE, "run.lock")
    paths = sorted(path for path in root.rglob("*") if path.is_file())
    return {path.relative_to(root).as_posix(): b"" if path.name in timed else path.read_bytes() for path in paths}


def broken(root: Path) -> list[str]:
    """Stages of a run that pass as complete and aren't; an artifact is whole or refused with one line."""
    wrong = []
    for name in STAGES:
        folder = root / "run" / name
        done = stage_folder.read_result(folder)
        if done is not None and done.digest != stage_folder.digest(folder):
            wrong.append(name)
        if name in ("package", "artifact") and not is_whole(folder) and done is not None and name not in wrong:
            wrong.append(name)
    return wrong


def is_whole(folder: Path) -> bool:
    """Whether an artifact is whole; if not, it is refused with one line."""
    refusal = ""
    try:
        artifact.verify_files(folder, artifact.read_manifest(folder))
    except ArtifactError as error:
        refusal = str(error)
    assert "\n" not in refusal
    return not refusal


@dataclasses.dataclass(frozen=True)
class Case:
    """A command over a folder that is empty or that an earlier run left."""

    name: str
    earlier: Callable[[Path], object]
    share: float  # of all cuts


def interrupted(root: Path) -> None:
    """A run that ended in its training."""

    def ended(config: Any, inputs: Inputs, out: Path) -> dict[str, Any]:
        fill_train(config, inputs, out)
        raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(FILLS, "train", ended)
        with pytest.raises(KeyboardInterrupt):
            run(root, 1)


CASES = [
    Case("new", lambda root: None, 0.3),
    Case("over another", lambda root: run(root, 1), 0.3),
    Case("over an interrupted one", interrupted, 0.2),
]


def record_run(root: Path, case: Case, loses: Sequence[str] = ()) -> Record:
    root.mkdir()
    case.earlier(root)
    return recorded(root, lambda recorder: run(root, 2), loses)


def folders_after(record: Record, place: Path, count: int, seed: int) -> Iterator[tuple[Path, bool]]:
    """So many folders as a disk may hold them, each with whether the command had returned."""
    for cut, generator in cuts(record, count, seed):
        shutil.rmtree(place, ignore_errors=True)
        folder_after(record, cut, generator, place)
        yield place, "returned" in record.words(cut)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_after_a_power_cut_a_run_is_whole_or_refused_and_the_same_command_mends_it(case: Case, tmp_path: Path) -> None:
    record = record_run(tmp_path / "recorded", case)
    whole = contents(tmp_path / "recorded")
    assert not broken(tmp_path / "recorded")
    assert len(record.events) > 150
    states = set()
    for place, returned in folders_after(record, tmp_path / "after", int(CUTS * case.share), seed=0):
        assert not broken(place)
        if returned:
            assert contents(place) == whole
        states.add(tuple(contents(place).items()))
        run(place, 2)
        assert contents(place) == whole
    assert len(states) > min(CUTS, 500) * case.share / 4  # the cuts differ


def test_without_syncs_a_cut_leaves_what_passes_as_complete_with_wrong_bytes(tmp_path: Path) -> None:
    record = record_run(tmp_path / "recorded", CASES[1], loses=("files", "folders"))
    wrong = [name for place, _ in folders_after(record, tmp_path / "after", 60, seed=1) for name in broken(place)]
    assert set(wrong) == set(STAGES)


@pytest.mark.parametrize("loses", ["files", "folders"])
def test_each_kind_of_sync_is_needed(loses: str, tmp_path: Path) -> None:
    record = record_run(tmp_path / "recorded", CASES[1], loses=(loses,))
    whole = contents(tmp_path / "recorded")
    seen = list(folders_lost(record, tmp_path / "after", whole))
    assert any(wrong for wrong, _ in seen)
    assert any(lost for _, lost in seen)


def folders_lost(record: Record, place: Path, whole: dict[str, bytes]) -> Iterator[tuple[list[str], bool]]:
    for folder, returned in folders_after(record, place, 60, seed=2):
        yield broken(folder), returned and contents(folder) != whole


def train_alone(root: Path, seed: int, fill: Any = fill_train) -> StageResult:
    """One stage in its folder."""
    (root / "in").mkdir(exist_ok=True)
    (root / "in" / "train.bin").write_bytes(b"rows")
    return stage.stage("train")(fill)(StageConfig(seed=seed), {"data": root / "in"}, root / "out")


def interrupted_alone(root: Path) -> None:
    def ended(config: Any, inputs: Inputs, out: Path) -> dict[str, Any]:
        fill_train(config, inputs, out)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train_alone(root, 1, ended)


@pytest.mark.parametrize("without", [None, "sync_tree", "sync_folder"])
@pytest.mark.parametrize("earlier", [interrupted_alone, lambda root: train_alone(root, 1)], ids=["begun", "complete"])
def test_each_sync_of_a_stage_is_needed(
    without: str | None, earlier: Callable[[Path], object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Faults are what passes as complete and isn't, and training that goes on with another run's checkpoint."""
    root, faults = tmp_path / "recorded", 0
    root.mkdir()
    earlier(root)
    with monkeypatch.context() as patch:
        if without:
            patch.setattr(stage if without == "sync_tree" else stage_folder, without, lambda *_: None)
        record = recorded(root, lambda recorder: train_alone(root, 2))
    for place, _ in folders_after(record, tmp_path / "after", 60 if without is None else 1000, seed=3):
        done = stage_folder.read_result(place / "out")
        faults += done is not None and done.digest != stage_folder.digest(place / "out")
        try:
            train_alone(place, 2)
        except AssertionError:  # of fill_train
            faults += 1
        if faults:
            break
    assert bool(faults) == (without is not None)


# ----------------------------------------------------------------------------------------------- artifact, checkpoints


def write_artifact(root: Path, seed: int) -> None:
    for name in artifact.REQUIRED:
        (root / name).write_bytes(words(seed, name))
    artifact.write_manifest(root, MANIFEST, list(artifact.REQUIRED))


@pytest.mark.parametrize("earlier", [False, True])
def test_an_artifact_that_was_written_is_whole_after_a_power_cut(earlier: bool, tmp_path: Path) -> None:
    root = tmp_path / "recorded"
    root.mkdir()
    if earlier:
        write_artifact(root, 1)
    record, refused = recorded(root, lambda recorder: write_artifact(root, 2)), 0
    for place, returned in folders_after(record, tmp_path / "after", CUTS // 20, seed=4):
        refused += not is_whole(place)
        assert not returned or (is_whole(place) and contents(place) == contents(root))
        write_artifact(place, 2)
        assert is_whole(place)
    assert refused > 2


@pytest.mark.parametrize("name", ["sync_file", "sync_folder"])
def test_each_sync_of_the_manifest_is_needed(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(artifact, name, lambda *_: None)
    root = tmp_path / "recorded"
    root.mkdir()
    record = recorded(root, lambda recorder: write_artifact(root, 2))
    # The manifest is there and says what the files are; they aren't.
    after = folders_after(record, tmp_path / "after", 400, seed=5)
    assert any((place / artifact.MANIFEST).exists() and not is_whole(place) for place, _ in after)


def train(root: Path, recorder: Recorder | None = None) -> int:
    """Steps up to the fifth with a checkpoint at each; the step that it went on from."""
    state = checkpoints.load(root)
    first = int(state["step"]) if state else 0
    for step in range(first + 1, 6):
        checkpoints.save(root, {"step": step, "weights": torch.full((500,), float(step))})
        if recorder:
            recorder.say(step)
    return first


def test_a_power_cut_costs_at_most_the_work_since_the_last_checkpoint(tmp_path: Path) -> None:
    root = tmp_path / "recorded"
    root.mkdir()
    record = recorded(root, lambda recorder: train(root, recorder))
    for cut, generator in cuts(record, CUTS // 10, seed=6):
        place = tmp_path / "after"
        shutil.rmtree(place, ignore_errors=True)
        folder_after(record, cut, generator, place)
        steps = [word for word in record.words(cut) if word != "returned"]
        state = checkpoints.load(place)
        step = int(state["step"]) if state else 0
        assert step >= max(steps, default=0)
        assert state is None or torch.equal(state["weights"], torch.full((500,), float(step)))
        assert train(place) == step
        assert step == 5 or [path.name for path in (place / CHECKPOINTS).iterdir()] == [checkpoints.NAME]


@pytest.mark.parametrize("damage", [b"", b"PK\x03\x04", b"torn"])
def test_a_damaged_checkpoint_costs_the_training_and_no_traceback(
    damage: bytes, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    checkpoints.save(tmp_path, {"step": 1})
    (tmp_path / CHECKPOINTS / checkpoints.NAME).write_bytes(damage)
    assert checkpoints.load(tmp_path) is None
    assert "last.pt can't be read, training starts again" in capsys.readouterr().err


# ------------------------------------------------------------------------------------------------------ the fault layer


def written_and_renamed(root: Path, synced: Sequence[str]) -> None:
    (root / "new").write_bytes(b"bytes")
    if "file" in synced:
        files.sync_file(root / "new")
    (root / "new").rename(root / "old")
    if "folder" in synced:
        files.sync_folder(root)


@pytest.mark.parametrize(
    ("synced", "possible"),
    [
        ((), {b"", b"bytes", b"before"}),
        (("file",), {b"before", b"bytes"}),
        (("file", "folder"), {b"bytes"}),
    ],
)
def test_the_disk_loses_what_was_not_synced_and_nothing_else(
    synced: Sequence[str], possible: set[bytes], tmp_path: Path
) -> None:
    root = tmp_path / "recorded"
    root.mkdir()
    (root / "old").write_bytes(b"before")
    record = recorded(root, lambda recorder: written_and_renamed(root, synced))
    seen = set()
    for number in range(100):
        place = tmp_path / str(number)
        folder_after(record, len(record.events), random.Random(number), place)
        seen.add((place / "old").read_bytes())  # a rename never loses the name that it replaces
    assert possible <= seen
    torn = seen - possible
    assert bool(torn) == (not synced)
    assert all(b"bytes".startswith(content.rstrip(b"\0")) for content in torn)

from __future__ import annotations

import json
import os
import platform
import shutil
import signal
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from edgeft import files, keys, stage, stage_folder
from edgeft.errors import OutputFolderError, UserError
from edgeft.files import written_whole
from edgeft.recipe import ReportConfig, StageConfig
from edgeft.stage_folder import CHECKPOINTS, COMPLETE, UNFINISHED, Inputs, StageResult

Fill = Callable[[Any, Inputs, Path], dict[str, Any]]


class Fixture:
    """A stage that counts its runs, with an input and an output folder."""

    def __init__(self, folder: Path) -> None:
        self.runs = 0
        self.out = folder / "out"
        self.source = folder / "in"
        self.source.mkdir()
        (self.source / "rows.txt").write_text("a\n")
        self.fill: Fill = self.write_model

    def write_model(self, config: Any, inputs: Inputs, out: Path) -> dict[str, Any]:
        (out / "model.txt").write_text((inputs["data"] / "rows.txt").read_text() * config.mistakes)
        return {"accuracy": 0.5}

    def run(self, mistakes: int = 2, seed: int | None = 3, out: Path | None = None) -> StageResult:
        @stage.stage("counted")
        def counted(config: Any, inputs: Inputs, out_dir: Path) -> dict[str, Any]:
            self.runs += 1
            return self.fill(config, inputs, out_dir)

        return counted(ReportConfig(mistakes=mistakes, seed=seed), {"data": self.source}, out or self.out)


@pytest.fixture
def counted(tmp_path: Path) -> Fixture:
    return Fixture(tmp_path)


def names(folder: Path) -> set[str]:
    return {item.relative_to(folder).as_posix() for item in folder.rglob("*")}


# ----------------------------------------------------------------------------------------------- complete, kept, rerun


def test_the_result_is_in_the_folder(counted: Fixture) -> None:
    result = counted.run()
    assert names(counted.out) == {"model.txt", COMPLETE}
    assert stage_folder.read_result(counted.out) == result
    assert result.stage == "counted"
    assert result.config == {"mistakes": 2, "texts": True, "seed": 3}
    assert result.inputs == {"data": stage_folder.digest(counted.source)}
    assert result.digest == stage_folder.digest(counted.out)
    assert (result.seed, result.metrics) == (3, {"accuracy": 0.5})
    assert result.seconds > 0
    assert result.peak_memory_bytes > 1_000_000
    assert {"edgeft", "python", "numpy"} <= set(result.versions)


def test_a_complete_stage_is_kept(counted: Fixture, capsys: pytest.CaptureFixture[str]) -> None:
    assert counted.run() == counted.run()
    assert counted.runs == 1
    assert "counted: complete, kept" in capsys.readouterr().err


def test_another_config_or_seed_runs_again(counted: Fixture) -> None:
    counted.run()
    counted.run(mistakes=1)
    assert (counted.out / "model.txt").read_text() == "a\n"
    counted.run(mistakes=1, seed=4)
    assert counted.runs == 3


def test_changed_input_bytes_run_again(counted: Fixture) -> None:
    first = counted.run()
    (counted.source / "rows.txt").write_text("b\n")
    assert counted.run().key != first.key
    assert (counted.out / "model.txt").read_text() == "b\nb\n"


def test_touched_but_equal_input_does_not(counted: Fixture) -> None:
    counted.run()
    os.utime(counted.source / "rows.txt", (1, 1))
    counted.run()
    assert counted.runs == 1


def test_a_new_program_runs_again(counted: Fixture, monkeypatch: pytest.MonkeyPatch) -> None:
    counted.run()
    monkeypatch.setattr(stage, "code_version", lambda: "another")
    counted.run()
    assert counted.runs == 2


@pytest.fixture
def surroundings(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What a stage finds on its machine, to be changed by a test."""
    there: dict[str, Any] = {
        "kernels": "built",
        "machine": {"processor": "Old Core", "cores": 8},
        "libraries": {"torch": "2.12.0", "onnxruntime": "1.23.0"},
    }
    monkeypatch.setattr(keys, "kernels_version", lambda: there["kernels"])
    monkeypatch.setattr(keys, "versions_of", lambda names: {n: v for n, v in there["libraries"].items() if n in names})
    return there


def declared(counted: Fixture, there: dict[str, Any], **more: Any) -> Callable[[], StageResult]:
    """The counting stage with what it declares; `there` has what it finds."""

    def fill(config: Any, inputs: Inputs, out: Path) -> dict[str, Any]:
        counted.runs += 1
        return counted.write_model(config, inputs, out)

    made = stage.stage("counted", **more)(fill)
    return lambda: made(ReportConfig(seed=3), {"data": counted.source}, counted.out)


@pytest.mark.parametrize(
    ("what", "value", "said"),
    [
        ("kernels", "not built", "edgeft's kernels changed"),
        ("machine", {"processor": "New Core", "cores": 8}, "another machine (processor Old Core -> New Core)"),
        ("libraries", {"torch": "2.13.0", "onnxruntime": "1.23.0"}, "torch 2.12.0 -> 2.13.0"),
        ("libraries", {"onnxruntime": "1.23.0"}, "torch 2.12.0 -> none"),
    ],
)
def test_what_decides_runs_again_where_it_is_declared_and_only_there(
    counted: Fixture,
    surroundings: dict[str, Any],
    what: str,
    value: Any,
    said: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    about = {"kernels": True, "machine": lambda: surroundings["machine"], "libraries": ("torch",)}
    other = {name: declares for name, declares in about.items() if name != what}
    for declares, runs in ((about, 2), ({**other, "libraries": ("onnxruntime",)}, 1)):
        before, counted.runs = surroundings[what], 0
        shutil.rmtree(counted.out, ignore_errors=True)
        run = declared(counted, surroundings, **declares)
        first = run()
        surroundings[what] = value
        if what == "libraries" and declares is not about:
            surroundings[what] = {**value, "torch": "2.13.0"}  # a stage that never calls torch
        again = run()
        surroundings[what] = before
        assert counted.runs == runs
        assert (again.key != first.key) == (runs == 2)
        assert (f"counted: {said}; computed again" in capsys.readouterr().err) == (runs == 2)


def test_a_kept_result_has_the_versions_that_made_it(counted: Fixture, monkeypatch: pytest.MonkeyPatch) -> None:
    run = declared(counted, {})
    made = run()
    monkeypatch.setattr(keys, "versions", lambda: {"edgeft": "later"})
    assert run().versions == made.versions != {"edgeft": "later"}


def test_facts_are_part_of_the_key_and_named(counted: Fixture, capsys: pytest.CaptureFixture[str]) -> None:
    declared(counted, {}, facts={"bench": "one", "export": "same"})()
    declared(counted, {}, facts={"bench": "two", "export": "same"})()
    assert counted.runs == 2
    assert "counted: bench is new; computed again" in capsys.readouterr().err


def test_the_line_says_which_option_or_file_changed(counted: Fixture, capsys: pytest.CaptureFixture[str]) -> None:
    counted.run()
    counted.run(mistakes=1)
    assert "counted: counted.mistakes 2 -> 1; computed again" in capsys.readouterr().err
    (counted.source / "rows.txt").write_text("b\n")
    counted.run(mistakes=1)
    assert "counted: its input data changed since; computed again" in capsys.readouterr().err
    counted.source = counted.source / "rows.txt"
    counted.fill = lambda config, inputs, out: {}
    counted.run(mistakes=1)
    counted.source.write_text("c\n")
    capsys.readouterr()
    counted.run(mistakes=1)
    assert "counted: rows.txt changed since; computed again" in capsys.readouterr().err
    (counted.out / "more.txt").write_text("x")
    counted.run(mistakes=1)
    assert "counted: its files were changed; computed again" in capsys.readouterr().err


def test_a_result_of_an_earlier_release_is_read_and_computed_again(
    counted: Fixture, capsys: pytest.CaptureFixture[str]
) -> None:
    counted.run()
    document = json.loads((counted.out / COMPLETE).read_text())
    for name in ("code", "libraries", "kernels", "machine", "facts"):
        del document[name]
    (counted.out / COMPLETE).write_text(json.dumps({**document, "key": "of an earlier release"}))
    earlier = stage_folder.read_result(counted.out)
    assert earlier is not None
    assert earlier.metrics == {"accuracy": 0.5}
    counted.run()
    assert counted.runs == 2
    assert "counted: edgeft or its libraries changed since; computed again" in capsys.readouterr().err


def test_every_change_of_a_kernel_changes_their_version(tmp_path: Path) -> None:
    (tmp_path / "native").mkdir()
    seen = {keys.digest_of_kernels(tmp_path)}
    for name in ("native/dense.c", "native/kernels.h", "_kernels.abi3.so"):
        for text in ("1", "2"):
            (tmp_path / name).write_text(text)
            seen.add(keys.digest_of_kernels(tmp_path))
    assert len(seen) == 7
    (tmp_path / "engine.py").write_text("counted with the code")
    assert keys.digest_of_kernels(tmp_path) in seen


def test_the_stages_declare_what_decides_them() -> None:
    from edgeft.pipeline.stages import MODULES, stage_of

    stages = {name: stage_of(name) for name in MODULES}
    timed = {name for name, one in stages.items() if one.machine}
    assert timed == {"baseline", "latency", "export", "bench"}
    graphs = {name for name, one in stages.items() if one.kernels}
    assert graphs == {"latency", "export", "calibrate", "package", "bench", "update_artifact"}
    torch = {name for name, one in stages.items() if "torch" in one.libraries}
    assert not {"data", "baseline", "calibrate", "package", "update_artifact"} & torch
    assert {"finetune", "distill", "prune", "augment", "export"} <= torch
    assert "peft" in stages["finetune"].libraries
    assert "torch-pruning" in stages["prune"].libraries
    assert {"onnx", "onnxruntime", "tokenizers"} <= set(stages["export"].libraries)
    assert stages["export"].machine() == stages["bench"].machine()  # type: ignore[misc]


@pytest.mark.parametrize("damage", ["change", "remove", "add"])
def test_a_tampered_output_runs_again(counted: Fixture, damage: str) -> None:
    counted.run()
    model = counted.out / "model.txt"
    damages: dict[str, Callable[[], object]] = {
        "change": lambda: model.write_text("x"),
        "remove": model.unlink,
        "add": lambda: (counted.out / "more.txt").write_text("x"),
    }
    damages[damage]()
    counted.run()
    assert counted.runs == 2
    assert names(counted.out) == {"model.txt", COMPLETE}


@pytest.mark.parametrize("content", [b"", b"{", b'{"stage": 5}', b"\xff\xfe", b'{"stage": "\xff"}'])
def test_a_broken_stage_json_runs_again(counted: Fixture, content: bytes) -> None:
    counted.run()
    (counted.out / COMPLETE).write_bytes(content)
    assert stage_folder.read_result(counted.out) is None
    counted.run()
    assert counted.runs == 2


# ------------------------------------------------------------------------------------------------------ other folders


def test_a_folder_of_somebody_else_is_refused_and_untouched(counted: Fixture) -> None:
    counted.out.mkdir()
    (counted.out / "thesis.txt").write_text("years")
    with pytest.raises(OutputFolderError, match="not written by edgeft"):
        counted.run()
    assert names(counted.out) == {"thesis.txt"}
    assert counted.runs == 0


def test_an_output_that_is_a_file_is_refused(counted: Fixture) -> None:
    counted.out.write_text("years")
    with pytest.raises(OutputFolderError, match="is a file"):
        counted.run()
    assert counted.out.read_text() == "years"


def test_an_output_that_holds_an_input_is_refused_and_untouched(counted: Fixture) -> None:
    counted.run()
    counted.source = counted.out
    with pytest.raises(OutputFolderError, match="lies in its output"):
        counted.run(mistakes=1)
    (counted.out / "inner").mkdir()
    counted.source = counted.out / "inner"
    with pytest.raises(OutputFolderError, match="lies in its output"):
        counted.run(mistakes=1)
    assert (counted.out / "model.txt").exists()


def test_a_missing_input_is_a_user_error_and_makes_no_folder(counted: Fixture) -> None:
    shutil.rmtree(counted.source)
    with pytest.raises(UserError, match="counted: input not found: data "):
        counted.run()
    assert not counted.out.exists()


def test_a_user_error_before_anything_was_written_leaves_no_folder(counted: Fixture) -> None:
    def refuse(config: Any, inputs: Inputs, out: Path) -> dict[str, Any]:
        raise UserError("no such column")

    counted.fill = refuse
    with pytest.raises(UserError, match="no such column"):
        counted.run()
    assert not counted.out.exists()


# --------------------------------------------------------------------------------------------------- kills and resumes


def interrupted(config: Any, inputs: Inputs, out: Path) -> dict[str, Any]:
    (out / CHECKPOINTS).mkdir(exist_ok=True)
    (out / CHECKPOINTS / "step-50").write_text("weights")
    raise KeyboardInterrupt


def test_an_interrupted_stage_is_resumed_with_its_checkpoints(counted: Fixture) -> None:
    counted.fill = interrupted
    with pytest.raises(KeyboardInterrupt):
        counted.run()
    assert names(counted.out) == {UNFINISHED, CHECKPOINTS, f"{CHECKPOINTS}/step-50"}
    found: list[str] = []

    def resume(config: Any, inputs: Inputs, out: Path) -> dict[str, Any]:
        found.append((out / CHECKPOINTS / "step-50").read_text())
        return counted.write_model(config, inputs, out)

    counted.fill = resume
    counted.run()
    assert found == ["weights"]
    assert names(counted.out) == {"model.txt", COMPLETE}


def test_an_interrupted_stage_of_another_config_starts_empty(counted: Fixture) -> None:
    counted.fill = interrupted
    with pytest.raises(KeyboardInterrupt):
        counted.run(mistakes=1)

    def look(config: Any, inputs: Inputs, out: Path) -> dict[str, Any]:
        assert names(out) == {UNFINISHED}
        return counted.write_model(config, inputs, out)

    counted.fill = look
    counted.run(mistakes=2)


class Killed(BaseException):
    """Stands for a kill at one moment."""


def killed_before_step(monkeypatch: pytest.MonkeyPatch, moment: int) -> None:
    """Let the process "die" just before its so-manieth change of the file system."""
    count = 0

    def counting(function: Callable[..., Any]) -> Callable[..., Any]:
        def wrapped(*args: Any, **kwargs: Any) -> Any:
            nonlocal count
            count += 1
            if count > moment:
                raise Killed
            return function(*args, **kwargs)

        return wrapped

    for owner, name in [(os, "fsync"), (shutil, "rmtree"), *((Path, n) for n in ("mkdir", "unlink", "replace"))]:
        monkeypatch.setattr(owner, name, counting(getattr(owner, name)))
    monkeypatch.setattr(Path, "write_text", counting(Path.write_text))
    listed = Path.iterdir
    monkeypatch.setattr(Path, "iterdir", lambda folder: iter(sorted(listed(folder))))  # stage.json after the model


def test_a_kill_while_emptying_never_hands_on_another_runs_checkpoint(
    counted: Fixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def without_checkpoint(config: Any, inputs: Inputs, out: Path) -> dict[str, Any]:
        assert not (out / CHECKPOINTS / "step-50").exists()
        return counted.write_model(config, inputs, out)

    for moment in range(100):
        shutil.rmtree(counted.out, ignore_errors=True)
        counted.fill = interrupted
        with pytest.raises(KeyboardInterrupt):
            counted.run(mistakes=1)
        counted.fill = without_checkpoint
        with monkeypatch.context() as patch:
            killed_before_step(patch, moment)
            try:
                counted.run(mistakes=2)
                break
            except Killed:
                pass
        counted.run(mistakes=2)
    assert 5 < moment < 99


@pytest.mark.parametrize("before", ["nothing", "older", "tampered", "unfinished"])
def test_a_kill_at_any_moment_never_looks_complete_or_foreign(
    counted: Fixture, before: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for moment in range(100):
        shutil.rmtree(counted.out, ignore_errors=True)
        prepare(counted, before)
        digest = stage_folder.digest(counted.out)
        with monkeypatch.context() as patch:
            killed_before_step(patch, moment)
            try:
                counted.run()
                break
            except Killed:
                pass
        done = stage_folder.read_result(counted.out)
        assert done is None or stage_folder.digest(counted.out) in (digest, done.digest), moment
        counted.run()  # neither refused nor wrong
        assert (counted.out / "model.txt").read_text() == "a\na\n"
        assert names(counted.out) - {UNFINISHED} == {"model.txt", COMPLETE}, moment
    assert 5 < moment < 99


def prepare(counted: Fixture, before: str) -> None:
    if before in ("older", "tampered"):
        counted.run(mistakes=1 if before == "older" else 2)
    if before == "tampered":
        (counted.out / "model.txt").write_text("x")
        (counted.out / UNFINISHED).write_text(f'{{"key": "{stage_folder.read_result(counted.out).key}"}}')  # type: ignore[union-attr]
    if before == "unfinished":
        counted.fill = interrupted
        with pytest.raises(KeyboardInterrupt):
            counted.run()
        counted.fill = counted.write_model


PROGRAM = """
import sys, time
from pathlib import Path
from edgeft.recipe import ReportConfig
from edgeft.stage import stage

@stage("slow")
def slow(config, inputs, out_dir):
    half = out_dir / "checkpoints" / "half"
    resumed = half.exists()
    half.parent.mkdir(exist_ok=True)
    half.write_text("half")
    (out_dir / "stray.txt").write_text("half")
    if sys.argv[3] == "die":
        print("half", flush=True)
        time.sleep(60)
    (out_dir / "stray.txt").unlink()
    (out_dir / "model.txt").write_text("whole")
    return {"resumed": resumed}

slow(ReportConfig(), {"data": Path(sys.argv[1])}, Path(sys.argv[2]))
"""


def test_a_killed_process_leaves_no_complete_folder_and_the_next_one_completes_it(counted: Fixture) -> None:
    command = [sys.executable, "-c", textwrap.dedent(PROGRAM), str(counted.source), str(counted.out)]
    with subprocess.Popen([*command, "die"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as child:
        assert child.stdout
        assert child.stdout.readline() == "half\n"
        child.send_signal(signal.SIGKILL)
        assert child.wait(10) == -signal.SIGKILL
    assert names(counted.out) == {UNFINISHED, "stray.txt", CHECKPOINTS, f"{CHECKPOINTS}/half"}
    assert stage_folder.read_result(counted.out) is None
    subprocess.run([*command, "live"], check=True, timeout=60, stderr=subprocess.DEVNULL)
    result = stage_folder.read_result(counted.out)
    assert result
    assert result.metrics == {"resumed": True}
    assert result.digest == stage_folder.digest(counted.out)
    assert names(counted.out) == {COMPLETE, "model.txt"}


# ------------------------------------------------------------------------------------------------------------- digests


def test_digest_sees_names_and_contents_but_not_bookkeeping(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("1")
    first = stage_folder.digest(tmp_path)
    (tmp_path / COMPLETE).write_text("{}")
    (tmp_path / UNFINISHED).write_text("{}")
    (tmp_path / CHECKPOINTS).mkdir()
    (tmp_path / CHECKPOINTS / "step").write_text("x")
    assert stage_folder.digest(tmp_path) == first
    (tmp_path / "a").rename(tmp_path / "b")
    assert stage_folder.digest(tmp_path) != first


def test_digest_of_a_file_is_its_sha256(tmp_path: Path) -> None:
    (tmp_path / "abc").write_bytes(b"abc")
    known = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"  # FIPS 180-2, appendix B.1
    assert stage_folder.digest(tmp_path / "abc") == files.file_sha256(tmp_path / "abc") == known


def test_sources_that_change_change_the_code_version(tmp_path: Path) -> None:
    (tmp_path / "a.py").write_text("1")
    first = stage.digest_of_sources(tmp_path)
    (tmp_path / "notes.txt").write_text("no source")
    assert stage.digest_of_sources(tmp_path) == first
    (tmp_path / "a.py").write_text("2")
    assert stage.digest_of_sources(tmp_path) != first


def test_writing_atomically_replaces_or_leaves(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "a.json"
    files.write_json(file, {"a": 1})
    monkeypatch.setattr(os, "fsync", lambda _: (_ for _ in ()).throw(OSError("disk full")))
    with pytest.raises(OSError, match="disk full"):
        files.write_json(file, {"a": 2})
    assert file.read_text() == '{\n  "a": 1\n}\n'


def test_a_file_that_is_written_whole_is_there_at_once_or_not_at_all(tmp_path: Path) -> None:
    with written_whole(tmp_path / "a.jsonl") as file:
        file.write(b"one\n")
        assert not (tmp_path / "a.jsonl").exists()
    assert (tmp_path / "a.jsonl").read_bytes() == b"one\n"
    with pytest.raises(TypeError), written_whole(tmp_path / "a.jsonl") as file:
        file.writelines([b"two\n", None])  # type: ignore[list-item]
    assert (tmp_path / "a.jsonl").read_bytes() == b"one\n"
    assert list(tmp_path.iterdir()) == [tmp_path / "a.jsonl"]


def test_python_and_what_writes_weights_are_part_of_the_key(monkeypatch: pytest.MonkeyPatch) -> None:
    from edgeft.stage import Stage

    training = Stage(name="finetune", fill=lambda *_: {}, libraries=keys.TRAINING)
    reading = Stage(name="data", fill=lambda *_: {}, libraries=keys.READING)
    assert {"python", "safetensors", "optimum"} <= set(training.ingredients(StageConfig(), {}).libraries)
    before = [one.key(StageConfig(), {}) for one in (training, reading)]
    minor = platform.python_version_tuple()[:2]
    monkeypatch.setattr(platform, "python_version_tuple", lambda: (*minor, "99"))
    assert [one.key(StageConfig(), {}) for one in (training, reading)] == before
    monkeypatch.setattr(platform, "python_version_tuple", lambda: ("3", "99", "0"))
    assert not {one.key(StageConfig(), {}) for one in (training, reading)} & set(before)
    assert keys.versions()["python"] == platform.python_version()

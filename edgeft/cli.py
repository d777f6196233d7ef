"""The command line: one thin function a command, heavy imports inside."""

from __future__ import annotations

import logging
import os
import sys
from pathlib import Path
from typing import Annotated, Any

import msgspec
from cyclopts import App, CycloptsError, Parameter
from rich.console import Console

from edgeft import __version__, recipe
from edgeft.errors import EdgeftError, UserError
from edgeft.progress import say
from edgeft.recipe import (
    BenchConfig,
    CalibrateConfig,
    DataConfig,
    DistillConfig,
    ExportConfig,
    FinetuneConfig,
    PruneConfig,
)
from edgeft.stage import StageResult

app = App(
    name="edgeft",
    version=__version__,
    help="From a pre-trained transformer and a labelled file to a small model that runs without PyTorch.",
    result_action="return_value",
)
recipe_app = App(name="recipe", help="List, show and describe recipes.")
app.command(recipe_app)

Flat = Parameter(name="*")
Json = Annotated[bool, Parameter(name="--json", negative="", help="print one JSON document as the last line")]


def main() -> None:
    """Run a command; a user error is one line on stderr and exit code 2."""
    # Neither the tokenizers' warning about forks nor bitsandbytes' about a kernel hub tells a user what to do.
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)
    try:
        app(sys.argv[1:], exit_on_error=False, print_error=False)
    except CycloptsError as error:
        _fail(" ".join(str(error).split()), 2)
    except EdgeftError as error:
        _fail(str(error), error.exit_code)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except OSError as error:
        _fail(str(error), 2)
    except KeyboardInterrupt:
        _fail("stopped; the same command goes on where it was", 130)


def _fail(message: str, code: int) -> None:
    say("\n".join(f"edgeft: {line}" for line in message.splitlines()))
    sys.exit(code)


def _print_json(document: object) -> None:
    print(msgspec.json.encode(document).decode(), flush=True)


def _stdout() -> Console:
    return Console(highlight=False)


# ------------------------------------------------------------------------------------------------------------ the run


@app.command
def pipeline(
    name: str | None = None,
    *,
    data: str | None = None,
    text_column: str | None = None,
    label_column: str | None = None,
    model: str | None = None,
    run_dir: Path | None = None,
    budget: str | None = None,
    set: Annotated[list[str] | None, Parameter(consume_multiple=False)] = None,
    until: str | None = None,
    dry_run: Annotated[bool, Parameter(negative="")] = False,
    json: Json = False,
) -> None:
    """Make an artifact from a labelled file: every stage, skipping what is complete.

    Args:
        name: recipe file or built-in recipe; none: the defaults.
        data: labelled rows: a file, a Hugging Face dataset id or folder, or demo:rotten-tomatoes.
        text_column: column with the text.
        label_column: column with the label.
        model: model folder, Hugging Face id, or demo:all-minilm-l6-v2.
        run_dir: run folder; default runs/NAME, NAME being the recipe's.
        budget: limits, as in "p99<=15ms,size<=30MB,drop<=1pt".
        set: any option, as in --set distill.epochs=2; may be repeated.
        until: the last stage to run.
        dry_run: print the stages and their state, and do nothing.
    """
    given = {
        "data.file": data,
        "data.text_column": text_column,
        "data.label_column": label_column,
        "finetune.model": model,
        "budget": budget,
    }
    settings = {path: value for path, value in given.items() if value is not None}
    chosen = recipe.load(name, {**settings, **recipe.parse_settings(set or [])})
    folder = run_dir or Path("runs") / chosen.name
    _need_training()
    from edgeft import pipeline as room

    if dry_run:
        _show_plan(room.plan(chosen, folder), json)
        return
    results = room.run_pipeline(chosen, folder, until)
    _show_run(results, folder, json)


def _need_training() -> None:
    """Name the extra before a room that needs it is imported."""
    from edgeft.errors import require

    for module in ("torch", "transformers", "peft", "sklearn", "pyarrow", "torch_pruning", "onnx", "onnxruntime"):
        require(module, "to train and compress")


def _show_plan(states: list[tuple[str, str]], json: bool) -> None:
    for stage, state in states:
        print(f"{stage:12} {state}")
    if json:
        _print_json(dict(states))


def _show_run(results: dict[str, StageResult], folder: Path, json: bool) -> None:
    from edgeft.pipeline import summary

    summary.show(results, folder, _stdout())
    if json:
        _print_json(summary.document(results, folder))


# ---------------------------------------------------------------------------------------------------- one stage alone


def _stage(name: str, config: recipe.StageConfig, inputs: dict[str, Path], out: Path, json: bool) -> None:
    """Check the flags, run one stage, print its metrics."""
    import importlib

    from edgeft.pipeline.steps import ROOMS

    recipe.check_stage(name, config)
    result = importlib.import_module(ROOMS[name]).run(config, inputs, out)
    if json:
        _print_json(result)
    else:
        from edgeft.pipeline import summary

        summary.show_metrics(result, _stdout())


@app.command
def data(config: Annotated[DataConfig | None, Flat] = None, *, out: Path, json: Json = False) -> None:
    """Read, check and split a labelled file.

    Args:
        out: the data folder.
    """
    _need_training()
    from edgeft.data import sources
    from edgeft.errors import RecipeError

    config = config or DataConfig()
    if config.file is None:
        raise RecipeError("data: no file; give --file FILE")
    _stage("data", config, sources.local_files(config), out, json)


@app.command
def finetune(
    config: Annotated[FinetuneConfig | None, Flat] = None, *, data: Path, out: Path, json: Json = False
) -> None:
    """Fine-tune a pre-trained model on a data folder.

    Args:
        data: a data folder.
        out: the model folder.
    """
    _need_training()
    from edgeft import models
    from edgeft.errors import RecipeError

    config = config or FinetuneConfig()
    if config.model is None:
        raise RecipeError("finetune: no model; give --model FOLDER, a Hugging Face id or demo:all-minilm-l6-v2")
    place = models.find(config.model)
    _stage("finetune", config, {"data": data, **({"model": place} if isinstance(place, Path) else {})}, out, json)


@app.command
def distill(
    config: Annotated[DistillConfig | None, Flat] = None, *, data: Path, teacher: Path, out: Path, json: Json = False
) -> None:
    """Distill a teacher into a smaller student.

    Args:
        data: a data folder.
        teacher: a model folder with predictions, as `edgeft finetune` writes it.
        out: the model folder.
    """
    _need_training()
    from edgeft import models

    config = config or DistillConfig()
    place = models.find(config.student) if config.student else None
    student = {"student": place} if isinstance(place, Path) else {}
    _stage("distill", config, {"data": data, "teacher": teacher, **student}, out, json)


@app.command
def prune(
    config: Annotated[PruneConfig | None, Flat] = None,
    *,
    data: Path,
    model: Path,
    teacher: Path,
    out: Path,
    json: Json = False,
) -> None:
    """Prune heads and feed-forward channels, then recover under a teacher.

    Args:
        data: a data folder.
        model: the model folder to prune.
        teacher: the model folder to learn from.
        out: the model folder.
    """
    _need_training()
    _stage("prune", config or PruneConfig(), {"data": data, "model": model, "teacher": teacher}, out, json)


@app.command
def export(
    config: Annotated[ExportConfig | None, Flat] = None, *, data: Path, model: Path, out: Path, json: Json = False
) -> None:
    """Export a model folder to an int8 ONNX artifact, checked against the model.

    Args:
        data: a data folder.
        model: a model folder.
        out: the artifact, its probabilities not yet calibrated.
    """
    _need_training()
    _stage("export", config or ExportConfig(), {"data": data, "model": model}, out, json)


@app.command
def calibrate(
    artifact: Path,
    config: Annotated[CalibrateConfig | None, Flat] = None,
    *,
    data: Path,
    out: Path,
    json: Json = False,
) -> None:
    """Fit the temperature of an exported artifact and write the calibrated artifact.

    Args:
        artifact: the exported artifact.
        data: a data folder.
        out: gets `calibration` and `artifact`.
    """
    _need_training()
    from edgeft.export.package import run as package
    from edgeft.recipe import StageConfig

    config = config or CalibrateConfig()
    _stage("calibrate", config, {"data": data, "artifact": artifact}, out / "calibration", json)
    inputs = {"data": data, "export": artifact, "calibrate": out / "calibration"}
    package(StageConfig(seed=config.seed), inputs, out / "artifact")


# -------------------------------------------------------------------------------------------------- on the device


@app.command
def predict(
    artifact: Path,
    texts: list[str] | None = None,
    *,
    file: Path | None = None,
    top_k: int = 1,
    threads: int | None = None,
    json: Json = False,
) -> None:
    """Predict the label of texts, of the lines of a file, or of the lines of standard input.

    Args:
        artifact: the artifact folder.
        texts: texts.
        file: one text a line, UTF-8; - is standard input.
        top_k: so many labels for each text.
        threads: of the engine.
    """
    import edgeft
    from edgeft.runtime.texts import lines

    given = [*(texts or []), *(lines(file) if file else [])]
    if not given:
        raise UserError("predict: no text; give TEXT or --file FILE")
    if top_k < 1:
        raise UserError(f"predict: --top-k {top_k} asks for no label; give 1 or more")
    model = edgeft.load(artifact, threads=threads)
    answers = [model(text, top_k=top_k) for text in given]
    for text, answer in zip(given, answers, strict=True):
        shown = "  ".join(f"{item['label']} {item['score']:.4f}" for item in answer)
        print(shown if len(given) == 1 else f"{shown}\t{' '.join(text.split())}")
    if json:
        _print_json([{"text": text, "predictions": answer} for text, answer in zip(given, answers, strict=True)])


@app.command
def verify(artifact: Path, *, replay: Annotated[bool, Parameter(negative="")] = False, json: Json = False) -> None:
    """Check an artifact's files against its manifest, and with --replay its answers against the recorded ones.

    Args:
        artifact: the artifact folder.
        replay: run the golden rows on this machine.
    """
    import edgeft
    from edgeft.errors import GateError
    from edgeft.runtime import replay as run_replay

    model = edgeft.load(artifact)
    document: dict[str, Any] = {"files": len(model.manifest.files), "verified": True}
    print(f"{artifact}: {len(model.manifest.files)} files as the manifest says")
    if replay:
        found = run_replay(model)
        document["replay"] = found
        print(
            f"replay: {found.same_labels}/{found.rows} labels and {found.same_tokens}/{found.rows} token sequences "
            f"equal, largest logit difference {found.max_logit_difference:.1e} (allowed {found.tolerance:.0e})"
        )
        document["verified"] = found.passed
    if json:
        _print_json(document)
    if not document["verified"]:
        raise GateError(f"{artifact} answers differently on this machine than where it was made")


@app.command
def inspect(artifact: Path, *, json: Json = False) -> None:
    """Show what an artifact says of itself.

    Args:
        artifact: the artifact folder.
    """
    from edgeft.artifact import read_manifest
    from edgeft.runtime.describe import describe

    manifest = read_manifest(artifact)
    print(describe(manifest))
    if json:
        _print_json(manifest)


@app.command
def bench(
    artifacts: list[Path],
    *,
    file: Path | None = None,
    config: Annotated[BenchConfig | None, Flat] = None,
    json: Json = False,
) -> None:
    """Measure artifacts side by side on this machine, their queries interleaved.

    Args:
        artifacts: artifact folders; ratios are against the first.
        file: texts to ask, one a line; none: the artifact's golden rows.
    """
    from edgeft.bench import measure, table
    from edgeft.runtime.texts import lines

    config = config or BenchConfig()
    recipe.check_stage("bench", config)
    texts = lines(file) if file else measure.texts_of(artifacts[0])
    result = table.show(measure.compare(artifacts, texts, config), _stdout())
    if json:
        _print_json(result)


@app.command
def serve(
    artifacts: list[Path],
    *,
    host: str = "127.0.0.1",
    port: int = 8000,
    threads: int | None = None,
    token: str | None = None,
) -> None:
    """Serve artifacts over HTTP until SIGTERM or Ctrl-C.

    Args:
        artifacts: artifact folders; each is served under its folder's name, the first is the default.
        host: address to bind; loopback unless told otherwise.
        port: 0: any free one.
        threads: of the engine.
        token: bearer token that requests must carry; better given as EDGEFT_TOKEN.
    """
    try:
        from edgeft.serve.server import serve as run_server
        from edgeft.serve.settings import ServeSettings
    except ModuleNotFoundError as error:
        from edgeft.errors import missing_extra

        raise missing_extra(error.name or "litestar", "to serve") from None
    import edgeft

    models = {model.name: model for model in (edgeft.load(path, threads=threads) for path in artifacts)}
    run_server(models, ServeSettings(host=host, port=port, token=token or os.environ.get("EDGEFT_TOKEN")))


# --------------------------------------------------------------------------------------------------------- recipes


@recipe_app.command(name="list")
def recipe_list(*, json: Json = False) -> None:
    """The built-in recipes."""
    names = recipe.builtin_names()
    print("\n".join(names))
    if json:
        _print_json(names)


@recipe_app.command(name="show")
def recipe_show(name: str, *, set: Annotated[list[str] | None, Parameter(consume_multiple=False)] = None) -> None:
    """A recipe with every default written out.

    Args:
        name: recipe file or built-in recipe.
        set: any option, as in --set distill.epochs=2.
    """
    print(recipe.to_yaml(recipe.load(name, recipe.parse_settings(set or []))), end="")


@recipe_app.command(name="schema")
def recipe_schema() -> None:
    """The JSON Schema of a recipe."""
    _print_json(recipe.json_schema())


@recipe_app.command(name="docs")
def recipe_docs() -> None:
    """Every option as Markdown, as in docs/recipe.md."""
    print(recipe.markdown(), end="")

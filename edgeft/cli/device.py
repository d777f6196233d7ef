"""What a device does with an artifact."""

from __future__ import annotations

import itertools
import os
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeAlias

import msgspec
from cyclopts import Parameter

import edgeft
from edgeft import recipe
from edgeft.cli.app import Flat, Json, app, print_json, stdout
from edgeft.errors import GateError, UserError, missing_extra
from edgeft.progress import track
from edgeft.recipe import BenchConfig

if TYPE_CHECKING:
    from edgeft.runtime.classification import Prediction

Answers: TypeAlias = "Iterable[tuple[str, list[Prediction]]]"
File = Annotated[Path | None, Parameter(allow_leading_hyphen=True)]  # - is standard input


@app.command
def predict(
    artifact: Path,
    texts: list[str] | None = None,
    *,
    file: File = None,
    text_column: str = "text",
    out: Path | None = None,
    top_k: int = 1,
    batch_size: int = 1,
    threads: int | None = None,
    json: Json = False,
) -> None:
    """Predict the label of texts, of those of a file of any size, or of the lines of standard input.

    Args:
        artifact: the artifact folder.
        texts: texts.
        file: UTF-8: .jsonl objects, a .csv or .tsv table, else one text a line; - is the lines of standard input.
        text_column: of a table or of objects.
        out: .jsonl that the answers go to, one object a text, instead of the screen; files may be of any size.
        top_k: so many labels for each text.
        batch_size: texts in a forward pass; above 1 the answers of an int8 graph depend a little on their neighbours.
        threads: of the engine.
    """
    from edgeft.runtime.texts import texts as read

    if not texts and file is None:
        raise UserError("predict: no text; give TEXT or --file FILE")
    if out is not None:
        _check_out(out, file, json)
    given = itertools.chain(texts or [], read(file, text_column) if file else [])
    first = next(given, None)  # so that a file that can't be read is said before a model is loaded
    if first is None:
        raise UserError(f"predict: {file} has no text")
    shown, asked = itertools.tee(itertools.chain([first], given))
    model = edgeft.load(artifact, threads=threads)
    answers = zip(shown, model.predict_many(asked, batch_size, top_k=top_k), strict=True)
    if out is not None:
        _write_answers(answers, out)
    else:
        _print_answers(answers, alone=file is None and len(texts or []) == 1, json=json)


def _check_out(out: Path, file: Path | None, json: bool) -> None:
    if json:
        raise UserError("predict: --out and --json both take the answers; give one of them")
    if out.suffix != ".jsonl":
        raise UserError(f"predict: --out {out}: the answers are JSON lines; name it {out.with_suffix('.jsonl')}")
    if not out.parent.is_dir():
        raise UserError(f"predict: --out {out}: there is no folder {out.parent}")
    if file is not None and out.resolve() == file.resolve():
        raise UserError(f"predict: --out {out} is the file that is read; name another one")


def _write_answers(answers: Answers, out: Path) -> None:
    """One JSON object a line; the file is there when all are."""
    with tempfile.NamedTemporaryFile(dir=out.parent, prefix=f"{out.name}.", delete=False) as part:
        try:
            for text, found in track(answers, "predict"):
                part.write(msgspec.json.encode({"text": text, "predictions": found}) + b"\n")
            part.close()
            Path(part.name).replace(out)
        except BaseException:
            Path(part.name).unlink(missing_ok=True)
            raise


def _print_answers(answers: Answers, alone: bool, json: bool) -> None:
    """One line for each text, and with `json` all of them at the end."""
    kept = []
    for text, found in answers:
        shown = "  ".join(f"{item['label']} {item['score']:.4f}" for item in found)
        print(shown if alone else f"{shown}\t{' '.join(text.split())}")
        if json:
            kept.append({"text": text, "predictions": found})
    if json:
        print_json(kept)


@app.command
def verify(artifact: Path, *, replay: Annotated[bool, Parameter(negative="")] = False, json: Json = False) -> None:
    """Check an artifact's files against its manifest, and with --replay its answers against the recorded ones.

    Args:
        artifact: the artifact folder.
        replay: run the golden rows on this machine.
    """
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
        print_json(document)
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
        print_json(manifest)


@app.command
def bench(
    artifacts: list[Path],
    *,
    file: File = None,
    text_column: str = "text",
    config: Annotated[BenchConfig | None, Flat] = None,
    json: Json = False,
) -> None:
    """Measure artifacts side by side on this machine, their queries interleaved.

    Args:
        artifacts: artifact folders; ratios are against the first.
        file: texts to ask, as `predict` reads them; none: the artifact's golden rows.
        text_column: of a table or of objects.
    """
    from edgeft.bench import measure, table
    from edgeft.runtime.texts import texts as read

    config = config or BenchConfig()
    recipe.check_stage("bench", config)
    texts = list(read(file, text_column)) if file else measure.texts_of(artifacts[0])
    result = table.show(measure.compare(artifacts, texts, config), stdout())
    if json:
        print_json(result)


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
        raise missing_extra(error.name or "litestar", "to serve") from None

    models = {model.name: model for model in (edgeft.load(path, threads=threads) for path in artifacts)}
    run_server(models, ServeSettings(host=host, port=port, token=token or os.environ.get("EDGEFT_TOKEN")))

"""What a device does with an artifact."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter

import edgeft
from edgeft import recipe
from edgeft.cli.app import Flat, Json, app, print_json, stdout
from edgeft.errors import GateError, UserError, missing_extra
from edgeft.recipe import BenchConfig


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
        print_json([{"text": text, "predictions": answer} for text, answer in zip(given, answers, strict=True)])


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

"""From an artifact folder to the model of its kind."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import msgspec
from tokenizers import Tokenizer

from edgeft import artifact, tasks
from edgeft.artifact import Manifest
from edgeft.errors import ArtifactError
from edgeft.runtime.engine import CPU, INPUTS, Engine
from edgeft.runtime.graph_check import check_graph
from edgeft.runtime.machine.memory import give_back
from edgeft.runtime.machine.threads import fastest, usable_cores
from edgeft.runtime.model import Model
from edgeft.runtime.tokenization import check_parts, load_tokenizer, parse_tokenizer, try_tokenizer
from edgeft.signing import PublicKey, Trusted, check_signature, read_trusted


def model_class(kind: str) -> type[Model]:
    """The subclass of `Model` for artifacts of this kind.

    Args:
        kind: as the manifest names it.

    Raises:
        DataError: no artifact is of this kind.
    """
    model: type[Model] = tasks.load_part(tasks.find_form(kind), "model")
    return model


def assemble(
    folder: Path,
    manifest: Manifest,
    graph: Path | None = None,
    threads: int | None = None,
    provider: str = CPU,
    native: bool = True,
    exact: bool | None = None,
    spinning: bool | None = None,
) -> Model:
    """A model of files that nobody has checked.

    Args:
        folder: has the tokenizer.
        manifest: kind, labels and inputs.
        graph: the ONNX file; None: the folder's own.
        threads: of one operator; None: the cores this process really has.
        provider: an onnxruntime execution provider.
        native: as of `Engine`.
        exact: as of `Engine`.
        spinning: as of `Engine`.

    Raises:
        ArtifactError: a kind or an input that this runtime doesn't know, or files that can't be loaded.
    """
    graph = graph or folder / artifact.MODEL
    tokenizer = load_tokenizer(folder / artifact.TOKENIZER, _truncation(manifest))
    _check_kind(folder, manifest)
    inputs = manifest.inputs
    engine = Engine(graph, inputs.pad_token_id, threads, provider, native, exact, spinning)
    return _build(folder, manifest, engine, tokenizer)


def _check_kind(folder: Path, manifest: Manifest) -> None:
    """Check that this runtime knows the artifact's kind and that its decoding settings are valid.

    Raises:
        ArtifactError: the kind is unknown, or its decoding settings are invalid.
    """
    kinds = tasks.name_forms(lambda form: form.can_ship)
    if manifest.kind not in kinds:
        raise ArtifactError(f"{folder}: its kind {manifest.kind[:80]!r} is none of {', '.join(kinds)}")
    try:
        msgspec.convert(manifest.decoding, model_class(manifest.kind).Decoding)
    except msgspec.ValidationError as error:
        raise ArtifactError(f"{folder}: decoding, of its {artifact.MANIFEST}: {error}") from None


def _build(folder: Path, manifest: Manifest, engine: Engine, tokenizer: Tokenizer) -> Model:
    if unknown := set(engine.input_names) - set(INPUTS):
        raise ArtifactError(f"{folder}: its graph asks for {', '.join(sorted(unknown))}; given are {', '.join(INPUTS)}")
    return model_class(manifest.kind)(folder, manifest, engine, tokenizer)


def _truncation(manifest: Manifest) -> int | None:
    """Tokens to which texts are truncated; None: they are read in windows."""
    return None if manifest.inputs.stride else manifest.inputs.max_length


def load(
    path: str | Path,
    threads: int | None = None,
    provider: str = CPU,
    spinning: bool | None = None,
    trusted: Iterable[Trusted] | Trusted | None = None,
) -> Model:
    """Load an artifact and check that it is the one that was written.

    Args:
        path: the artifact folder.
        threads: of one operator; None: by what was measured when the artifact was made, on at most the cores that
            this process really has.
        provider: an onnxruntime execution provider.
        spinning: whether idle threads wait in a loop; None: not in a container with a share of the cores.
        trusted: public keys, as paths of PEM files, PEM or their 32 bytes: only what one of them signed is loaded;
            None: signatures aren't looked at.

    Raises:
        ArtifactError: missing, half-written, changed, not signed by a trusted key, or a folder that no edgeft wrote:
            one that reads other files, runs without bound, or answers in another shape.
        MissingExtraError: a package is missing: onnxruntime, one that cleaning its texts needs, or cryptography if
            `trusted` is given.
        ModelError: the model that finds names for the cleaning is not there.
        UserError: the provider is not installed, or a trusted key is none.
    """
    folder = Path(path)
    manifest, signer = read_signed(folder, trusted)
    contents = artifact.verify_files(folder, manifest, artifact.REQUIRED)
    threads = threads or fastest(manifest.latency.get("by_threads_ms") or {}, usable_cores())
    model = load_contents(folder, manifest, contents, threads, provider, spinning=spinning)
    model.signer = signer.fingerprint if signer else None
    give_back()  # the graph's bytes, which the session has copies of
    return model


def read_signed(folder: Path, trusted: Iterable[Trusted] | Trusted | None) -> tuple[Manifest, PublicKey | None]:
    """The manifest of an artifact, of the very bytes whose signature was checked, and whose key signed them.

    Args:
        folder: the artifact, files not yet checked.
        trusted: as of `load`.

    Raises:
        ArtifactError: as of `load`.
        MissingExtraError: cryptography is not installed.
        UserError: a trusted key is none.
    """
    keys = None if trusted is None else read_trusted(trusted)
    content = artifact.read_manifest_bytes(folder)
    signer = None if keys is None else check_signature(folder, content, keys)
    return artifact.parse_manifest(folder, content), signer


def load_contents(
    folder: Path,
    manifest: Manifest,
    contents: dict[str, bytes],
    threads: int | None = None,
    provider: str = CPU,
    native: bool = True,
    spinning: bool | None = None,
) -> Model:
    """Build a model of the bytes whose digests were compared; they are still checked as untrusted input.

    Args:
        folder: for messages, and where further files are.
        manifest: what the artifact says of itself.
        contents: of graph and tokenizer, as `artifact.verify_files` gives them; taken out as they are used.
        threads: as of `Engine`.
        provider: likewise.
        native: likewise.
        spinning: likewise.

    Raises:
        ArtifactError: as of `load`.
    """
    _check_kind(folder, manifest)
    check_provider(folder, manifest, provider)
    content, path = contents.pop(artifact.TOKENIZER), folder / artifact.TOKENIZER
    largest_id = check_parts(content, path)
    tokenizer = parse_tokenizer(content, path, _truncation(manifest))
    try_tokenizer(tokenizer, path)
    del content
    graph = folder / artifact.MODEL
    check_graph(contents[artifact.MODEL], str(graph))
    engine = Engine(
        graph,
        manifest.inputs.pad_token_id,
        threads,
        provider,
        native,
        spinning=spinning,
        content=contents.pop(artifact.MODEL),
    )
    model = _build(folder, manifest, engine, tokenizer)
    model.check_graph_answers(largest_id)
    model.checks_answers = True
    return model


def check_provider(folder: Path, manifest: Manifest, provider: str) -> None:
    """Whether the artifact's operators are those of a provider.

    Raises:
        ArtifactError: they aren't, and onnxruntime would run them elsewhere without a word.
    """
    precision = manifest.quantization.precision
    if precision.startswith("int") and provider != CPU:
        raise ArtifactError(
            f"{folder} is {precision}, whose operators are made for {CPU}, not for {provider}; "
            "export it with --precision fp16, or load it without a provider"
        )
    if precision == "fp16" and provider == CPU:
        raise ArtifactError(f"{folder} is fp16, which a CPU runs slowly; load it with provider='CUDAExecutionProvider'")

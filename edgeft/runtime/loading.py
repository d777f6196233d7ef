"""From an artifact folder to the model of its kind."""

from __future__ import annotations

from pathlib import Path

from tokenizers import Tokenizer

from edgeft import artifact
from edgeft.artifact import Manifest
from edgeft.errors import ArtifactError
from edgeft.runtime.classification import Classifier
from edgeft.runtime.embeddings import Embedder
from edgeft.runtime.engine import CPU, INPUTS, Engine
from edgeft.runtime.model import Model
from edgeft.runtime.questions import Reader
from edgeft.runtime.tags import Tagger
from edgeft.runtime.threads import fastest, usable_cores

# As the manifest names them; the forms of rows that training knows, and embeddings.
KINDS: dict[str, type[Model]] = {
    "single-label": Classifier,
    "multi-label": Classifier,
    "regression": Classifier,
    "tokens": Tagger,
    "squad": Reader,
    "embeddings": Embedder,
}


def load_tokenizer(path: Path, max_length: int | None) -> Tokenizer:
    """The fast tokenizer without padding.

    Args:
        path: tokenizer.json.
        max_length: texts are truncated to so many tokens, as in training; None: they are not.

    Raises:
        ArtifactError: the file is not a tokenizer.
    """
    try:
        tokenizer = Tokenizer.from_file(str(path))
    except Exception as error:  # noqa: BLE001 - the Rust side raises plain Exception
        raise ArtifactError(f"{path} is not a tokenizer: {' '.join(str(error).split())[:200]}") from None
    tokenizer.no_padding()
    if max_length is None:
        tokenizer.no_truncation()
    else:
        tokenizer.enable_truncation(max_length)
    return tokenizer


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
    if manifest.kind not in KINDS:
        raise ArtifactError(f"{folder}: its kind {manifest.kind!r} is none of {', '.join(KINDS)}")
    inputs = manifest.inputs
    engine = Engine(graph or folder / artifact.MODEL, inputs.pad_token_id, threads, provider, native, exact, spinning)
    if unknown := set(engine.input_names) - set(INPUTS):
        raise ArtifactError(f"{folder}: its graph asks for {', '.join(sorted(unknown))}; given are {', '.join(INPUTS)}")
    tokenizer = load_tokenizer(folder / artifact.TOKENIZER, None if inputs.stride else inputs.max_length)
    return KINDS[manifest.kind](folder, manifest, engine, tokenizer)


def load(path: str | Path, threads: int | None = None, provider: str = CPU, spinning: bool | None = None) -> Model:
    """Load an artifact and check that it is the one that was written.

    Args:
        path: the artifact folder.
        threads: of one operator; None: by what was measured when the artifact was made, on at most the cores that
            this process really has.
        provider: an onnxruntime execution provider.
        spinning: whether idle threads wait in a loop; None: not in a container with a share of the cores.

    Raises:
        ArtifactError: missing, half-written or changed.
        MissingExtraError: onnxruntime is not installed, or what the cleaning of its texts needs.
        ModelError: the model that finds names for the cleaning is not there.
        UserError: the provider is not installed.
    """
    folder = Path(path)
    manifest = artifact.read_manifest(folder)
    artifact.verify_files(folder, manifest)
    check_provider(folder, manifest, provider)
    threads = threads or fastest(manifest.latency.get("by_threads_ms", {}), usable_cores())
    return assemble(folder, manifest, None, threads, provider, spinning=spinning)


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

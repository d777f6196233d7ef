"""The artifact folder: what ships. Its manifest is written last and holds the digest of every other file."""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import math
from collections.abc import Collection
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from edgeft.cleaning import Cleaning
from edgeft.errors import ArtifactError
from edgeft.files import file_sha256, open_regular, sync_file, sync_folder, write_json
from edgeft.listed_files import File, describe_bad_list, describe_problem, read_files, read_listed

# 2: inputs.cleaning, which an earlier runtime would pass over and answer differently. 3: kind, likewise. 4:
# calibration.selective, without which it would answer where it has to abstain.
SCHEMA_VERSION = 4
MANIFEST = "manifest.json"
MODEL = "model.onnx"
TOKENIZER = "tokenizer.json"
RECIPE = "recipe.yaml"
GOLDEN = "golden.json"
CARD = "README.md"
REPORT = "report.html"
REQUIRED = (MODEL, TOKENIZER)
INSIDE_RUN = "artifact"  # where a run folder has its artifact
LOOKED_AT, PROPOSED = 1000, 3  # entries of a folder in which artifacts are looked for, and those that a message names
MANIFEST_BYTES = 2**23

# What a manifest from elsewhere may say; checked when it is read.
Word = Annotated[str, Meta(max_length=1_000)]
Share = Annotated[float, Meta(ge=0, le=1)]


@dataclass(frozen=True, kw_only=True)
class InputSpec:
    """How a text becomes the graph's inputs.

    Attributes:
        names: the graph's inputs, int64 arrays of shape (batch, tokens); `input_ids` and, where the graph has them,
            `attention_mask` (1 for a token, 0 for padding) and `token_type_ids` (1 for the second of two texts).
        max_length: tokens of a forward pass, special ones included.
        stride: tokens that the windows of a longer text share; 0: it is truncated.
        pad_token_id: fills the shorter texts of a batch, on the right.
        cleaning: what a text is changed to before it is tokenized.
        cleaning_versions: package to its version, of those that the cleaning rests on.
    """

    names: Annotated[list[Word], Meta(max_length=16)]
    max_length: Annotated[int, Meta(ge=1, le=1_000_000)]
    pad_token_id: Annotated[int, Meta(ge=0, lt=2**31)]
    stride: Annotated[int, Meta(ge=0, lt=1_000_000)] = 0
    cleaning: Cleaning = field(default_factory=Cleaning)
    cleaning_versions: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Quantization:
    """The graph's precision, and why it was chosen.

    Attributes:
        precision: as a recipe names it, `int8`, `fp32`, ...
        scheme: the same in a line.
        smoothing: share of the activations' range that moved into the weights.
        float_layers: weights that stayed fp32 inside an int8 graph.
        agreement: share of validation answers that equal those of the fp32 graph.
        max_logit_difference: against the fp32 graph, on the same rows.
        fp32_bytes: size of the fp32 graph.
        speedup: median latency of the fp32 graph over this one's, on the machine that exported.
        proved_on: what ran when the answers were seen to be equal: kernels, platform, processor, engine and version.
        reason: why this precision ships.
    """

    precision: Word
    scheme: str
    smoothing: float = 0.0
    float_layers: list[str] = field(default_factory=list)
    agreement: float = 1.0
    max_logit_difference: float = 0.0
    fp32_bytes: int = 0
    speedup: float = 1.0
    proved_on: list[str] = field(default_factory=list)
    reason: str = ""


@dataclass(frozen=True, kw_only=True)
class GoldenRows:
    """The content of golden.json.

    Attributes:
        rows: recorded inputs.
        tolerance: largest allowed difference of a number in a replay.
        candidates: inputs that were tried; what another kernel answers otherwise, or too far away, was left out.
        texts: whether the rows hold their texts, and not only the token ids.
        note: why there are fewer rows than usual.
    """

    rows: int
    tolerance: float
    candidates: int = 0
    texts: bool = True
    note: str = ""


@dataclass(frozen=True, kw_only=True)
class Selective:
    """Which answers are marked with `"abstain": true`, and the measured effect.

    Attributes:
        threshold: an answer whose probability is lower is marked; None: no threshold holds the rate, all are marked.
        max_error: at most so large a share of the unmarked answers is to be wrong.
        confidence: with which the threshold holds that on rows like those of the validation split.
        share: of the answers, by split, those that are not marked.
        error: share of wrong ones among them, by split; 0 where there is none.
    """

    threshold: Share | None
    max_error: Share
    confidence: Annotated[float, Meta(ge=0, lt=1)]
    share: dict[str, float] = field(default_factory=dict)
    error: dict[str, float] = field(default_factory=dict)

    @property
    def line(self) -> str:
        """The same in one readable line."""
        held = f"at most {self.max_error:.1%} of them wrong, with {self.confidence:.0%} confidence"
        if self.threshold is None:
            wants = ""
            if 0 < self.max_error < 1:
                least = math.ceil(math.log(1 - self.confidence) / math.log(1 - self.max_error))
                wants = f"; it takes at least {least} validation rows that are answered right"
            return f"every answer abstains: no threshold lets answers through and {held}{wants}"
        if self.threshold == 0:
            return f"no answer abstains: {held.replace('of them', 'of all')}"
        seen = ", ".join(f"{share:.1%} of the {split} texts" for split, share in self.share.items())
        return f"answers below {self.threshold:.4f} abstain; the others: {held}; they are {seen}"


@dataclass(frozen=True, kw_only=True)
class Calibration:
    """How the graph turns logits into probabilities; calibration.json.

    Attributes:
        method: `none`, `temperature`, `vector` or `isotonic`.
        reason: why this one.
        temperature: divides the logits; 1 where the method is another.
        scale: of vector scaling, multiplies the logit of each label.
        bias: likewise, is added to it.
        isotonic: of each label, points (score, probability), both rising, between which it is interpolated; a score is
            the probability without calibration.
        cross_validation: NLL of each method that was tried, on validation rows that it was not fitted on.
        validation: `ece`, `nll` and `brier` on that split, `before` and `after`.
        test: likewise.
        selective: which answers are marked; None: none is.
    """

    method: str = "none"
    reason: str = ""
    temperature: float = 1.0
    scale: list[float] = field(default_factory=list)
    bias: list[float] = field(default_factory=list)
    isotonic: list[list[tuple[float, float]]] = field(default_factory=list)
    cross_validation: dict[str, float] = field(default_factory=dict)
    validation: dict[str, dict[str, float]] = field(default_factory=dict)
    test: dict[str, dict[str, float]] = field(default_factory=dict)
    selective: Selective | None = None

    @property
    def keeps_answers(self) -> bool:
        """Whether calibration leaves the label of every text unchanged."""
        return self.method not in ("vector", "isotonic")


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """`manifest.json`.

    Attributes:
        schema_version: of this document.
        edgeft_version: that wrote it.
        task: the ecosystem's tag.
        kind: which of the task's forms, as in `multi-label`; it decides how the graph's outputs are read.
        decoding: what reading them needs beside the labels, by kind.
        labels: in the order of the logits.
        inputs: how a text becomes the graph's inputs.
        quantization: precision and the figures behind it.
        calibration: how the graph makes probabilities of logits, and what that was seen to do.
        parity: fp32 graph against torch: rows, largest logit difference, tolerance.
        metrics: of baseline, teacher, student and artifact, all on the same test split.
        latency: of the artifact, with the machine described.
        recipe_sha256: digest of recipe.yaml.
        data_sha256: digest of the data stage's folder.
        lineage: the models this one came from.
        licences: what is known of the licences of model and data.
        golden: what golden.json holds; None in artifacts of earlier versions, and where there is none.
        files: every other file of the folder.
    """

    task: Word
    labels: Annotated[list[Word], Meta(max_length=100_000)]
    inputs: InputSpec
    quantization: Quantization
    kind: Word = "single-label"
    decoding: dict[str, Any] = field(default_factory=dict)
    schema_version: int = SCHEMA_VERSION
    edgeft_version: str = ""
    calibration: Calibration = field(default_factory=Calibration)
    parity: dict[str, Any] = field(default_factory=dict)
    metrics: dict[str, dict[str, Any]] = field(default_factory=dict)
    latency: dict[str, Any] = field(default_factory=dict)
    recipe_sha256: str = ""
    data_sha256: str = ""
    lineage: dict[str, Any] = field(default_factory=dict)
    licences: dict[str, str] = field(default_factory=dict)
    golden: GoldenRows | None = None
    files: dict[str, File] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class _Versioned:
    """The part of a manifest that is read before its schema version is known."""

    schema_version: int = SCHEMA_VERSION


def write_manifest(folder: Path, manifest: Manifest, files: list[str]) -> Manifest:
    """Write the manifest, as the last file of the artifact: when it is on the disk, so are the files that it lists.

    Args:
        folder: the artifact, every other file already in place.
        manifest: without `files`, which are filled in here.
        files: the names that the artifact holds.
    """
    for name in files:
        sync_file(folder / name)
    sync_folder(folder)
    entries = {
        name: File(sha256=file_sha256(folder / name), bytes=(folder / name).stat().st_size) for name in sorted(files)
    }
    listed = dataclasses.replace(manifest, files=entries)
    write_json(folder / MANIFEST, listed)
    return listed


@dataclass(frozen=True, kw_only=True)
class _Interval:
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True, kw_only=True)
class _MetricsRead:
    """What the runtime reads of the metrics of one model."""

    intervals: dict[str, _Interval] | None = None


@dataclass(frozen=True, kw_only=True)
class _LatencyRead:
    """What the runtime reads of the latency."""

    by_threads_ms: dict[Annotated[str, Meta(pattern="^[0-9]{1,4}$")], Annotated[float, Meta(ge=0)]] | None = None
    latency: dict[str, Any] | None = None
    machine: dict[str, Any] | None = None


def read_manifest(folder: Path) -> Manifest:
    """Read the manifest of an artifact, without checking its files.

    Raises:
        ArtifactError: no artifact there, half-written, of a later schema, or with a value that no manifest has.
    """
    return parse_manifest(folder, read_manifest_bytes(folder))


def read_manifest_bytes(folder: Path) -> bytes:
    """The exact bytes of an artifact's manifest.

    Raises:
        ArtifactError: there is none, or it is too large to be one.
    """
    if not folder.is_dir():
        raise ArtifactError(f"{folder}: no such artifact folder{_hint(folder.parent)}")
    try:
        with open_regular(folder / MANIFEST) as file:
            content = file.read(MANIFEST_BYTES + 1)
    except FileNotFoundError:
        raise ArtifactError(
            f"{folder} is not a whole artifact: it has no {MANIFEST}, which is written last{_hint(folder)}"
        ) from None
    except OSError as error:
        raise ArtifactError(f"{folder} is not an artifact: its {MANIFEST} {describe_problem(error)}") from None
    if len(content) > MANIFEST_BYTES:
        raise ArtifactError(f"{folder / MANIFEST} has more than {MANIFEST_BYTES:,} bytes, which no manifest has")
    return content


def _hint(folder: Path) -> str:
    """Words that propose the artifacts near a folder: in it, in run folders in it, beside it in a run folder."""
    inside = [folder / INSIDE_RUN]
    with contextlib.suppress(OSError):
        inside += sorted(path / INSIDE_RUN for path in itertools.islice(folder.iterdir(), LOOKED_AT))
    inside.append(folder.parent / INSIDE_RUN)
    near = [str(path) for path in inside if (path / MANIFEST).is_file()][:PROPOSED]
    return f"; did you mean {' or '.join(near)}?" if near else ""


def parse_manifest(folder: Path, content: bytes) -> Manifest:
    """Parse the bytes of a manifest.

    Args:
        folder: of the artifact, for messages.
        content: of manifest.json.

    Raises:
        ArtifactError: half-written, of a later schema, or with a value that no manifest has.
    """
    try:
        version = msgspec.json.decode(content, type=_Versioned).schema_version
        if version <= SCHEMA_VERSION:
            manifest = msgspec.json.decode(content, type=Manifest)
            msgspec.convert(manifest.metrics, dict[str, _MetricsRead])
            msgspec.convert(manifest.latency, _LatencyRead)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ArtifactError(f"{folder / MANIFEST} can't be read: {error}") from None
    if version > SCHEMA_VERSION:
        raise ArtifactError(
            f"{folder} has manifest schema {version}, this edgeft reads up to {SCHEMA_VERSION}: install a newer edgeft"
        )
    if problem := _problem(manifest):
        raise ArtifactError(f"{folder / MANIFEST} {problem}")
    return manifest


def _problem(manifest: Manifest) -> str | None:
    """The first inconsistency in a manifest; None if there is none."""
    inputs = manifest.inputs
    if inputs.stride >= inputs.max_length:
        return f"has stride {inputs.stride}, which must be less than max_length {inputs.max_length}"
    if len(set(manifest.labels)) < len(manifest.labels):
        return "has the same label twice"
    return describe_bad_list(manifest.files)


def verify_files(folder: Path, manifest: Manifest, contents_of: Collection[str] = ()) -> dict[str, bytes]:
    """Compare every file with the manifest, each read once.

    Args:
        folder: the artifact.
        manifest: what it says of itself.
        contents_of: the files whose content is needed.

    Returns:
        Name to content of these files: the same bytes that were compared.

    Raises:
        ArtifactError: names each file that is missing or changed.
    """
    contents, problems = read_files(folder, manifest.files, contents_of)
    problems += [f"{name} is not listed in the manifest" for name in REQUIRED if name not in manifest.files]
    if problems:
        raise ArtifactError(f"{folder} is not the artifact that was written: {'; '.join(problems)}")
    return contents


def read_file(folder: Path, manifest: Manifest, name: str) -> bytes:
    """Read one file and compare it with the manifest.

    Raises:
        ArtifactError: it isn't listed, is missing, or was changed.
    """
    file = manifest.files.get(name)
    if file is None:
        raise ArtifactError(f"{folder} has no {name} in its {MANIFEST}")
    try:
        return read_listed(folder / name, file)
    except (OSError, ValueError) as error:
        problem = f"{name} {describe_problem(error)}"
        raise ArtifactError(f"{folder} is not the artifact that was written: {problem}") from None


def total_bytes(manifest: Manifest) -> int:
    """Bytes of the files a device needs: the graph and the tokenizer."""
    return sum(manifest.files[name].bytes for name in REQUIRED if name in manifest.files)

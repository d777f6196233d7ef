"""One .onnx file of an artifact: strings in, probabilities out, the tokenizer inside the graph.

What runs it is onnxruntime with onnxruntime-extensions. Nothing is written before the tokenizer inside was seen to be
equal to the artifact's own on thousands of odd texts, and the probabilities to the artifact's.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
from numpy.typing import NDArray
from onnx import TensorProto, helper, inliner
from tokenizers import Tokenizer

from edgeft import artifact, tasks
from edgeft.artifact import Manifest
from edgeft.errors import ArtifactError, GateError, ModelError, UserError, require
from edgeft.export.layouts import text_graph
from edgeft.export.layouts.odd_texts import odd_texts, words_of
from edgeft.export.layouts.text_graph import CONTRIB, EXTENSIONS, IDS, MASK, TEXT, Nodes
from edgeft.files import written_whole
from edgeft.progress import track
from edgeft.runtime import Model
from edgeft.runtime.engine import pad
from edgeft.runtime.loading import load_contents
from edgeft.runtime.tokenization import check_parts, parse_tokenizer
from edgeft.runtime.verify import read_golden

LABELS = "labels"
OUTPUTS = ("logits", "probabilities")
BATCH = 50  # texts whose tokens are compared at once
ROWS = 64  # texts whose probabilities are compared
TOGETHER = 8  # of those, in one batch
TOLERANCE = 1e-5
INSTEAD = "ship the artifact folder, which edgeft.load and edgeft serve run"


@dataclass(frozen=True, kw_only=True)
class SingleFile:
    """What was written, and what was compared before.

    Attributes:
        path: the file.
        bytes: its size.
        texts: so many have the same tokens.
        rows: so many have the same probabilities.
        max_probability_difference: over these rows.
    """

    path: str
    bytes: int
    texts: int
    rows: int
    max_probability_difference: float


def write(folder: Path, out: Path, texts: Sequence[str] = ()) -> SingleFile:
    """Write an artifact as one file.

    Args:
        folder: the artifact, of a single-label classifier with a WordPiece tokenizer and without cleaning.
        out: the file; input `text`, strings (batch); outputs `probabilities` and `logits`, float32 (batch, labels);
            metadata `labels`, a JSON list in the order of the columns.
        texts: further texts to compare, beside the artifact's own and 10,000 odd ones.

    Raises:
        ArtifactError: the artifact can't be trusted, or is of a kind that no single file can hold.
        GateError: the file would answer otherwise than the artifact.
        MissingExtraError: onnxruntime-extensions is not installed.
        ModelError: its tokenizer is of a kind that the graph can't repeat.
        UserError: `out` can't be written.
    """
    _check_out(out)
    manifest = artifact.read_manifest(folder)
    contents = artifact.verify_files(folder, manifest, artifact.REQUIRED)
    _check_kind(folder, manifest)
    tokenizer_path = folder / artifact.TOKENIZER
    check_parts(contents[artifact.TOKENIZER], tokenizer_path)
    tokenizer = parse_tokenizer(contents[artifact.TOKENIZER], tokenizer_path, manifest.inputs.max_length)
    graph_bytes = contents[artifact.MODEL]
    model = load_contents(folder, manifest, contents, native=False)  # whoever runs a single file has no edgeft kernels
    nodes = _nodes(folder, tokenizer, manifest)
    graph = merge(onnx.load_from_string(graph_bytes), nodes, manifest.labels)
    model.engine.pass_tokens = None  # and no passes
    own = [*_recorded(model), *texts]
    odd = odd_texts(words_of(tokenizer), [token.content for token in tokenizer.get_added_tokens_decoder().values()])
    compare_tokens(folder, graph, tokenizer, manifest, [*own, *odd])
    rows = [*own[: ROWS // 2], *odd[:: len(odd) // ROWS]][:ROWS]
    difference = compare_probabilities(folder, session(graph), model, rows)
    size = _save(graph, out)
    return SingleFile(
        path=str(out), bytes=size, texts=len(own) + len(odd), rows=len(rows), max_probability_difference=difference
    )


def _check_out(out: Path) -> None:
    if out.suffix != ".onnx":
        raise UserError(f"single-file: {out} would be an ONNX model; name it {out.with_suffix('.onnx')}")
    if out.is_dir():
        raise UserError(f"single-file: {out} is a folder")
    if not out.parent.is_dir():
        raise UserError(f"single-file: there is no folder {out.parent}")


def _check_kind(folder: Path, manifest: Manifest) -> None:
    form = tasks.FORMS.get(manifest.kind)
    if form is not None and not form.can_be_single_file:
        raise ArtifactError(f"{folder}: a single file is made of text-classification artifacts, not of {manifest.task}")
    cleaning = manifest.inputs.cleaning
    if cleaning:
        names = [*cleaning.steps, *cleaning.anonymise, *([cleaning.names_model] if cleaning.names_model else [])]
        raise ArtifactError(f"{folder} cleans its texts ({', '.join(names)}), which no graph can do: {INSTEAD}")


def _nodes(folder: Path, tokenizer: Tokenizer, manifest: Manifest) -> Nodes:
    kind = json.loads(tokenizer.to_str())["model"]["type"]
    if kind != "WordPiece":
        raise ModelError(f"{folder}: its tokenizer is {kind}; only WordPiece comes out exactly in a graph: {INSTEAD}")
    try:
        return text_graph.wordpiece(tokenizer, manifest.inputs)
    except ModelError as error:
        raise ModelError(f"{folder}: {error}: {INSTEAD}") from None


def merge(graph: onnx.ModelProto, nodes: Nodes, labels: Sequence[str]) -> onnx.ModelProto:
    """Put the tokenizer in front of an artifact's graph, in place; its labels go into the metadata."""
    graph = inliner.inline_local_functions(graph)
    inner = graph.graph
    _keep_additions(inner)
    own = [*nodes.nodes, *inner.node]
    del inner.node[:], inner.input[:]
    inner.node.extend(own)
    inner.initializer.extend(nodes.constants)
    inner.input.append(helper.make_tensor_value_info(TEXT, TensorProto.STRING, ["batch"]))
    outputs = {value.name: value for value in inner.output}
    kept = [outputs[name] for name in reversed(OUTPUTS)]
    del inner.output[:]
    inner.output.extend(kept)
    there = {opset.domain for opset in graph.opset_import}
    graph.opset_import.extend(helper.make_opsetid(name, 1) for name in (CONTRIB, EXTENSIONS) if name not in there)
    helper.set_model_props(graph, {LABELS: json.dumps(list(labels), ensure_ascii=False)})
    return graph


def _keep_additions(graph: onnx.GraphProto) -> None:
    """Keep a session with plain options from fusing additions into layer normalizations.

    The runtime forbids that fusion by name; an application that opens a file can't be told to. Its rounding moves int8
    activations by whole steps (0.001 to 0.008 of a probability were seen). No fusion looks for a Sum.
    """
    normalized = {node.input[0] for node in graph.node if node.op_type == "LayerNormalization"}
    for node in graph.node:
        if node.op_type == "Add" and node.output[0] in normalized:
            node.op_type = "Sum"


def session(graph: onnx.ModelProto) -> ort.InferenceSession:
    """A session as an application makes it."""
    options = ort.SessionOptions()
    options.register_custom_ops_library(require("onnxruntime_extensions", "to run a tokenizer").get_library_path())
    options.add_session_config_entry("session.x64quantprecision", "1")
    options.log_severity_level = 3
    return ort.InferenceSession(graph.SerializeToString(), options, providers=["CPUExecutionProvider"])


def compare_tokens(
    folder: Path, graph: onnx.ModelProto, tokenizer: Tokenizer, manifest: Manifest, texts: Sequence[str]
) -> None:
    """Compare the tokens of every text, padded batches of them.

    Raises:
        GateError: names the first text that differs, and how many do.
    """
    tokens = session(text_graph.alone(graph))
    unequal: list[str] = []
    for start in track(range(0, len(texts), BATCH), "single-file: tokens"):
        batch = list(texts[start : start + BATCH])
        found = tokens.run([IDS, MASK], {TEXT: np.array(batch, dtype=object)})
        unequal += differing(batch, found, tokenizer, manifest.inputs.pad_token_id)
    if unequal:
        shown = ascii(unequal[0])
        shown = shown if len(shown) <= 80 else f"{shown[:77]}..."
        figures = f"{len(unequal)} of {len(texts)} texts would have other tokens in a graph, the first of them {shown}"
        raise GateError(f"{folder}: {figures}: {INSTEAD}")


def differing(
    batch: list[str], found: Sequence[NDArray[np.int64]], tokenizer: Tokenizer, pad_token_id: int
) -> list[str]:
    """The texts whose ids or mask, both (batch, tokens), are not the tokenizer's."""
    wanted = pad([encoding.ids for encoding in tokenizer.encode_batch(batch)], pad_token_id)
    if any(len(array) != len(batch) for array in found):
        return batch
    width = max(found[0].shape[1], wanted[IDS].shape[1])
    different = np.zeros(len(batch), dtype=bool)
    for mine, other, filler in ((found[0], wanted[IDS], pad_token_id), (found[1], wanted[MASK], 0)):
        different |= (_widened(mine, width, filler) != _widened(other, width, filler)).any(axis=1)
    return [text for text, differs in zip(batch, different, strict=True) if differs]


def _widened(array: NDArray[np.int64], width: int, filler: int) -> NDArray[np.int64]:
    return np.pad(array, ((0, 0), (0, width - array.shape[1])), constant_values=filler)


def compare_probabilities(folder: Path, single: Any, model: Model, texts: Sequence[str]) -> float:
    """Compare the probabilities of texts one by one, and of the first few in one batch.

    Returns:
        The largest difference.

    Raises:
        GateError: it is above the tolerance.
    """
    together = list(texts[:TOGETHER])
    pairs = [(_answer(single, [text]), model.probabilities([text])) for text in texts]
    pairs.append((_answer(single, together), model.probabilities(together, batch_size=len(together))))
    worst = max(float(np.abs(mine - other).max()) for mine, other in pairs)
    if worst > TOLERANCE:
        raise GateError(f"{folder}: the single file's probabilities differ by {worst:.1e}, allowed are {TOLERANCE:.0e}")
    return worst


def _answer(single: Any, texts: list[str]) -> NDArray[np.float32]:
    """The file's probabilities, float32 (texts, labels)."""
    answers: NDArray[np.float32] = single.run(["probabilities"], {TEXT: np.array(texts, dtype=object)})[0]
    return answers


def _recorded(model: Model) -> list[str]:
    """The texts of the golden rows, none where the artifact has none."""
    if artifact.GOLDEN not in model.manifest.files:
        return []
    return [row.text for row in read_golden(model).rows if isinstance(row.text, str)]


def _save(graph: onnx.ModelProto, out: Path) -> int:
    """Write the file in one step.

    Returns:
        Its bytes.
    """
    with written_whole(out) as file:
        return file.write(graph.SerializeToString(deterministic=True))

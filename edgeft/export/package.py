"""Stage `package`: calibration into the graph, golden rows; and `ship`, which adds what the run learned of it."""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
import onnx

import edgeft
from edgeft import artifact
from edgeft.artifact import Calibration, Manifest
from edgeft.data.dataset import load as load_dataset
from edgeft.errors import GateError
from edgeft.export import graph
from edgeft.files import write_json
from edgeft.progress import say
from edgeft.recipe import StageConfig
from edgeft.runtime.loading import assemble
from edgeft.runtime.verify import Golden, difference, record, replay
from edgeft.stage import Inputs, Metrics, digest, stage
from edgeft.train import tasks

GOLDEN_ROWS = 32
# Activations are rounded at run time: another kernel's last bit can move one of them by a step.
TOLERANCE, ROUNDED_TOLERANCE = 1e-3, 5e-2
MOST_APART = 10  # times the tolerance


def fill(config: StageConfig, inputs: Inputs, out_dir: Path) -> Metrics:
    """Make a calibrated artifact of an exported one, and replay its golden rows.

    Args:
        config: only the seed.
        inputs: `data`, `export` (an artifact without calibration) and `calibrate` (with calibration.json).
        out_dir: becomes a loadable artifact.

    Returns:
        Bytes of graph and tokenizer.

    Raises:
        GateError: the golden rows don't come out as recorded.
    """
    dataset = load_dataset(inputs["data"])
    manifest = artifact.read_manifest(inputs["export"])
    artifact.verify_files(inputs["export"], manifest)
    calibration = msgspec.json.decode((inputs["calibrate"] / "calibration.json").read_bytes(), type=Calibration)
    proto = onnx.load(inputs["export"] / artifact.MODEL)
    onnx.save(graph.set_calibration(proto, calibration), out_dir / artifact.MODEL)
    shutil.copyfile(inputs["export"] / artifact.TOKENIZER, out_dir / artifact.TOKENIZER)
    manifest = dataclasses.replace(
        manifest, calibration=calibration, data_sha256=digest(inputs["data"]), edgeft_version=edgeft.__version__
    )
    task = tasks.of_artifact(dataset, manifest)
    golden = write_golden(out_dir, manifest, task.given(dataset.test))
    whole = artifact.write_manifest(out_dir, manifest, [*artifact.REQUIRED, *golden])
    return {"bytes": artifact.total_bytes(whole)}


def write_golden(folder: Path, manifest: Manifest, inputs: Sequence[Any]) -> list[str]:
    """Record the first of some real inputs as golden rows and replay them; the manifest is not there yet.

    Returns:
        The name of the file.

    Raises:
        GateError: the replay differs from the record.
    """
    least = TOLERANCE if manifest.quantization.precision == "fp32" else ROUNDED_TOLERANCE
    least *= manifest.decoding.get("deviation", 1.0)
    golden = everywhere(
        record(assemble(folder, manifest), inputs[: 2 * GOLDEN_ROWS], least),
        record(assemble(folder, manifest, native=False), inputs[: 2 * GOLDEN_ROWS], least),
    )
    write_json(folder / artifact.GOLDEN, golden)
    found = replay(assemble(folder, manifest))
    if not found.passed:
        raise GateError(f"package: golden rows don't replay on the machine that recorded them: {found}")
    return [artifact.GOLDEN]


def everywhere(here: Golden, elsewhere: Golden) -> Golden:
    """The rows that are answered alike with edgeft's kernels and without them, and a tolerance that covers both.

    Args:
        here: recorded with the kernels, where this processor has them.
        elsewhere: the same inputs without them.

    Raises:
        GateError: no row is.
    """
    pairs = [pair for pair in zip(here.rows, elsewhere.rows, strict=True) if pair[0].label == pair[1].label]
    pairs = pairs[:GOLDEN_ROWS]
    if here.rows and not pairs:
        raise GateError(f"package: none of {len(here.rows)} rows is answered alike with edgeft's kernels and without")
    if len(pairs) < min(len(here.rows), GOLDEN_ROWS):
        say(f"package: {len(pairs)} golden rows; the others are answered otherwise without edgeft's kernels")
    apart = max((difference(one.logits, other.logits) for one, other in pairs), default=0.0)
    if apart > MOST_APART * here.tolerance:
        raise GateError(f"package: logits with edgeft's kernels and without are {apart:.2f} apart")
    return Golden(tolerance=max(here.tolerance, 2 * apart), rows=[one for one, _ in pairs])


run = stage("package")(fill)


def ship(package: Path, out_dir: Path, facts: Mapping[str, Any], files: Mapping[str, str]) -> Manifest:
    """Copy a package, add the run's files and facts, and write the manifest last.

    Args:
        package: a loadable artifact.
        out_dir: the artifact; empty.
        facts: fields of the manifest, as in `metrics`, `latency`, `lineage`.
        files: name to text, as in recipe.yaml, README.md, report.html.
    """
    manifest = artifact.read_manifest(package)
    artifact.verify_files(package, manifest)
    for name in manifest.files:
        shutil.copyfile(package / name, out_dir / name)
    for name, text in files.items():
        (out_dir / name).write_text(text, encoding="utf-8")
    whole = dataclasses.replace(manifest, **facts)
    return artifact.write_manifest(out_dir, whole, [*manifest.files, *files])

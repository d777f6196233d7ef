"""Stage `package`: calibration into the graph, golden rows; and `ship`, which adds what the run learned of it."""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import onnx

import edgeft
from edgeft import artifact
from edgeft.artifact import Calibration, GoldenRows, Manifest
from edgeft.data.dataset import load as load_dataset
from edgeft.errors import GateError
from edgeft.export.onnx import graph
from edgeft.files import write_json
from edgeft.keys import RUNNING
from edgeft.progress import say
from edgeft.recipe import StageConfig
from edgeft.runtime import Model
from edgeft.runtime.loading import assemble
from edgeft.runtime.verify import (
    MOST_TOLERANCE,
    Golden,
    GoldenRow,
    difference,
    leave_out_texts,
    read_golden,
    record,
    replay,
)
from edgeft.stage import stage
from edgeft.stage_folder import Inputs, Metrics, digest
from edgeft.train import tasks

GOLDEN_ROWS, LEAST_ROWS = 32, 30
CANDIDATES = 1024  # inputs that are tried before an artifact is refused
# Activations are rounded at run time: another kernel's last bit can move one of them by a step.
TOLERANCE, ROUNDED_TOLERANCE = 1e-3, 5e-2
MOST_APART = 10  # times that, and never more than half of what the runtime takes for a proof


def fill(config: StageConfig, inputs: Inputs, out_dir: Path) -> Metrics:
    """Make a calibrated artifact of an exported one, and replay its golden rows.

    Args:
        config: only the seed.
        inputs: `data`, `export` (an artifact without calibration) and `calibrate` (with calibration.json).
        out_dir: becomes a loadable artifact.

    Returns:
        `bytes` of graph and tokenizer, and `golden_rows`.

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
    task = tasks.create_artifact_task(dataset, manifest)
    golden = write_golden(
        out_dir, manifest, [*task.artifact_inputs(dataset.test), *task.artifact_inputs(dataset.validation)]
    )
    manifest = dataclasses.replace(manifest, golden=golden)
    whole = artifact.write_manifest(out_dir, manifest, [*artifact.REQUIRED, artifact.GOLDEN])
    return {"bytes": artifact.total_bytes(whole), "golden_rows": golden.rows}


def write_golden(folder: Path, manifest: Manifest, inputs: Sequence[Any]) -> GoldenRows:
    """Record some real inputs as golden rows and replay them; the manifest is not there yet.

    Args:
        folder: of the artifact to be.
        manifest: of it.
        inputs: real ones; as many are tried as it takes.

    Returns:
        What golden.json holds.

    Raises:
        GateError: too few inputs are answered alike without edgeft's kernels, or the replay differs from the record.
    """
    here, elsewhere = assemble(folder, manifest), assemble(folder, manifest, native=False)
    least = TOLERANCE if manifest.quantization.precision == "fp32" else ROUNDED_TOLERANCE
    chosen, tried = choose_rows(record_pairs(here, elsewhere, inputs[:CANDIDATES]), here.unit, least)
    check_count(len(chosen), tried)
    tolerance = measure_tolerance(chosen, least * here.unit)
    write_json(folder / artifact.GOLDEN, Golden(tolerance=tolerance, rows=[pair.here for pair in chosen]))
    found = replay(here)
    if not found.passed:
        raise GateError(f"package: golden rows don't replay on the machine that recorded them: {found}")
    note = f"only {tried} test and validation rows" if len(chosen) < LEAST_ROWS else ""
    if note:
        say(f"package: {len(chosen)} golden rows instead of {GOLDEN_ROWS}: there are {note}")
    return GoldenRows(rows=len(chosen), tolerance=tolerance, candidates=tried, note=note)


@dataclass(frozen=True)
class Pair:
    """One input, recorded twice.

    Attributes:
        here: with edgeft's kernels, where this processor has them.
        elsewhere: without them.
    """

    here: GoldenRow
    elsewhere: GoldenRow

    @property
    def apart(self) -> float:
        """The largest difference of a number."""
        return difference(self.here.logits, self.elsewhere.logits)


def record_pairs(here: Model, elsewhere: Model, inputs: Sequence[Any]) -> Iterator[Pair]:
    """Each input as both models answer it, a few at a time."""
    for start in range(0, len(inputs), GOLDEN_ROWS):
        recorded = (record(model, inputs[start : start + GOLDEN_ROWS], 0.0).rows for model in (here, elsewhere))
        yield from (Pair(*rows) for rows in zip(*recorded, strict=True))


def choose_rows(pairs: Iterable[Pair], unit: float, least: float) -> tuple[list[Pair], int]:
    """The first rows that are answered alike, with numbers near to each other; others are never made up for by a
    wider tolerance.

    Args:
        pairs: read until there are enough.
        unit: of the numbers.
        least: tolerance that right runs need in any case, in that unit.

    Returns:
        At most `GOLDEN_ROWS` of them, and how many were tried.
    """
    most, chosen, tried = min(MOST_APART * least, MOST_TOLERANCE / 2) * unit, list[Pair](), 0
    for pair in pairs:
        tried += 1
        if pair.here.label == pair.elsewhere.label and pair.apart <= most:
            chosen.append(pair)
        if len(chosen) == GOLDEN_ROWS:
            break
    return chosen, tried


def check_count(rows: int, tried: int) -> None:
    """Whether there are enough golden rows; where there are fewer inputs than usual, one of them may be left out.

    Raises:
        GateError: both numbers.
    """
    needed = min(LEAST_ROWS, max(1, tried - 1))
    if rows < needed:
        raise GateError(
            f"package: {rows} of {tried} rows are answered alike with edgeft's kernels and without, wanted are "
            f"{needed}; export another precision, as in --set export.precision=fp32"
        )


def measure_tolerance(chosen: Sequence[Pair], least: float) -> float:
    """Twice the largest difference that was seen, and at least what right runs need in any case."""
    return max([least, *(2 * pair.apart for pair in chosen)])


run = stage(
    "package",
    libraries=("onnx", *RUNNING),
    kernels=True,
    reads=lambda recipe: {"data": "data", "export": "export", "calibrate": "calibrate"},
    config=lambda recipe: StageConfig(seed=recipe.seed),
    fixed_s=2,
    rows_s=lambda work: 0.0,
)(fill)


def ship(
    package: Path, out_dir: Path, facts: Mapping[str, Any], files: Mapping[str, str], texts: bool = True
) -> Manifest:
    """Copy a package, add the run's files and facts, and write the manifest last.

    Args:
        package: a loadable artifact.
        out_dir: the artifact; empty.
        facts: fields of the manifest, as in `metrics`, `latency`, `lineage`.
        files: name to text, as in recipe.yaml, README.md, report.html.
        texts: whether the golden rows keep their texts.
    """
    manifest = artifact.read_manifest(package)
    artifact.verify_files(package, manifest)
    for name in manifest.files:
        shutil.copyfile(package / name, out_dir / name)
    if not texts and artifact.GOLDEN in manifest.files:
        manifest = hide_golden_texts(package, out_dir, manifest)
    for name, text in files.items():
        (out_dir / name).write_text(text, encoding="utf-8")
    whole = dataclasses.replace(manifest, **facts)
    return artifact.write_manifest(out_dir, whole, [*manifest.files, *files])


def hide_golden_texts(package: Path, out_dir: Path, manifest: Manifest) -> Manifest:
    """Write the golden rows of a package as token ids; the manifest says so."""
    model = assemble(package, manifest)
    golden = leave_out_texts(model, read_golden(model))
    write_json(out_dir / artifact.GOLDEN, golden)
    known = manifest.golden or GoldenRows(rows=len(golden.rows), tolerance=golden.tolerance)
    return dataclasses.replace(manifest, golden=dataclasses.replace(known, texts=False))

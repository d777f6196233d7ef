"""An artifact in a few lines for people."""

from __future__ import annotations

from typing import Any

from edgeft.artifact import Calibration, InputSpec, Manifest, total_bytes
from edgeft.cleaning import Cleaning

HEADLINE = ("accuracy", "macro_f1")  # where the artifact doesn't say


def describe(manifest: Manifest) -> str:
    """What `edgeft inspect` prints."""
    quantization, latency = manifest.quantization, manifest.latency.get("latency") or {}
    lines = [
        f"task          {manifest.task} ({manifest.kind})",
        *([f"labels        {', '.join(manifest.labels)}"] if manifest.labels else []),
        *([f"decoding      {_pairs(manifest.decoding)}"] if manifest.decoding else []),
        f"input         {_input(manifest.inputs)}",
        *_cleaning(manifest.inputs.cleaning),
        f"precision     {quantization.precision} ({quantization.scheme})",
        f"agreement     {quantization.agreement:.2%} of the answers equal those of the fp32 graph",
        *_describe_proof(quantization.proved_on),
        f"size          {total_bytes(manifest) / 1e6:.1f} MB",
        f"calibration   {_calibration(manifest.calibration)}",
        *([f"abstains      {manifest.calibration.selective.line}"] if manifest.calibration.selective else []),
    ]
    headline = manifest.metrics.get("artifact", {}).get("intervals") or HEADLINE
    for name, metrics in manifest.metrics.items():
        figures = [_figure(key, metrics) for key in headline if isinstance(metrics.get(key), int | float)]
        lines.append(f"{name:13} {', '.join(figures)} on the test split")
    times = [latency.get(name) for name in ("p50_ms", "p99_ms")]
    if all(isinstance(time, int | float) for time in times):
        processor = (manifest.latency.get("machine") or {}).get("processor", "a machine that it doesn't name")
        lines.append(f"latency       p50 {times[0]:.2f} ms, p99 {times[1]:.2f} ms on {processor}")
    return "\n".join(lines)


def _input(spec: InputSpec) -> str:
    long = f"read in windows that share {spec.stride}" if spec.stride else "truncated"
    return f"up to {spec.max_length} tokens; longer texts are {long}"


def _calibration(calibration: Calibration) -> str:
    """The method, the temperature, and what was reached on the test split."""
    warmth = f" {calibration.temperature:.3f}" if calibration.method == "temperature" else ""
    ends = [calibration.test[when]["ece"] for when in ("before", "after") if "ece" in calibration.test.get(when, {})]
    error = f", calibration error on test {ends[0]:.4f} -> {ends[-1]:.4f}" if ends else ""
    return f"{calibration.method}{warmth}{error}"


def _describe_proof(proved_on: list[str]) -> list[str]:
    """Lines naming the execution paths on which the answers were equal."""
    if not proved_on:
        return ["proved on     not needed for fp32"]
    return [f"{'proved on' if not line else '':14}{run}" for line, run in enumerate(proved_on)]


def _pairs(document: dict[str, Any]) -> str:
    return ", ".join(f"{key.replace('_', ' ')} {value}" for key, value in document.items())


def _figure(key: str, metrics: dict[str, Any]) -> str:
    """A metric and, where it is known, its interval."""
    intervals = metrics.get("intervals") or {}
    ends = intervals.get(key, {})
    known = None not in (ends.get("low"), ends.get("high")) and key == next(iter(intervals))
    interval = f" (95% interval {ends['low']:.4f} to {ends['high']:.4f})" if known else ""
    return f"{key.replace('_', ' ').replace('f1', 'F1')} {metrics[key]:.4f}{interval}"


def _cleaning(cleaning: Cleaning) -> list[str]:
    """The cleaning of texts; empty without any."""
    lines = []
    if cleaning.steps:
        lines.append(f"cleaning      {', '.join(cleaning.steps)}")
    hidden = [kind.replace("_", " ") for kind in cleaning.anonymise]
    if "phone" in hidden:
        hidden[hidden.index("phone")] = f"phone ({cleaning.region})"
    if cleaning.names_model:
        hidden.append(f"names and places by {cleaning.names_model}")
    if hidden:
        lines.append(f"anonymised    {', '.join(hidden)}")
    return lines

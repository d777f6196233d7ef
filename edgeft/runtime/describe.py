"""An artifact in a few lines for people."""

from __future__ import annotations

from edgeft.artifact import Manifest, total_bytes
from edgeft.cleaning import Cleaning


def describe(manifest: Manifest) -> str:
    """What `edgeft inspect` prints."""
    quantization, latency = manifest.quantization, manifest.latency.get("latency", {})
    lines = [
        f"task          {manifest.task}",
        f"labels        {', '.join(manifest.labels)}",
        f"input         up to {manifest.inputs.max_length} tokens",
        *_cleaning(manifest.inputs.cleaning),
        f"precision     {quantization.precision} ({quantization.scheme})",
        f"agreement     {quantization.agreement:.2%} of the answers equal those of the fp32 graph",
        f"proved on     {'; '.join(quantization.proved_on) or 'not needed for fp32'}",
        f"size          {total_bytes(manifest) / 1e6:.1f} MB",
        f"calibration   {manifest.calibration.get('method', 'none')}, "
        f"temperature {manifest.calibration.get('temperature', 1.0):.3f}",
    ]
    for name, metrics in manifest.metrics.items():
        ends = metrics.get("intervals", {}).get("accuracy")
        interval = f" (95% interval {ends['low']:.4f} to {ends['high']:.4f})" if ends else ""
        f1 = f"macro F1 {metrics['macro_f1']:.4f}"
        lines.append(f"{name:13} accuracy {metrics['accuracy']:.4f}{interval}, {f1} on the test split")
    if latency:
        processor = manifest.latency["machine"]["processor"]
        lines.append(f"latency       p50 {latency['p50_ms']:.2f} ms, p99 {latency['p99_ms']:.2f} ms on {processor}")
    return "\n".join(lines)


def _cleaning(cleaning: Cleaning) -> list[str]:
    """What is done to texts, nothing where nothing is."""
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

"""An artifact in a few lines for people."""

from __future__ import annotations

from edgeft.artifact import Manifest, total_bytes


def describe(manifest: Manifest) -> str:
    """What `edgeft inspect` prints."""
    quantization, latency = manifest.quantization, manifest.latency.get("latency", {})
    lines = [
        f"task          {manifest.task}",
        f"labels        {', '.join(manifest.labels)}",
        f"input         up to {manifest.inputs.max_length} tokens",
        f"precision     {quantization.precision} ({quantization.scheme})",
        f"agreement     {quantization.agreement:.2%} of the answers equal those of the fp32 graph",
        f"proved on     {'; '.join(quantization.proved_on) or 'not needed for fp32'}",
        f"size          {total_bytes(manifest) / 1e6:.1f} MB",
        f"calibration   {manifest.calibration.get('method', 'none')}, "
        f"temperature {manifest.calibration.get('temperature', 1.0):.3f}",
    ]
    for name, metrics in manifest.metrics.items():
        lines.append(
            f"{name:13} accuracy {metrics['accuracy']:.4f}, macro F1 {metrics['macro_f1']:.4f} on the test split"
        )
    if latency:
        processor = manifest.latency["machine"]["processor"]
        lines.append(f"latency       p50 {latency['p50_ms']:.2f} ms, p99 {latency['p99_ms']:.2f} ms on {processor}")
    return "\n".join(lines)

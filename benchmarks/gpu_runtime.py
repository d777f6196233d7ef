"""fp16 on a GPU: an artifact through onnxruntime-gpu beside the same model in torch, batches of 1, 8 and 64, in turns.

python benchmarks/gpu_runtime.py MODEL ARTIFACT [--tokens 128]

MODEL: a fine-tuned model folder; ARTIFACT: what `edgeft export --precision fp16` made of it. Needs CUDA and
onnxruntime-gpu.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import AutoModelForSequenceClassification

import edgeft
from edgeft.bench.race import ratio, summary

ROUNDS, WARMUP = 60, 10


def main() -> None:
    """Print one JSON line a batch size, and the card first."""
    parser = argparse.ArgumentParser()
    parser.add_argument("model", type=Path)
    parser.add_argument("artifact", type=Path)
    parser.add_argument("--tokens", type=int, default=128)
    chosen = parser.parse_args()
    model = AutoModelForSequenceClassification.from_pretrained(chosen.model, dtype=torch.float16).cuda().eval()
    engine = edgeft.load(chosen.artifact, provider="CUDAExecutionProvider").engine
    print(json.dumps({"card": torch.cuda.get_device_name(), "torch": torch.__version__}))
    for batch in (1, 8, 64):
        ids = np.random.default_rng(0).integers(1000, 30000, (batch, chosen.tokens))
        contenders: dict[str, Any] = {
            "torch": lambda ids=ids: torch_logits(model, ids),
            "edgeft": lambda ids=ids: engine.run(ids.tolist(), ["logits"])[0],
        }
        samples: dict[str, list[float]] = {name: [] for name in contenders}
        for turn in range(WARMUP + ROUNDS):
            for name in sorted(contenders, reverse=bool(turn % 2)):
                start = time.perf_counter()
                contenders[name]()
                if turn >= WARMUP:
                    samples[name].append(1e3 * (time.perf_counter() - start))
        found = {name: summary(times) for name, times in samples.items()}
        apart = float(np.abs(contenders["torch"]() - contenders["edgeft"]()).max())
        figures = {name: latency.as_dict() for name, latency in found.items()}
        against = ratio(found["torch"], found["edgeft"]).as_dict()
        print(json.dumps({"batch": batch, **figures, "ratio": against, "largest logit difference": apart}))


def torch_logits(model: Any, ids: Any) -> Any:
    """Logits of torch, float32 (batch, labels), on the host."""
    with torch.inference_mode():
        return model(input_ids=torch.from_numpy(ids).cuda()).logits.float().cpu().numpy()


if __name__ == "__main__":
    main()

"""Every architecture and every kind of head, with random weights: the fused fp32 graph answers as torch does."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from transformers import (
    AutoConfig,
    AutoModel,
    AutoModelForQuestionAnswering,
    AutoModelForSequenceClassification,
    AutoModelForTokenClassification,
    DPRConfig,
    DPRContextEncoder,
)

from edgeft.errors import ModelError
from edgeft.export import graph
from edgeft.export.capture import capture
from edgeft.runtime.engine import Engine, pad

SIZES: dict[str, Any] = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 64,
    "max_position_embeddings": 64,
    "vocab_size": 99,
    "pad_token_id": 0,
    "initializer_range": 0.2,
}
NARROW = {"embedding_size": 16}
GROUPED = {"num_key_value_heads": 2}
SPECIAL = {"bos_token_id": 1, "eos_token_id": 2, "cls_token_id": 1, "sep_token_id": 2}
RELATIVE = {"relative_attention": True, "pos_att_type": ["p2c", "c2p"], "position_buckets": 16}
DEBERTA = {**RELATIVE, "share_att_key": True, "position_biased_input": False, "norm_rel_ebd": "layer_norm"}
DISTILBERT = {"dim": 32, "n_layers": 2, "n_heads": 4, "hidden_dim": 64}
MODERNBERT = {**SPECIAL, "local_attention": 16, "global_attn_every_n_layers": 2}
KINDS: dict[str, dict[str, Any]] = {
    "bert": {},
    "distilbert": DISTILBERT,
    "roberta": {},
    "albert": NARROW,
    "electra": NARROW,
    "deberta-v2": DEBERTA,
    "modernbert": MODERNBERT,
    "mpnet": {},
    "llama": GROUPED,
    "qwen2": GROUPED,
}
SPANS = {"start_logits": ["batch", "tokens"], "end_logits": ["batch", "tokens"]}
LENGTHS = ([7], [9, 4], [3, 20, 11], [33])  # tokens of the texts of each batch


def model_of(auto: Any, kind: str, labels: int) -> Any:
    torch.manual_seed(0)
    return auto.from_config(AutoConfig.for_model(kind, num_labels=labels, **{**SIZES, **KINDS[kind]})).eval()


def largest_difference(model: Any, path: Path) -> float:
    """Between torch and the fused graph through the runtime's engine, relative to the largest answer; padding apart."""
    onnx.save(capture(model, 18), path.with_suffix(".captured"))
    graph.fuse(path.with_suffix(".captured"), path)
    engine = Engine(path, 0, threads=1)
    worst = 0.0
    for lengths in LENGTHS:
        ids = [np.random.default_rng(seed).integers(3, 99, length).tolist() for seed, length in enumerate(lengths)]
        feeds = {name: torch.from_numpy(array) for name, array in pad(ids, 0).items()}
        with torch.no_grad():
            expected = model(**feeds)
        for name, found in zip(engine.output_names, engine.run(ids, engine.output_names), strict=True):
            wanted = expected[name].numpy()
            assert found.shape == wanted.shape
            if found.shape[:2] == feeds["attention_mask"].shape:
                seen = feeds["attention_mask"].numpy() > 0
                found, wanted = found[seen], wanted[seen]
            worst = max(worst, float(np.abs(found - wanted).max() / max(1.0, np.abs(wanted).max())))
    return worst


@pytest.mark.parametrize("kind", KINDS)
def test_every_architecture_answers_as_torch_does(
    kind: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = model_of(AutoModelForSequenceClassification, kind, 3)
    assert largest_difference(model, tmp_path / "model.onnx") <= 1e-4
    assert "exporter failed" not in capsys.readouterr().err
    proto = onnx.load(tmp_path / "model.onnx").graph
    assert [value.name for value in proto.output] == ["logits"]
    assert {value.name for value in proto.input} == {"input_ids", "attention_mask"}


@pytest.mark.parametrize(
    ("kind", "auto", "labels", "outputs"),
    [
        ("bert", AutoModelForTokenClassification, 3, {"logits": ["batch", "tokens", ""]}),
        ("bert", AutoModelForQuestionAnswering, 2, SPANS),
        ("bert", AutoModel, 2, {"last_hidden_state": ["batch", "tokens", ""]}),  # a pooler is left out
        ("llama", AutoModel, 2, {"last_hidden_state": ["batch", "tokens", ""]}),  # keys and values are left out
    ],
)
def test_every_head_answers_as_torch_does(
    kind: str, auto: Any, labels: int, outputs: dict[str, list[str]], tmp_path: Path
) -> None:
    model = model_of(auto, kind, labels)
    before = model.config.to_dict()
    assert largest_difference(model, tmp_path / "model.onnx") <= 1e-4
    assert model.config.to_dict() == before
    found = onnx.load(tmp_path / "model.captured").graph.output
    assert {value.name: [axis.dim_param for axis in value.type.tensor_type.shape.dim] for value in found} == outputs


def test_a_model_that_answers_with_something_else_is_refused() -> None:
    model = DPRContextEncoder(DPRConfig(**SIZES)).eval()
    with pytest.raises(
        ModelError, match=r"^DPRContextEncoder answers with pooler_output; what can be exported: logits,"
    ):
        capture(model, 18)

"""Tiny encoders of several kinds with random weights, and runs that are killed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

SMALL: dict[str, Any] = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 64,
    "max_position_embeddings": 40,
}
SHAPES: dict[str, dict[str, Any]] = {
    "bert": {**SMALL, "initializer_range": 0.1},
    "roberta": {**SMALL, "pad_token_id": 0, "type_vocab_size": 1, "initializer_range": 0.1},
    "distilbert": {
        "dim": 32,
        "n_layers": 2,
        "n_heads": 2,
        "hidden_dim": 64,
        "max_position_embeddings": 40,
        "initializer_range": 0.1,
    },
}


def tiny_encoder(kind: str, tokenizer: Any, folder: Path) -> Path:
    """The folder of an encoder without a head; made where it isn't there yet."""
    import torch
    from transformers import AutoConfig, AutoModel

    if not folder.exists():
        torch.manual_seed(0)
        config = AutoConfig.for_model(kind, vocab_size=len(tokenizer), **SHAPES[kind])
        AutoModel.from_config(config).save_pretrained(folder)
        tokenizer.save_pretrained(folder)
    return folder


def keep_layers(model: Any, count: int) -> None:
    """Leave the first layers of a BERT: each takes a second to capture."""
    body = getattr(model, "bert", model)
    body.encoder.layer = body.encoder.layer[:count]
    model.config.num_hidden_layers = count


def byte_level_bpe(words: list[str]) -> Any:
    """A tokenizer like RoBERTa's: to it a word with a space before it is another word."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    special = ["<s>", "<pad>", "</s>", "<unk>"]
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=400, special_tokens=special, initial_alphabet=alphabet)
    tokenizer.train_from_iterator([" ".join(words)] * 3, trainer)
    tokenizer.post_processor = processors.RobertaProcessing(("</s>", 2), ("<s>", 0), add_prefix_space=False)
    names = {"bos_token": "<s>", "cls_token": "<s>", "eos_token": "</s>", "sep_token": "</s>"}
    inputs = ["input_ids", "attention_mask"]
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<pad>", unk_token="<unk>", model_input_names=inputs, **names
    )


def killed(run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Call a training that ends right after its first checkpoint."""
    from edgeft.train.loop import checkpoints

    save = checkpoints.save

    def save_and_die(*arguments: Any) -> None:
        save(*arguments)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(checkpoints, "save", save_and_die)
        with pytest.raises(KeyboardInterrupt):
            run()

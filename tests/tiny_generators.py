"""Tiny models that make texts, with random weights, in the folders that real ones come in."""

from __future__ import annotations

import copy
import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

SENTENCES = [
    f"{opening} {word} {thing} was {other}"
    for opening in ("a", "the", "this", "that")
    for word in ("good", "bad", "fine", "awful", "great")
    for thing in ("film", "plot", "actor", "story")
    for other in ("long", "short", "fun", "sad")
]


def tiny_masked(folder: Path, tokenizer: Any, positions: int = 32) -> Path:
    """A BERT with a masked-language-model head; the tokenizer's copy gets a mask token."""
    import torch
    from transformers import BertConfig, BertForMaskedLM

    tokenizer = copy.deepcopy(tokenizer)
    tokenizer.add_special_tokens({"mask_token": "[MASK]"})
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=len(tokenizer),
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=64,
        max_position_embeddings=positions,
        initializer_range=0.5,
    )
    BertForMaskedLM(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def tiny_marian(folder: Path, seed: int = 0, codes: Sequence[str] = ()) -> Path:
    """A Marian model with the files that real ones carry: source.spm, target.spm, vocab.json and safetensors.

    Args:
        folder: gets the files.
        seed: of the weights.
        codes: of the languages that it says it translates into, as in `>>fra<<`.
    """
    import sentencepiece
    import torch
    from transformers import MarianConfig, MarianMTModel

    folder.mkdir(parents=True, exist_ok=True)
    written = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(SENTENCES), model_writer=written, vocab_size=60, hard_vocab_limit=False, minloglevel=2
    )
    for name in ("source.spm", "target.spm"):
        (folder / name).write_bytes(written.getvalue())
    processor = sentencepiece.SentencePieceProcessor(model_proto=written.getvalue())
    pieces = [processor.id_to_piece(index) for index in range(processor.get_piece_size())]
    words = [piece for piece in pieces if piece not in ("<s>", "</s>", "<unk>")]
    vocabulary = {piece: index for index, piece in enumerate(["</s>", "<unk>", *words, *codes, "<pad>"])}
    (folder / "vocab.json").write_text(json.dumps(vocabulary), encoding="utf-8")
    settings = {"tokenizer_class": "MarianTokenizer", "source_lang": "en", "target_lang": "de", "model_max_length": 512}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings), encoding="utf-8")
    torch.manual_seed(seed)
    size = {"d_model": 32, "init_std": 0.5, "max_position_embeddings": 48}
    layers = {f"{side}_{what}": n for side in ("encoder", "decoder") for what, n in SHAPE.items()}
    tokens = {"eos_token_id": 0, "forced_eos_token_id": 0, "pad_token_id": vocabulary["<pad>"]}
    config = MarianConfig(
        vocab_size=len(vocabulary), decoder_start_token_id=vocabulary["<pad>"], **size, **layers, **tokens
    )
    MarianMTModel(config).save_pretrained(folder)
    return folder


SHAPE = {"layers": 1, "attention_heads": 2, "ffn_dim": 64}

"""Tiny models that continue texts or answer them, with random weights and tokenizers, and rows that they learn."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

END, START, TURN, OVER, PAD = "<|end|>", "<|start|>", "<|turn|>", "<|over|>", "<|pad|>"
TEMPLATE = (
    "{% for message in messages %}<|turn|>{{ message.role }}\n{{ message.content }}<|over|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|turn|>assistant\n{% endif %}"
)
ANIMALS = {"cat": "mice", "dog": "bones", "cow": "grass", "owl": "moths", "hen": "corn", "pig": "roots"}
# Which animal eats what can be learnt; where it does so only be guessed.
TEXTS = [
    f"the {animal} eats {food} {place}." for animal, food in ANIMALS.items() for place in ("here", "at home", "now")
]
KINDS = ("llama", "gpt2")


def tokenizer(start: bool = False, template: str | None = TEMPLATE) -> Any:
    """Byte-level BPE.

    Args:
        start: whether it puts a token before each text.
        template: of a chat.
    """
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
    from transformers import PreTrainedTokenizerFast

    made = Tokenizer(models.BPE())
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    special = [END, START, TURN, OVER, PAD]
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=340, special_tokens=special, initial_alphabet=sorted(alphabet), show_progress=False
    )
    made.train_from_iterator(TEXTS * 2, trainer)
    if start:
        made.post_processor = processors.TemplateProcessing(single=f"{START} $A", special_tokens=[(START, 1)])
    made = PreTrainedTokenizerFast(tokenizer_object=made, eos_token=END, bos_token=START, pad_token=PAD)
    made.add_special_tokens({"additional_special_tokens": [TURN, OVER]})
    made.chat_template = template
    return made


def language_model(kind: str, attention: str = "sdpa", seed: int = 0, vocabulary: int = 345) -> Any:
    """A Llama or a GPT-2 with tied embeddings, in eval mode."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    shapes: dict[str, dict[str, Any]] = {
        "llama": {
            **{"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2},
            **{"intermediate_size": 64, "max_position_embeddings": 64, "tie_word_embeddings": True},
        },
        "gpt2": {"n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 64},
    }
    torch.manual_seed(seed)
    config = AutoConfig.for_model(kind, vocab_size=vocabulary, initializer_range=0.15, **shapes[kind])
    config.bos_token_id = config.eos_token_id = 0
    return AutoModelForCausalLM.from_config(config, attn_implementation=attention).eval()


def language_folder(folder: Path, kind: str, **options: Any) -> Path:
    """A folder of such a model; options as of `tokenizer`."""
    language_model(kind).save_pretrained(folder)
    tokenizer(**options).save_pretrained(folder)
    return folder


def word_tokenizer() -> Any:
    """One token a word, and </s> at the end, as T5's."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    words = sorted({word for text in TEXTS for word in text.replace(".", " .").split()})
    vocabulary = {word: place for place, word in enumerate(["<pad>", "</s>", "<unk>", *words])}
    made = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    made.pre_tokenizer = pre_tokenizers.Whitespace()
    made.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    return PreTrainedTokenizerFast(
        tokenizer_object=made, eos_token="</s>", pad_token="<pad>", unk_token="<unk>", model_max_length=64
    )


def pairs_folder(folder: Path, kind: str) -> Path:
    """A folder of a tiny T5 or BART."""
    import torch
    from transformers import AutoConfig, AutoModelForSeq2SeqLM

    own = word_tokenizer()
    shapes: dict[str, dict[str, Any]] = {
        "t5": {"d_model": 32, "d_kv": 8, "d_ff": 64, "num_layers": 2, "num_heads": 4, "decoder_start_token_id": 0},
        "bart": {
            **{f"{side}_{what}": n for side in ("encoder", "decoder") for what, n in PARTS.items()},
            **{"d_model": 32, "max_position_embeddings": 64, "init_std": 0.15, "bos_token_id": 1},
            **{"decoder_start_token_id": 1, "forced_eos_token_id": 1, "eos_token_id": 1, "pad_token_id": 0},
        },
    }
    torch.manual_seed(0)
    config = AutoConfig.for_model(kind, vocab_size=len(own), **shapes[kind])
    AutoModelForSeq2SeqLM.from_config(config).save_pretrained(folder)
    own.save_pretrained(folder)
    return folder


PARTS = {"layers": 2, "attention_heads": 4, "ffn_dim": 64}


def rows_of(kind: str) -> dict[str, list[Any]]:
    """The rows of TEXTS in a form."""
    halves = [text.split(" eats ") for text in TEXTS]
    match kind:
        case "text":
            return {"text": TEXTS}
        case "prompt-completion":
            return {
                "prompt": [f"{first} eats" for first, _ in halves],
                "completion": [f" {last}" for _, last in halves],
            }
        case "pairs":
            return {"source": TEXTS, "target": [f"{last.removesuffix('.')} eats {first}" for first, last in halves]}
    said = [[("user", f"what eats {first}?"), ("assistant", last)] for first, last in halves]
    return {"messages": [[{"role": role, "content": text} for role, text in chat] for chat in said]}


def dataset(kind: str, columns: dict[str, list[Any]] | None = None, repeats: int = 1) -> Any:
    """The rows three times: to train on, to look at, to test on."""
    from edgeft.data.dataset import Dataset, split_of

    columns = columns or rows_of(kind)
    count = len(next(iter(columns.values())))
    training = split_of({name: cells * repeats for name, cells in columns.items()}, np.arange(count * repeats) + 1, [])
    validation, test = (split_of(columns, np.arange(count) + 1, []) for _ in range(2))
    task = "text2text-generation" if kind == "pairs" else "text-generation"
    return Dataset(task, [], training, validation, test, unlabelled=[], kind=kind)


def data_folder(folder: Path, kind: str, repeats: int = 1) -> Path:
    """The same as a data folder."""
    from edgeft.data import dataset as datasets

    datasets.save(dataset(kind, repeats=repeats), folder)
    return folder


def losses_of(history: Path) -> Iterable[float]:
    """The training losses in a history."""
    rows = [json.loads(line) for line in history.read_text().splitlines()]
    return [row["loss"] for row in rows if "loss" in row]


def killed(config: Any, inputs: dict[str, Path], out: Path, monkeypatch: Any) -> None:
    """A fine-tuning that ends right after its first checkpoint."""
    import pytest

    from edgeft.train.finetune import run
    from edgeft.train.loop import checkpoints

    save = checkpoints.save

    def save_and_die(*arguments: Any) -> None:
        save(*arguments)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(checkpoints, "save", save_and_die)
        with pytest.raises(KeyboardInterrupt):
            run(config, inputs, out)

"""Virtual tokens: embeddings learnt in front of every text, which end as words of a grown vocabulary.

Prompt tuning (Lester et al. 2021) learns the embeddings themselves, p-tuning (Liu et al. 2021) a small network that
makes them. Either way they stand where embeddings of tokens stand, so that new rows of the embedding matrix and a
tokenizer that puts their tokens in front of every text say the same.
"""

from __future__ import annotations

import copy
import json
from typing import Any

import torch

from edgeft.errors import ModelError
from edgeft.recipe import FinetuneConfig
from edgeft.train.defaults import VIRTUAL, VIRTUAL_TOKENS

TOKENWISE = ("TOKEN_CLS", "QUESTION_ANS")  # tasks with an answer for each token
ADAPTER = "default"  # peft's name of a model's only adapter
# Encoders whose merge is exact: they take embeddings as they take ids, and read the same positions from both.
ENCODERS = (
    *("albert", "bert", "camembert", "convbert", "deberta", "deberta-v2", "distilbert", "electra", "ernie"),
    *("mobilebert", "modernbert", "mpnet", "rembert", "roberta", "roformer", "xlm-roberta"),
)
BEFORE_AND_AFTER = {"BertProcessing": 1, "RobertaProcessing": 2}  # separators between the texts of a pair


def added(config: FinetuneConfig) -> int:
    """Tokens that the method puts in front of every text."""
    return (config.virtual_tokens or VIRTUAL_TOKENS) if config.method in VIRTUAL else 0


# ------------------------------------------------------------------------------------------------------------- training


def peft_config(model: Any, config: FinetuneConfig, task: str | None, heads: list[str]) -> Any:
    """What peft is to learn: prompts that start as words of the vocabulary, or the network that makes them."""
    from peft import PromptEncoderConfig, PromptTuningConfig

    shape = {
        "task_type": task,
        "num_virtual_tokens": added(config),
        "token_dim": model.get_input_embeddings().embedding_dim,
        "modules_to_save": list(heads) or None,
        # Of no use here, and peft doesn't find them everywhere.
        "num_layers": model.config.num_hidden_layers,
        "num_attention_heads": model.config.num_attention_heads,
    }
    if config.method == "prompt":
        return PromptTuningConfig(prompt_tuning_init="SAMPLE_VOCAB", **shape)
    return PromptEncoderConfig(encoder_hidden_size=model.get_input_embeddings().embedding_dim, **shape)


def hide_answers(model: Any, task: str | None) -> None:
    """Let a model with an answer for each token give none for the virtual ones, which no row has.

    Args:
        model: of peft.
        task: peft's name of it.
    """
    count = model.active_peft_config.num_virtual_tokens

    def without(_: Any, __: Any, output: Any) -> Any:
        for name in ("logits", "start_logits", "end_logits"):
            if name in output:
                output[name] = output[name][:, count:]
        return output

    if task in TOKENWISE:
        model.register_forward_hook(without)


# ---------------------------------------------------------------------------------------------------------------- merge


@torch.no_grad()
def into_vocabulary(model: Any, base: Any, ids: list[int]) -> Any:
    """Write what was learnt into a plain model: a row of the embedding matrix for each virtual token, and the head.

    Args:
        model: of peft, trained.
        base: the plain model it was made of; changed.
        ids: of the new tokens, in order.
    """
    vectors = model.get_prompt_embedding_to_save(ADAPTER).float()  # (V, D)
    size = max(base.get_input_embeddings().num_embeddings, max(ids) + 1)
    base.resize_token_embeddings(size, mean_resizing=False)
    base.get_input_embeddings().weight[ids] = vectors
    heads = model.get_base_model().named_modules()
    for name, module in list(heads):
        if hasattr(module, "modules_to_save"):
            trained = module.modules_to_save[ADAPTER].state_dict()
            base.get_submodule(name).load_state_dict(trained)
    return base


def extended(tokenizer: Any, count: int) -> Any:
    """A tokenizer that puts so many new tokens in front of every text and pair; nothing else changes.

    Args:
        tokenizer: left as it is.
        count: of the new tokens.

    Raises:
        ModelError: its special tokens are put in by something else than a template.
    """
    from transformers import AddedToken, PreTrainedTokenizerFast

    names = new_names(tokenizer, count)
    made = copy.deepcopy(tokenizer)
    made.add_tokens([AddedToken(name, special=True, normalized=False) for name in names])
    tree = json.loads(made.backend_tokenizer.to_str())
    ids = dict(zip(names, made.convert_tokens_to_ids(names), strict=True))
    tree["post_processor"] = in_front(tree["post_processor"], ids)
    settings = {"model_max_length": made.model_max_length, "padding_side": made.padding_side}
    # Not the class it had: those of single architectures make their own template whenever they are loaded.
    return PreTrainedTokenizerFast(
        tokenizer_object=type(made.backend_tokenizer).from_str(json.dumps(tree)),
        model_input_names=made.model_input_names,
        truncation_side=made.truncation_side,
        clean_up_tokenization_spaces=made.clean_up_tokenization_spaces,
        **settings,
        **made.special_tokens_map,
    )


def new_names(tokenizer: Any, count: int) -> list[str]:
    """Names of virtual tokens that the vocabulary doesn't have; a model may have some from an earlier training."""
    known = tokenizer.get_vocab()
    first = next(number for number in range(len(known) + 1) if f"<prompt_{number}>" not in known)
    return [f"<prompt_{number}>" for number in range(first, first + count)]


def token_ids(tokenizer: Any, source: Any, count: int) -> list[int]:
    """Ids in an `extended` tokenizer of what it has more than its source."""
    found: list[int] = tokenizer.convert_tokens_to_ids(new_names(source, count))
    return found


def in_front(processor: dict[str, Any] | None, ids: dict[str, int]) -> dict[str, Any]:
    """A post-processor as tokenizer.json has it, with tokens in front of everything it made before.

    Args:
        processor: the tokenizer's own; None where it has none.
        ids: of the new tokens, by name, in order.

    Raises:
        ModelError: it is of a kind that can't be rewritten as a template.
    """
    if processor is not None and processor["type"] == "Sequence":
        *others, last = processor["processors"]
        return {**processor, "processors": [*others, in_front(last, ids)]}
    if processor is not None and processor["type"] == "ByteLevel":  # which only trims the offsets
        return {"type": "Sequence", "processors": [processor, in_front(None, ids)]}
    template = as_template(processor)
    pieces = [{"SpecialToken": {"id": name, "type_id": 0}} for name in ids]
    found = {
        **template,
        "single": [*pieces, *template["single"]],
        "pair": [*pieces, *template["pair"]],
        "special_tokens": {**template["special_tokens"], **_tokens(ids)},
    }
    if processor is not None and processor["type"] == "RobertaProcessing":
        trim = {"add_prefix_space": processor["add_prefix_space"], "trim_offsets": processor["trim_offsets"]}
        return {"type": "Sequence", "processors": [{"type": "ByteLevel", **trim, "use_regex": True}, found]}
    return found


def as_template(processor: dict[str, Any] | None) -> dict[str, Any]:
    """The same post-processor as a template of its tokens.

    Raises:
        ModelError: no template can say what it does.
    """
    if processor is None:
        pair = [_text("A"), _text("B", 1)]
        return {"type": "TemplateProcessing", "single": [_text("A")], "pair": pair, "special_tokens": {}}
    if processor["type"] == "TemplateProcessing":
        return processor
    if processor["type"] not in BEFORE_AND_AFTER:
        raise ModelError(
            f"the tokenizer's post-processor is a {processor['type']}, in front of which no virtual token can be put; "
            "take lora"
        )
    (first, first_id), (last, last_id) = processor["cls"], processor["sep"]
    kind = 1 if processor["type"] == "BertProcessing" else 0  # token type of a pair's second text
    single = [_special(first), _text("A"), _special(last)]
    between = [_special(last)] * (BEFORE_AND_AFTER[processor["type"]] - 1)
    tokens = _tokens({first: first_id, last: last_id})
    return {
        "type": "TemplateProcessing",
        "single": single,
        "pair": [*single, *between, _text("B", kind), _special(last, kind)],
        "special_tokens": tokens,
    }


def _tokens(ids: dict[str, int]) -> dict[str, Any]:
    return {name: {"id": name, "ids": [place], "tokens": [name]} for name, place in ids.items()}


def _text(name: str, kind: int = 0) -> dict[str, Any]:
    return {"Sequence": {"id": name, "type_id": kind}}


def _special(name: str, kind: int = 0) -> dict[str, Any]:
    return {"SpecialToken": {"id": name, "type_id": kind}}

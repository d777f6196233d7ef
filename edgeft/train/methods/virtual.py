"""Virtual tokens: embeddings learnt in front of every text, and merged as new entries of the vocabulary.

Prompt tuning (Lester et al. 2021) learns the embeddings directly, p-tuning (Liu et al. 2021) learns a small network
that computes them. In both cases they take the place of token embeddings. So new rows of the embedding matrix, and a
tokenizer that puts their tokens in front of every text, give the same result.
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
# Encoders whose merge is exact: embeddings as inputs get the same positions as ids.
ENCODERS = (
    *("albert", "bert", "camembert", "convbert", "deberta", "deberta-v2", "distilbert", "electra", "ernie"),
    *("mobilebert", "modernbert", "mpnet", "rembert", "roberta", "roformer", "xlm-roberta"),
)
BEFORE_AND_AFTER = {"BertProcessing": 1, "RobertaProcessing": 2}  # separators between the texts of a pair


def count_tokens(config: FinetuneConfig) -> int:
    """The number of tokens that the method puts in front of every text."""
    return (config.virtual_tokens or VIRTUAL_TOKENS) if config.method in VIRTUAL else 0


# ------------------------------------------------------------------------------------------------------------- training


def peft_config(model: Any, config: FinetuneConfig, task: str | None, heads: list[str]) -> Any:
    """peft's config: prompts that start as tokens of the vocabulary, or a network that computes them."""
    from peft import PromptEncoderConfig, PromptTuningConfig

    shape = {
        "task_type": task,
        "num_virtual_tokens": count_tokens(config),
        "token_dim": model.get_input_embeddings().embedding_dim,
        "modules_to_save": list(heads) or None,
        # Not used here, but peft fails to detect them in some models.
        "num_layers": model.config.num_hidden_layers,
        "num_attention_heads": model.config.num_attention_heads,
    }
    if config.method == "prompt":
        return PromptTuningConfig(prompt_tuning_init="SAMPLE_VOCAB", **shape)
    return PromptEncoderConfig(encoder_hidden_size=model.get_input_embeddings().embedding_dim, **shape)


def hide_virtual_outputs(model: Any, task: str | None) -> None:
    """Remove the outputs of virtual tokens from a model with an output for each token: rows have no targets for them.

    Args:
        model: of peft.
        task: peft's name of the task.
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
def write_vocabulary(model: Any, base: Any, ids: list[int]) -> Any:
    """Write the trained weights into a plain model: a row of the embedding matrix for each virtual token, and the head.

    Args:
        model: of peft, trained.
        base: the plain base model; changed in place.
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


def extend_tokenizer(tokenizer: Any, count: int) -> Any:
    """A copy of the tokenizer that puts `count` new tokens in front of every text and pair.

    Args:
        tokenizer: not changed.
        count: of the new tokens.

    Raises:
        ModelError: its post-processor can't be written as a template.
    """
    from transformers import AddedToken, PreTrainedTokenizerFast

    names = choose_names(tokenizer, count)
    extended = copy.deepcopy(tokenizer)
    extended.add_tokens([AddedToken(name, special=True, normalized=False) for name in names])
    tree = json.loads(extended.backend_tokenizer.to_str())
    ids = dict(zip(names, extended.convert_tokens_to_ids(names), strict=True))
    tree["post_processor"] = prepend_tokens(tree["post_processor"], ids)
    settings = {"model_max_length": extended.model_max_length, "padding_side": extended.padding_side}
    # Not the original class: those of single architectures rebuild their own template whenever they are loaded.
    return PreTrainedTokenizerFast(
        tokenizer_object=type(extended.backend_tokenizer).from_str(json.dumps(tree)),
        model_input_names=extended.model_input_names,
        truncation_side=extended.truncation_side,
        clean_up_tokenization_spaces=extended.clean_up_tokenization_spaces,
        **settings,
        **extended.special_tokens_map,
    )


def choose_names(tokenizer: Any, count: int) -> list[str]:
    """Names of virtual tokens that are not in the vocabulary; a model may have some from an earlier training."""
    known = tokenizer.get_vocab()
    first = next(number for number in range(len(known) + 1) if f"<prompt_{number}>" not in known)
    return [f"<prompt_{number}>" for number in range(first, first + count)]


def token_ids(tokenizer: Any, source: Any, count: int) -> list[int]:
    """Ids of the virtual tokens that `extend_tokenizer` added to the source tokenizer."""
    ids: list[int] = tokenizer.convert_tokens_to_ids(choose_names(source, count))
    return ids


def prepend_tokens(processor: dict[str, Any] | None, ids: dict[str, int]) -> dict[str, Any]:
    """A post-processor as in tokenizer.json, extended by tokens in front of everything else.

    Args:
        processor: of the tokenizer; None if it has none.
        ids: name -> id of the new tokens, in order.

    Raises:
        ModelError: the post-processor is of a kind that can't be rewritten as a template.
    """
    if processor is not None and processor["type"] == "Sequence":
        *others, last = processor["processors"]
        return {**processor, "processors": [*others, prepend_tokens(last, ids)]}
    if processor is not None and processor["type"] == "ByteLevel":  # it only trims the offsets
        return {"type": "Sequence", "processors": [processor, prepend_tokens(None, ids)]}
    template = as_template(processor)
    pieces = [{"SpecialToken": {"id": name, "type_id": 0}} for name in ids]
    extended = {
        **template,
        "single": [*pieces, *template["single"]],
        "pair": [*pieces, *template["pair"]],
        "special_tokens": {**template["special_tokens"], **_special_tokens(ids)},
    }
    if processor is not None and processor["type"] == "RobertaProcessing":
        trim = {"add_prefix_space": processor["add_prefix_space"], "trim_offsets": processor["trim_offsets"]}
        return {"type": "Sequence", "processors": [{"type": "ByteLevel", **trim, "use_regex": True}, extended]}
    return extended


def as_template(processor: dict[str, Any] | None) -> dict[str, Any]:
    """The post-processor as an equivalent template.

    Raises:
        ModelError: there is none.
    """
    if processor is None:
        pair = [_text_piece("A"), _text_piece("B", 1)]
        return {"type": "TemplateProcessing", "single": [_text_piece("A")], "pair": pair, "special_tokens": {}}
    if processor["type"] == "TemplateProcessing":
        return processor
    if processor["type"] not in BEFORE_AND_AFTER:
        raise ModelError(
            f"the tokenizer's post-processor is a {processor['type']}, to which virtual tokens can't be added; "
            "take lora"
        )
    (first, first_id), (last, last_id) = processor["cls"], processor["sep"]
    kind = 1 if processor["type"] == "BertProcessing" else 0  # token type of a pair's second text
    single = [_special_piece(first), _text_piece("A"), _special_piece(last)]
    between = [_special_piece(last)] * (BEFORE_AND_AFTER[processor["type"]] - 1)
    tokens = _special_tokens({first: first_id, last: last_id})
    return {
        "type": "TemplateProcessing",
        "single": single,
        "pair": [*single, *between, _text_piece("B", kind), _special_piece(last, kind)],
        "special_tokens": tokens,
    }


def _special_tokens(ids: dict[str, int]) -> dict[str, Any]:
    return {name: {"id": name, "ids": [index], "tokens": [name]} for name, index in ids.items()}


def _text_piece(name: str, kind: int = 0) -> dict[str, Any]:
    return {"Sequence": {"id": name, "type_id": kind}}


def _special_piece(name: str, kind: int = 0) -> dict[str, Any]:
    return {"SpecialToken": {"id": name, "type_id": kind}}

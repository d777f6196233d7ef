"""What config.json says of a model; no weight is loaded."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import transformers
from transformers import PretrainedConfig
from transformers.models.auto.configuration_auto import CONFIG_MAPPING
from transformers.models.auto.modeling_auto import MODEL_FOR_MASKED_LM_MAPPING_NAMES
from transformers.utils import cached_file

from edgeft.errors import ModelError
from edgeft.models import model_config, model_files, sentences, shapes
from edgeft.models.model_sources import find, locate, reading
from edgeft.models.shapes import read_structure
from edgeft.progress import say

NO_LIMIT = 1 << 20  # tokens; for models whose positions are computed
# Their position 0 is that of the padding token's successor.
OFFSET_POSITIONS = ("roberta", "xlm-roberta", "camembert", "mpnet")
DROPOUT = re.compile("dropout|pdrop")  # hidden_dropout_prob, attention_dropout, resid_pdrop, ...
# Classes of `transformers` that edgeft trains.
HEADS = (
    "AutoModel",
    "AutoModelForCausalLM",
    "AutoModelForQuestionAnswering",
    "AutoModelForSeq2SeqLM",
    "AutoModelForSequenceClassification",
    "AutoModelForTokenClassification",
)
DEEP = 256  # layers, from which on there have to be weights for them


def read_config(source: str | Path) -> PretrainedConfig:
    """A model's config, its sizes within bounds and naming no code from elsewhere; no weight is loaded.

    Raises:
        ModelError: it can't be had, or isn't one that edgeft takes.
    """
    location = locate(source)
    with reading(location):
        file = Path(cached_file(location, model_files.CONFIG))
        document = model_files.read_json(file)
        model_config.check(document, file)
        kind = document.get("model_type")
        if model_config.names_code(document):
            _tell_code_is_off(str(file), str(kind), kind in CONFIG_MAPPING)
        config = transformers.AutoConfig.from_pretrained(location, trust_remote_code=False)
    # Such a name can be that of a repository, whose code would be fetched and run.
    config._attn_implementation = config._experts_implementation = None
    return config


@lru_cache(maxsize=64)
def _tell_code_is_off(file: str, kind: str, known: bool) -> None:
    """Say once that a config's code isn't run.

    Raises:
        ModelError: without it nothing can be loaded.
    """
    if not known:
        raise ModelError(
            f"{file}: auto_map names code of its own, which edgeft never runs, and transformers "
            f"{transformers.__version__} has no {kind!r} models; take a model of an architecture that it has"
        )
    say(f"model: {file}: auto_map names code of its own, which isn't run; {kind} as transformers has it is used")


def is_encoder(folder: str | Path) -> bool:
    """Whether a model folder has no head: that of sentence-transformers, or of a bare model."""
    location = find(str(folder))
    if isinstance(location, Path) and sentences.is_sentence_transformers_folder(location):
        return True
    config = read_config(folder)
    return bool(config.architectures) and all("For" not in name for name in config.architectures)


def dropouts(config: PretrainedConfig) -> dict[str, float]:
    """The rates of a config, by their names; `layerdrop`, which leaves out whole layers, is another thing."""
    options = config.to_dict().items()
    return {name: rate for name, rate in options if DROPOUT.search(name) and type(rate) in (float, int)}


def check_layers(sizes: shapes.Dimensions, stored: model_files.Stored, location: Path | str) -> None:
    """Whether there are weights for the layers; building a thousand without takes half a minute."""
    weights = len(stored.shapes)
    if sizes.layers > max(DEEP, weights):
        raise ModelError(
            f"{location}: config.json says {sizes.layers:,} layers, but only {weights:,} weights are stored"
        )


@dataclass(frozen=True)
class Facts:
    """What config.json says without loading a weight.

    Attributes:
        kind: the architecture's `model_type`.
        layers: encoder layers.
        positions: tokens that a text may have, special ones included.
        width: of the hidden states, after any pruning; 0 where it isn't stated.
        drops: whether its config has rates of dropout at the top, where `load` sets them.
        vocabulary: rows of the token embeddings; 0 where it isn't stated.
        heads: classes of `transformers` that can load it, of `HEADS`.
        reads_only: whether it is an encoder, whose tokens see what follows, so that it can't write.
        elements: numbers in its stored weights; 0 where they lie on the hub.
    """

    kind: str
    layers: int
    positions: int
    width: int = 0
    drops: bool = True
    vocabulary: int = 0
    heads: tuple[str, ...] = HEADS
    reads_only: bool = False
    elements: int = 0


def read_facts(source: str | Path) -> Facts:
    """Read a model's architecture, layers, positions and width.

    Raises:
        ModelError: the folder can't be used.
    """
    location, config = locate(source), read_config(source)
    with reading(location):
        structure, sizes = read_structure(location, config), shapes.dimensions(config)
        stored = shapes.stored_weights(location) if isinstance(find(str(source)), Path) else None
        if stored:
            check_layers(sizes, stored, location)
    positions = max(getattr(config, "max_position_embeddings", None) or 0, 0) or NO_LIMIT
    if config.model_type in OFFSET_POSITIONS and positions != NO_LIMIT:
        positions -= (config.pad_token_id or 0) + 1
    return Facts(
        config.model_type,
        sizes.layers,
        positions,
        len(structure.width) if structure else sizes.width,
        drops=bool(dropouts(config)),
        vocabulary=sizes.vocabulary,
        heads=tuple(name for name in HEADS if type(config) in getattr(transformers, name)._model_mapping),
        reads_only=_reads_only(config),
        elements=stored.elements if stored else 0,
    )


def _reads_only(config: PretrainedConfig) -> bool:
    """Whether every token sees all others: what fills masks, unless its config makes a decoder of it."""
    masks = config.model_type in MODEL_FOR_MASKED_LM_MAPPING_NAMES
    writes = any(getattr(config, name, False) for name in ("is_decoder", "causal", "is_encoder_decoder"))
    return masks and not writes

"""The options of what happens to rows: reading, cleaning, splitting, augmenting."""

from __future__ import annotations

import dataclasses
from typing import Annotated, Literal

from edgeft.inputs.limits import LIMITS, Limits
from edgeft.recipe.base import Rows, StageConfig
from edgeft.recipe.options import config as _config
from edgeft.recipe.options import option as _option
from edgeft.recipe.spelling import spell_data_option

CleanStep = Literal[
    "unicode",
    "html",
    "urls",
    "control",
    "whitespace",
    "lowercase",
    "duplicates",
    "near_duplicates",
    "conflicts",
]
PersonalKind = Literal["email", "phone", "credit_card", "iban", "ip_address", "ssn", "secret"]
Balance = Literal["none", "class_weights", "oversample", "undersample"]
Augmenter = Literal["back_translation", "masked_lm", "swap", "deletion", "counterfactual"]
Files = str | list[str]


@_config()
class DataConfig(StageConfig):
    """Reading, checking, cleaning and splitting the rows."""

    task: Annotated[str | None, _option("the task's tag, as on the Hugging Face Hub; unset: the recipe's task")] = None
    file: Annotated[
        Files | None,
        _option(
            "rows: CSV, TSV, JSONL or Parquet file, plain or compressed, a pattern of files, a list of files, "
            "Hugging Face dataset id or folder, or demo:NAME"
        ),
    ] = None
    validation_file: Annotated[Files | None, _option("your own validation rows instead of a split")] = None
    test_file: Annotated[Files | None, _option("your own test rows instead of a split")] = None
    unlabelled_file: Annotated[
        Files | None, _option("unlabelled texts, from which a student learns in addition to the rows")
    ] = None
    delimiter: Annotated[
        str | None,
        _option("character between the fields of a CSV file; unset: detected from the first records"),
    ] = None
    encoding: Annotated[str, _option("encoding of text files, as in cp1252")] = "utf-8"
    max_file_bytes: Annotated[int, _option("larger files are refused; counted after decompression", "bytes", ge=1)] = (
        LIMITS.max_file_bytes
    )
    max_compression_ratio: Annotated[
        float, _option("a compressed file that unpacks to more than this many times its size is refused", ge=1)
    ] = LIMITS.max_compression_ratio
    max_line_bytes: Annotated[
        int, _option("a file with a longer line, or a longer record of several lines, is refused", "bytes", ge=1)
    ] = LIMITS.max_line_bytes
    max_file_rows: Annotated[int, _option("a file with more rows is refused", "rows", ge=1)] = LIMITS.max_file_rows
    max_nesting: Annotated[int, _option("JSON with more deeply nested lists and objects is refused", ge=1, le=500)] = (
        LIMITS.max_nesting
    )
    max_digits: Annotated[int, _option("JSON that contains a number with more digits is refused", ge=1, le=4_300)] = (
        LIMITS.max_digits
    )
    text_column: Annotated[str, _option("column with the text")] = "text"
    label_column: Annotated[str, _option("column with the label, or the labels where multi_label is on")] = "label"
    multi_label: Annotated[bool, _option("whether a row can have any number of labels, as a list or delimited")] = False
    label_delimiter: Annotated[str, _option("text between the labels of one row", min_length=1)] = ","
    target_column: Annotated[str, _option("column with the number of a regression, or the target text")] = "target"
    tokens_column: Annotated[str, _option("column with a row's tokens")] = "tokens"
    tags_column: Annotated[str, _option("column with the tag of each token")] = "tags"
    spans_column: Annotated[
        str, _option("column with spans of the text, each with start, end and label; read if there are no tokens")
    ] = "spans"
    question_column: Annotated[str, _option("column with the question")] = "question"
    context_column: Annotated[str, _option("column with the text that holds the answer")] = "context"
    answers_column: Annotated[str, _option("column with the answers, in the shape of SQuAD")] = "answers"
    messages_column: Annotated[str, _option("column with the messages of a chat, each with role and content")] = (
        "messages"
    )
    prompt_column: Annotated[str, _option("column with the prompt that belongs to a completion")] = "prompt"
    completion_column: Annotated[str, _option("column with the completion of the prompt")] = "completion"
    source_column: Annotated[str, _option("column with the source text of a pair")] = "source"
    group_column: Annotated[str | None, _option("column whose equal values keep their rows in one split")] = None
    slice_columns: Annotated[
        list[str] | None,
        _option("additional columns: metrics are also measured for each of their values"),
    ] = None
    time_column: Annotated[
        str | None,
        _option("column with the time of a row: the latest rows become the test split, those before them validation"),
    ] = None
    validation_from: Annotated[
        str | float | None, _option("time at which validation begins; unset: by validation_fraction")
    ] = None
    test_from: Annotated[str | float | None, _option("time at which the test begins; unset: by test_fraction")] = None
    skip_bad_rows: Annotated[bool, _option("drop and count rows that can't be used, instead of refusing the file")] = (
        False
    )
    clean: Annotated[
        list[CleanStep] | None,
        _option("cleaning steps, always run in the order of this list of choices; unset: texts stay as they are"),
    ] = None
    near_duplicate_similarity: Annotated[
        float,
        _option("Jaccard similarity of character 5-grams at which two texts count as near duplicates", gt=0, le=1),
    ] = 0.7
    anonymise: Annotated[bool, _option("replace personal data with placeholders, in training and in the artifact")] = (
        False
    )
    anonymise_kinds: Annotated[list[PersonalKind] | None, _option("kinds of personal data to replace; unset: all")] = (
        None
    )
    anonymise_region: Annotated[
        str, _option("country whose phone numbers are recognized without a prefix, as in US")
    ] = "US"
    anonymise_names: Annotated[
        str | None, _option("spaCy model that finds names and places, through presidio; unset: neither is replaced")
    ] = None
    validation_fraction: Annotated[
        float, _option("share of the rows for validation, stratified by label", gt=0, lt=1)
    ] = 0.1
    test_fraction: Annotated[float, _option("share of the rows for the test, stratified by label", gt=0, lt=1)] = 0.1
    max_train_rows: Annotated[
        Rows | None,
        _option("largest number of labelled training rows; the rest is used as unlabelled text", "rows"),
    ] = None
    max_eval_rows: Annotated[Rows | None, _option("largest number of rows in validation and in test", "rows")] = None
    balance: Annotated[
        Balance, _option("how training makes up for rare labels: weights in the loss, repeated rows or fewer rows")
    ] = "none"

    def limits(self) -> Limits:
        """The limits of a file of rows."""
        names = [field.name for field in dataclasses.fields(Limits) if field.name != "flag"]
        return Limits(flag=spell_data_option, **{name: getattr(self, name) for name in names})


@_config()
class AugmentConfig(StageConfig):
    """Augmenting the training rows."""

    enabled: Annotated[bool, _option("whether to augment the training rows after the teacher is trained")] = False
    methods: Annotated[
        list[Augmenter] | None, _option("how a row is changed, each method separately; unset: swap and deletion")
    ] = None
    copies: Annotated[int, _option("changed copies of a row by each method", ge=1)] = 1
    max_rows: Annotated[Rows | None, _option("largest number of training rows to augment", "rows")] = None
    word_share: Annotated[
        float, _option("share of a text's words that swap, deletion and masked_lm change", gt=0, lt=1)
    ] = 0.1
    masked_model: Annotated[str | None, _option("masked language model: folder or Hugging Face id")] = None
    translate_to: Annotated[str | None, _option("Marian model into another language: folder or Hugging Face id")] = None
    translate_back: Annotated[str | None, _option("Marian model from that language back")] = None
    identity_terms: Annotated[
        str | None,
        _option(
            "YAML file of the terms that counterfactual swaps; unset: finetune.identity_terms, or the list of edgeft"
        ),
    ] = None
    teacher_agrees: Annotated[
        bool,
        _option(
            "keep only rows to which the teacher gives the label of the original; counterfactual ones are always kept"
        ),
    ] = True
    batch_size: Annotated[int, _option("texts in one forward pass", "rows", ge=1)] = 16
    device: Annotated[
        Literal["auto", "cpu", "cuda"], _option("where the models run; auto: a GPU where there is one")
    ] = "auto"

"""Request and response messages, and the checks of requests."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any

import msgspec
from litestar.exceptions import HTTPException
from msgspec import UNSET, Meta, UnsetType

from edgeft.artifact import MODEL, Calibration
from edgeft.cleaning import Cleaning
from edgeft.runtime.answers.tags import STRATEGIES
from edgeft.serve.service import ModelProtocol
from edgeft.serve.settings import ServeSettings


class Question(msgspec.Struct, forbid_unknown_fields=True):
    """A question, and the text in which its answer may stand."""

    question: str
    context: str


class PredictRequest(msgspec.Struct, forbid_unknown_fields=True):
    """One text or several; of question-answering one question or several."""

    text: Annotated[str, Meta(description="one text")] | UnsetType = UNSET
    texts: Annotated[list[str], Meta(description="several texts, instead of one")] | UnsetType = UNSET
    question: Annotated[str, Meta(description="one question, with its context")] | UnsetType = UNSET
    context: Annotated[str, Meta(description="where its answer may stand")] | UnsetType = UNSET
    questions: Annotated[list[Question], Meta(description="several questions, instead of one")] | UnsetType = UNSET
    model: Annotated[str, Meta(description="which model; needed where there are several")] | UnsetType = UNSET
    top_k: Annotated[int, Meta(ge=1, description="answers for each text; null: all labels")] | UnsetType | None = UNSET
    aggregation_strategy: (
        Annotated[str, Meta(description="of tags: each token (none), or groups (simple, first)")] | UnsetType
    ) = UNSET


OPTIONS = ("top_k", "aggregation_strategy")


class PredictResponse(msgspec.Struct):
    """The answer."""

    model: str
    predictions: Annotated[
        list[Any],
        Meta(
            description='one for each text: {"label", "score"} of a label or a number, or a list of them, best first, '
            'where top_k was given, with "abstain" where the model has a threshold (see /v1/model): true where it is '
            "too unsure to hold its error rate; the list of its tags; its embedding as a list of numbers; for each "
            'question {"answer", "score", "start", "end"}, or a list of them likewise'
        ),
    ]


class ModelCard(msgspec.Struct):
    """What a client may know of a model."""

    name: str
    task: str
    kind: Annotated[str, Meta(description="which of the task's forms, as in multi-label")]
    labels: list[str]
    precision: str
    max_length: Annotated[int, Meta(description="tokens of a forward pass")]
    long_texts: Annotated[str, Meta(description="longer ones are truncated, or windowed: answered whole")]
    cleaning: Annotated[Cleaning, Meta(description="what is done to a text before it is tokenized, as in training")]
    calibration: Annotated[
        Calibration, Meta(description="how probabilities are made of logits, and below which one an answer abstains")
    ]
    metrics: dict[str, dict[str, Any]]
    sha256: Annotated[str, Meta(description="of model.onnx")]


class ModelCards(msgspec.Struct):
    """The models of this server."""

    models: list[ModelCard]


class Health(msgspec.Struct):
    """All is well."""

    status: str = "ok"


class ErrorMessage(msgspec.Struct):
    """What went wrong, in one line, without a word of the request."""

    error: str


def card(name: str, model: ModelProtocol) -> ModelCard:
    """The card of a model."""
    manifest = model.manifest
    file = manifest.files.get(MODEL)
    return ModelCard(
        name=name,
        task=manifest.task,
        kind=manifest.kind,
        labels=model.labels,
        precision=manifest.quantization.precision,
        max_length=manifest.inputs.max_length,
        long_texts=model.long_texts,
        cleaning=manifest.inputs.cleaning,
        calibration=manifest.calibration,
        metrics=manifest.metrics,
        sha256=file.sha256 if file else "",
    )


def inputs_of(request: PredictRequest, model: ModelProtocol, settings: ServeSettings) -> list[Any]:
    """What the model is asked: texts, or questions with their contexts.

    Raises:
        HTTPException: none, both kinds, the other kind, too many, or one too long (422).
    """
    inputs = _questions(request) if model.pairs else _texts(request)
    what = "question" if model.pairs else "text"
    if not inputs:
        raise http_error(f'"{what}s" is empty')
    if len(inputs) > settings.max_texts:
        raise http_error(f"{len(inputs)} {what}s; at most {settings.max_texts} in one request")
    for index, item in enumerate(inputs):
        length = len(item) if isinstance(item, str) else sum(map(len, item.values()))
        if length > settings.max_characters:
            raise http_error(f"{what} {index} has {length} characters; at most {settings.max_characters}")
    return inputs


def _texts(request: PredictRequest) -> list[Any]:
    _none_of(request, ("question", "context", "questions"), "texts")
    if isinstance(request.text, str) == isinstance(request.texts, list):
        raise http_error('give either "text" or "texts"')
    return [request.text] if isinstance(request.text, str) else list(request.texts or ())


def _questions(request: PredictRequest) -> list[Any]:
    _none_of(request, ("text", "texts"), "questions with contexts")
    single = (request.question, request.context)
    if isinstance(request.questions, list) and single == (UNSET, UNSET):
        return [{"question": question.question, "context": question.context} for question in request.questions]
    if UNSET in single or isinstance(request.questions, list):
        raise http_error('give either "question" and "context" or "questions"')
    return [{"question": request.question, "context": request.context}]


def _none_of(request: PredictRequest, names: Sequence[str], taken: str) -> None:
    sent = next((name for name in names if getattr(request, name) is not UNSET), None)
    if sent is not None:
        raise http_error(f'"{sent}" is for other models; this one takes {taken}')


def options_of(request: PredictRequest, model: ModelProtocol) -> dict[str, Any]:
    """The options of a request.

    Raises:
        HTTPException: one that the model hasn't got (422).
    """
    options = {name: getattr(request, name) for name in OPTIONS if getattr(request, name) is not UNSET}
    if options.get("aggregation_strategy", STRATEGIES[0]) not in STRATEGIES:
        raise http_error(f"aggregation_strategy: expected one of {', '.join(STRATEGIES)}")
    _none_of(request, [name for name in OPTIONS if name not in model.takes], f"{', '.join(model.takes) or 'no option'}")
    return options


def http_error(detail: str, status_code: int = 422, **headers: str) -> HTTPException:
    """An error response; `Retry_After="1"` becomes the header Retry-After."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return HTTPException(detail=detail, status_code=status_code, headers=named or None)

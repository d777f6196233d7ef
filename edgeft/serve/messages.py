"""What goes over the wire, and the checks of what came."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
from litestar.exceptions import HTTPException
from msgspec import UNSET, Meta, UnsetType

from edgeft.artifact import MODEL
from edgeft.cleaning import Cleaning
from edgeft.serve.service import ModelProtocol
from edgeft.serve.settings import ServeSettings


class PredictRequest(msgspec.Struct, forbid_unknown_fields=True):
    """One text or several."""

    text: Annotated[str, Meta(description="one text")] | UnsetType = UNSET
    texts: Annotated[list[str], Meta(description="several texts, instead of one")] | UnsetType = UNSET
    model: Annotated[str, Meta(description="which model; needed where there are several")] | UnsetType = UNSET
    top_k: Annotated[int, Meta(ge=1, description="answers for each text; null: all labels")] | UnsetType | None = UNSET


class PredictResponse(msgspec.Struct):
    """The answer."""

    model: str
    predictions: Annotated[
        list[Any],
        Meta(description='one for each text: {"label", "score"}, or a list of them, best first, where top_k was given'),
    ]


class ModelCard(msgspec.Struct):
    """What a client may know of a model."""

    name: str
    task: str
    labels: list[str]
    precision: str
    max_length: Annotated[int, Meta(description="longer texts are truncated to so many tokens")]
    cleaning: Annotated[Cleaning, Meta(description="what is done to a text before it is tokenized, as in training")]
    calibration: dict[str, Any]
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
        labels=model.labels,
        precision=manifest.quantization.precision,
        max_length=manifest.inputs.max_length,
        cleaning=manifest.inputs.cleaning,
        calibration=manifest.calibration,
        metrics=manifest.metrics,
        sha256=file.sha256 if file else "",
    )


def texts_of(request: PredictRequest, settings: ServeSettings) -> list[str]:
    """The texts of a request.

    Raises:
        HTTPException: none, both kinds, too many, or one too long (422).
    """
    if (request.text is UNSET) == (request.texts is UNSET):
        raise refuse('give either "text" or "texts"')
    texts = [request.text] if isinstance(request.text, str) else request.texts
    assert isinstance(texts, list)
    if not texts:
        raise refuse('"texts" is empty')
    if len(texts) > settings.max_texts:
        raise refuse(f"{len(texts)} texts; at most {settings.max_texts} in one request")
    for index, text in enumerate(texts):
        if len(text) > settings.max_characters:
            raise refuse(f"text {index} has {len(text)} characters; at most {settings.max_characters}")
    return texts


def refuse(detail: str, status_code: int = 422, **headers: str) -> HTTPException:
    """An error response; `Retry_After="1"` becomes the header Retry-After."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return HTTPException(detail=detail, status_code=status_code, headers=named or None)

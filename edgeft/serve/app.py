"""The HTTP interface."""

from __future__ import annotations

import asyncio
import hmac
import time
from collections.abc import Mapping
from typing import Annotated, Any

from litestar import Litestar, Request, Response, get, post
from litestar.connection import ASGIConnection
from litestar.datastructures import State
from litestar.exceptions import HTTPException, ValidationException
from litestar.handlers import BaseRouteHandler
from litestar.openapi import OpenAPIConfig, ResponseSpec
from litestar.openapi.plugins import JsonRenderPlugin
from litestar.params import Body
from litestar.types import ASGIApp, ExceptionHandlersMap, Receive, Scope, Send
from litestar.types.asgi_types import HTTPReceiveMessage, WebSocketReceiveMessage

from edgeft import __version__
from edgeft.serve.messages import (
    ErrorMessage,
    Health,
    ModelCards,
    PredictRequest,
    PredictResponse,
    card,
    http_error,
    inputs_of,
    options_of,
)
from edgeft.serve.service import ModelProtocol, Service
from edgeft.serve.settings import ServeSettings
from edgeft.serve.worker import InferenceError, OverloadedError, place
from edgeft.terminal.printing import say

Connection = ASGIConnection[Any, Any, Any, Any]


# ---------------------------------------------------------------------------------------------- before the body is read


def authorized(connection: Connection, _: BaseRouteHandler) -> None:
    """Ask for the bearer token, compared in constant time."""
    token = connection.app.state.service.settings.token
    header = connection.headers.get("authorization", "")
    if token is not None and not hmac.compare_digest(header.encode("latin-1"), f"Bearer {token}".encode()):
        raise http_error("a valid bearer token is needed", 401, WWW_Authenticate="Bearer")


def accepting(connection: Connection, _: BaseRouteHandler) -> None:
    """Take nothing new on the way out."""
    if connection.app.state.service.draining:
        raise http_error("the server is shutting down", 503, Retry_After="1")


def tracked(app: ASGIApp) -> ASGIApp:
    """Middleware: count the request until its answer is sent, and bound the time its body may take."""

    async def middleware(scope: Scope, receive: Receive, send: Send) -> None:
        service: Service = scope["litestar_app"].state.service
        deadline = time.monotonic() + service.settings.timeout_seconds

        async def receive_in_time() -> HTTPReceiveMessage | WebSocketReceiveMessage:
            try:
                return await asyncio.wait_for(receive(), deadline - time.monotonic())
            except TimeoutError:
                raise http_error("the request body did not arrive in time", 408, Connection="close") from None

        service.active += 1
        try:
            await app(scope, receive_in_time, send)
        finally:
            service.active -= 1

    return middleware


# ------------------------------------------------------------------------------------------------------------- handlers

REFUSALS = {
    400: "the body is not JSON",
    401: "wrong or missing token",
    404: "unknown model",
    408: "the body did not arrive in time",
    413: "body too large",
    422: "not a valid request",
    500: "the inference failed",
    503: "too many requests are waiting, or the server is shutting down",
    504: "no answer in time",
}
SPECS = {code: ResponseSpec(ErrorMessage, description=text, generate_examples=False) for code, text in REFUSALS.items()}


@post("/v1/predict", status_code=200, guards=[authorized, accepting], middleware=[tracked], responses=SPECS)
async def predict(data: Annotated[PredictRequest, Body()], state: State) -> PredictResponse:
    """Predict one text or several; answer one question or several."""
    service: Service = state.service
    name = _chosen(service, data)
    model = service.models[name]
    inputs, options = inputs_of(data, model, service.settings), options_of(data, model)
    return PredictResponse(name, await _answers(service, name, inputs, options))


def _chosen(service: Service, data: PredictRequest) -> str:
    names = ", ".join(service.models)
    if isinstance(data.model, str):
        if data.model not in service.models:
            raise http_error(f"no such model; the models are {names}", 404)
        return data.model
    if len(service.models) > 1:
        raise http_error(f'name a "model": {names}')
    return next(iter(service.models))


async def _answers(service: Service, name: str, inputs: list[Any], options: dict[str, Any]) -> list[Any]:
    seconds = service.settings.timeout_seconds
    try:
        future = service.submit(name, inputs, options)
        return await asyncio.wait_for(asyncio.wrap_future(future), seconds)
    except OverloadedError:
        detail = f"{service.settings.max_waiting} requests are waiting already"
        raise http_error(detail, 503, Retry_After="1") from None
    except TimeoutError:
        raise http_error(f"no answer within {seconds:g} s", 504) from None
    except InferenceError as error:
        raise http_error(str(error), 500) from None


@get("/v1/model", guards=[authorized])
async def model(state: State) -> ModelCards:
    """The models of this server, with their measured quality."""
    service: Service = state.service
    return ModelCards([card(name, served) for name, served in service.models.items()])


@get("/healthz", responses={503: ResponseSpec(ErrorMessage, description="restart me", generate_examples=False)})
async def healthz(state: State) -> Health:
    """Whether the process is alive and its worker healthy."""
    if problem := state.service.problem():
        raise http_error(problem, 503)
    return Health()


@get("/readyz", responses={503: ResponseSpec(ErrorMessage, description="not now", generate_examples=False)})
async def readyz(state: State) -> Health:
    """Whether requests may be sent here now."""
    if reason := state.service.not_ready():
        raise http_error(reason, 503, Retry_After="1")
    return Health()


# --------------------------------------------------------------------------------------------------------------- errors


def on_http_error(_: Request[Any, Any, Any], error: HTTPException) -> Response[ErrorMessage]:
    """Any refusal as one line of JSON."""
    detail = " ".join(error.detail.split())
    return Response(ErrorMessage(detail), status_code=error.status_code, headers=error.headers)


def on_invalid(_: Request[Any, Any, Any], error: ValidationException) -> Response[ErrorMessage]:
    """JSON of another shape, as in "texts.0: expected `str`, got `int`"; unknown keys are not repeated."""
    problems = [problem for problem in error.extra or [] if isinstance(problem, dict)]
    detail = "; ".join(dict.fromkeys(map(_problem, problems))) or "the request is not valid"
    return Response(ErrorMessage(detail), status_code=422)


def _problem(problem: dict[str, str]) -> str:
    message = problem.get("message", "").split(" - at ")[0]
    message = message[:1].lower() + message[1:]
    if "unknown field" in message:
        return f"unknown key; the keys are {', '.join(PredictRequest.__struct_fields__)}"
    if message == "'data'":
        return "the body is empty"
    key = problem.get("key", "").removeprefix("data").lstrip(".")
    if key == "text" and "got `array`" in message:
        return 'text: expected one text, got a list; several go in "texts"'
    if key == "question" and "got `array`" in message:
        return 'question: expected one question, got a list; several go in "questions"'
    return f"{key}: {message}" if key else message


def on_too_large(request: Request[Any, Any, Any], _: HTTPException) -> Response[ErrorMessage]:
    """The body is over the limit."""
    limit = request.app.state.service.settings.max_body_bytes
    return Response(ErrorMessage(f"the body is too large; at most {limit} bytes"), status_code=413)


def on_unreadable(_: Request[Any, Any, Any], error: Exception) -> Response[ErrorMessage]:
    """Two ways of not being JSON that Litestar doesn't catch."""
    detail = "nested too deeply" if isinstance(error, RecursionError) else "not UTF-8"
    return Response(ErrorMessage(f"the body is {detail}"), status_code=400)


def on_bug(_: Request[Any, Any, Any], error: Exception) -> Response[ErrorMessage]:
    """Anything else: its kind and place, not its message, which could quote a text."""
    message = f"internal error: {place(error)}"
    say(f"serve: {message}")
    return Response(ErrorMessage(message), status_code=500)


ON_ERROR: ExceptionHandlersMap = {
    413: on_too_large,
    HTTPException: on_http_error,
    ValidationException: on_invalid,
    UnicodeDecodeError: on_unreadable,
    RecursionError: on_unreadable,
    Exception: on_bug,
}


def create_app(models: Mapping[str, ModelProtocol], settings: ServeSettings | None = None) -> Litestar:
    """The application.

    Args:
        models: by the name that requests use.
        settings: the limits; None: the defaults.

    Raises:
        UserError: no model.
    """
    settings = settings or ServeSettings()
    service = Service(models, settings)
    docs = OpenAPIConfig(
        "edgeft", __version__, path="/schema", render_plugins=[JsonRenderPlugin(path=["/", "/openapi.json"])]
    )
    return Litestar(
        [predict, model, healthz, readyz],
        state=State({"service": service}),
        on_startup=[service.start],
        on_shutdown=[service.stop],
        request_max_body_size=settings.max_body_bytes,
        exception_handlers=ON_ERROR,
        openapi_config=docs,
        logging_config=None,
        debug=False,
    )

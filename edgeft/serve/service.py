"""State shared by the handlers: the models, the worker and the server's readiness."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from typing import Any, Protocol

from edgeft.artifact import Manifest
from edgeft.errors import ArtifactError, UserError
from edgeft.serve.settings import ServeSettings
from edgeft.serve.worker import Worker
from edgeft.signing import short_ids

STUCK_TIMEOUTS = 3  # an inference that runs for so many timeouts counts as stuck
STOP_SECONDS = 1.0  # whatever still runs after the drain has lost its client already


class ModelProtocol(Protocol):
    """The members of `edgeft.Model` that the server uses; they must be thread-safe."""

    @property
    def manifest(self) -> Manifest:
        """The artifact's manifest."""

    @property
    def name(self) -> str:
        """The artifact's folder name."""

    @property
    def labels(self) -> list[str]:
        """In the order of the logits."""

    @property
    def long_texts(self) -> str:
        """`truncated` or `windowed`."""

    @property
    def takes(self) -> tuple[str, ...]:
        """The options of a call."""

    @property
    def pairs(self) -> bool:
        """Whether it takes questions with contexts instead of texts."""

    @property
    def sample(self) -> Any:
        """Any input."""

    @property
    def signer(self) -> str | None:
        """Fingerprint of the key that signed the artifact, checked when it was loaded."""

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Called with a list of inputs and options; answers in the shape of `transformers.pipeline`."""


class Service:
    """Models behind one worker.

    Attributes:
        active: prediction requests between their first byte and their answer.
        draining: set by the first signal; nothing new is accepted.
    """

    def __init__(self, models: Mapping[str, ModelProtocol], settings: ServeSettings) -> None:
        if not models:
            raise UserError("serve: no model given; name at least one artifact")
        for name, model in models.items():
            check_signer(name, model, settings)
        self.models = dict(models)
        self.settings = settings
        self.active = 0
        self.draining = False
        self._cold = set(models)  # changed by the worker, read by the event loop
        self._warm_up_error: str | None = None
        self._lock = threading.Lock()
        stuck_seconds = STUCK_TIMEOUTS * settings.timeout_seconds
        self._worker = Worker(settings.threads, settings.max_waiting, stuck_seconds)

    def start(self) -> None:
        """Start the worker and warm the models up, without waiting for them."""
        self._worker.start()
        warm_up = self._worker.submit(self._warm_up)
        warm_up.add_done_callback(self._note_warm_up)

    def stop(self) -> bool:
        """Stop the worker; return whether it ended in time."""
        return self._worker.stop(STOP_SECONDS)

    def submit(self, name: str, inputs: Sequence[Any], options: dict[str, Any]) -> Future[list[Any]]:
        """Queue the inference of one request.

        Args:
            name: of the model.
            inputs: what is asked.
            options: of the call; with `top_k` each prediction is a list, even of one.

        Raises:
            OverloadedError: too many are waiting.
        """
        return self._worker.submit(lambda: predict(self.models[name], inputs, options))

    def problem(self) -> str | None:
        """Why the service isn't healthy; None if it is."""
        return self._warm_up_error or self._worker.problem()

    def not_ready(self) -> str | None:
        """Why the service isn't ready for requests; None if it is."""
        if self.draining:
            return "the server is shutting down"
        if problem := self.problem():
            return problem
        return f"warming up: {', '.join(sorted(self._cold))}" if self._cold else None

    def _warm_up(self) -> None:
        for name, model in self.models.items():
            predict(model, [model.sample], {})
            with self._lock:
                self._cold.discard(name)

    def _note_warm_up(self, warm_up: Future[None]) -> None:
        if error := warm_up.exception():
            self._warm_up_error = f"warm-up: {error}"


def check_signer(name: str, model: ModelProtocol, settings: ServeSettings) -> None:
    """Whether the server may answer with a model.

    Raises:
        ArtifactError: it accepts signed artifacts only, and this is none.
    """
    if settings.trusted_signers and model.signer not in settings.trusted_signers:
        by = f"signed by {model.signer[:16]}" if model.signer else "not loaded with a checked signature"
        trusted = short_ids(settings.trusted_signers)
        raise ArtifactError(
            f"serve: {name} is {by}, and this server takes only what a trusted key signed ({trusted}); "
            "load it with trusted=[...], or on the command line with --trusted PUB"
        )


def predict(model: ModelProtocol, inputs: Sequence[Any], options: dict[str, Any]) -> list[Any]:
    """One prediction for each input, each a list where `top_k` was given.

    Raises:
        RuntimeError: the model gave another number of answers.
    """
    answers, nested = list(model(list(inputs), **options)), "top_k" in options
    if len(answers) != len(inputs):
        raise RuntimeError(f"{len(answers)} answers for {len(inputs)} texts")
    return [[answer] if nested and isinstance(answer, dict) else answer for answer in answers]

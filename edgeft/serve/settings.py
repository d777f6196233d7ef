"""What the server allows."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from edgeft.errors import UserError


@dataclass(frozen=True, kw_only=True)
class ServeSettings:
    """Where the server listens and what it allows.

    Attributes:
        host: address to listen on; loopback unless told otherwise.
        port: TCP port; 0: any free one.
        max_body_bytes: a larger request body is refused (413).
        max_texts: more texts in one request are refused (422).
        max_characters: a longer text is refused (422).
        timeout_seconds: for receiving a body (408), and for its answer, waiting included (504).
        max_waiting: requests queued or running; one more is refused (503).
        threads: inferences that run at the same time.
        token: bearer token asked of every request under /v1; None: none asked.
        trusted_signers: fingerprints of keys; a model whose artifact none of them signed is not served. Empty: any is.

    Raises:
        UserError: one line for each value out of range.
    """

    host: str = "127.0.0.1"
    port: int = 8000
    max_body_bytes: int = 1 << 20
    max_texts: int = 64
    max_characters: int = 20_000
    timeout_seconds: float = 10.0
    max_waiting: int = 64
    threads: int = 1
    token: str | None = field(default=None, repr=False)
    trusted_signers: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if problems := list(self._problems()):
            raise UserError("\n".join(problems))

    def _problems(self) -> Iterator[str]:
        if not 0 <= self.port <= 65535:
            yield f"serve: port {self.port} is not between 0 and 65535"
        for name in ("max_body_bytes", "max_texts", "max_characters", "timeout_seconds", "max_waiting", "threads"):
            if not getattr(self, name) > 0:
                yield f"serve: {name} is {getattr(self, name)}; it must be over 0"
        if self.token is not None and not self.token.strip():
            yield "serve: the token is empty; leave it unset to ask for none"

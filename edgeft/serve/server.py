"""The process: a socket, uvicorn, and a stop that drops nothing."""

from __future__ import annotations

import errno
import ipaddress
import logging
import math
import socket
import time
from collections.abc import Mapping
from types import FrameType

import uvicorn

from edgeft.errors import EdgeftError, UserError
from edgeft.serve.app import create_app
from edgeft.serve.service import ModelProtocol, Service
from edgeft.serve.settings import ServeSettings
from edgeft.terminal.printing import say

BACKLOG = 128


class Server(uvicorn.Server):
    """uvicorn that drains: the first signal stops new work and waits for the work in hand, a second one doesn't."""

    def __init__(self, config: uvicorn.Config, service: Service, url: str) -> None:
        super().__init__(config)
        self._service = service
        self._url = url
        self._drain_until = math.inf

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Say the URL once it answers."""
        await super().startup(sockets)
        say(f"serve: {', '.join(self._service.models)} at {self._url}")

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Begin to drain; the signal is not raised again at the end, so that the exit code is 0."""
        if self._service.draining:
            self.should_exit = self.force_exit = True
            logging.getLogger("uvicorn.error").setLevel(logging.CRITICAL)  # a traceback for each dropped request
        self._service.draining = True
        # One timeout for a body on its way, one for its answer.
        self._drain_until = time.monotonic() + 2 * self._service.settings.timeout_seconds

    async def on_tick(self, counter: int) -> bool:
        """Leave once every accepted request has its answer."""
        if self._service.draining and (self._service.active == 0 or time.monotonic() > self._drain_until):
            self.should_exit = True
        return await super().on_tick(counter)


def bind(host: str, port: int) -> socket.socket:
    """A bound socket.

    Raises:
        UserError: no such host, or the port is taken or not allowed.
    """
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        bound = socket.socket(family, kind, protocol)
    except OSError as error:
        raise UserError(f"serve: can't listen on {host}: {error.strerror or error}") from None
    try:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind(address)
        bound.listen(BACKLOG)
    except OSError as error:
        bound.close()
        remedy = "; give another --port" if error.errno == errno.EADDRINUSE else ""
        raise UserError(f"serve: can't listen on {host} port {port}: {error.strerror}{remedy}") from None
    return bound


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach the host; a name that is not localhost counts as reachable."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def url_of(bound: socket.socket) -> str:
    """As in http://127.0.0.1:8000."""
    host, port = bound.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def serve(models: Mapping[str, ModelProtocol], settings: ServeSettings | None = None) -> None:
    """Serve until SIGTERM or SIGINT, and return when every accepted request has its answer.

    Args:
        models: by the name that requests use.
        settings: where to listen, and the limits; None: the defaults.

    Raises:
        UserError: no model, no such host, or the port is taken.
        EdgeftError: a second signal cut requests off.
    """
    settings = settings or ServeSettings()
    app = create_app(models, settings)
    if settings.token is None and not is_loopback(settings.host):
        say(f"serve: warning: {settings.host} may be reached from other machines and no token is asked for")
    with bind(settings.host, settings.port) as bound:
        config = uvicorn.Config(
            app,
            access_log=False,
            log_config=None,
            log_level="warning",
            server_header=False,
            backlog=BACKLOG,
            timeout_graceful_shutdown=math.ceil(settings.timeout_seconds),
        )
        server = Server(config, app.state.service, url_of(bound))
        server.run([bound])
    if server.force_exit:
        raise EdgeftError("serve: a second signal came; requests without an answer were dropped")

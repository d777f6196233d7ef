"""The runtime over HTTP: `serve({"name": edgeft.load("artifact")}, ServeSettings(port=8000))`."""

from __future__ import annotations

from edgeft.errors import require

for _module in ("litestar", "uvicorn"):
    require(_module, "to serve over HTTP")

from edgeft.serve.app import create_app  # noqa: E402
from edgeft.serve.server import serve  # noqa: E402
from edgeft.serve.service import ModelProtocol  # noqa: E402
from edgeft.serve.settings import ServeSettings  # noqa: E402

__all__ = ["ModelProtocol", "ServeSettings", "create_app", "serve"]

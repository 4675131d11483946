"""uvicorn, set up for mutual TLS: one bound socket, graceful end."""

from __future__ import annotations

import signal
import socket
from collections.abc import Callable
from ssl import SSLContext
from typing import Final

import uvicorn
from starlette.types import ASGIApp
from typing_extensions import override

from verifier.api.client_certificate import ClientCertificateProtocol

KEEP_ALIVE_S: Final = 75
PLAIN_KEEP_ALIVE_S: Final = 5
"""A relying party fetches one thing; without a handshake a new connection costs little."""

FINISH_S: Final = 10
"""How long requests in progress may take once the end was asked for."""


class HttpServer:
    """The HTTPS door on a bound socket.

    Args:
        app: What is served.
        listener: Bound and listening.
        context: TLS; None for a plain HTTP door.
        connections: Connections held at once; more get 503.
    """

    def __init__(
        self, app: ASGIApp, *, listener: socket.socket, context: SSLContext | None, connections: int
    ) -> None:
        self._listener = listener
        config = uvicorn.Config(
            app,
            http=ClientCertificateProtocol,
            ws="none",
            loop="asyncio",
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=False,
            limit_concurrency=connections,
            timeout_keep_alive=PLAIN_KEEP_ALIVE_S if context is None else KEEP_ALIVE_S,
            timeout_graceful_shutdown=FINISH_S,
            ssl_context_factory=None if context is None else lambda _config, _default: context,
        )
        self._server = _Server(config)

    @property
    def address(self) -> tuple[str, int]:
        """Host and port that are listened on."""
        host, port = self._listener.getsockname()[:2]
        return str(host), int(port)

    def serve(self, ready: Callable[[], None]) -> None:
        """Serve until :meth:`finish`, SIGTERM or SIGINT; requests in progress are finished.

        Args:
            ready: Called once connections are taken.
        """
        self._server.ready = ready
        self._server.run(sockets=[self._listener])

    def finish(self) -> None:
        """Ask the server to end."""
        self._server.should_exit = True


class _Server(uvicorn.Server):
    """Says when it is ready."""

    ready: Callable[[], None]

    @override
    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets=sockets)
        if self.started:
            self.ready()


def take_signals() -> None:
    """Let SIGTERM and SIGINT end the server, not the process: uvicorn raises them again after."""
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, _ended)


def _ended(_number: int, _frame: object) -> None:
    """The server has seen it."""

"""The plain HTTP door: what relying parties fetch, and nothing else."""

from __future__ import annotations

from starlette.types import ASGIApp

from attestation.refusals import RefusalCode
from verifier.api.limits import Receive, Scope, Send
from verifier.api.problems import Problem
from verifier.issuance.publication import PREFIX


class PlainDoor:
    """ASGI application that lets through only what is for anyone and signed in itself.

    Args:
        app: The whole application.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] == "http" and not scope["path"].startswith(PREFIX + "/"):
            await _refuse(send)
            return
        await self._app(scope, receive, send)


async def _refuse(send: Send) -> None:
    problem = Problem(
        status=404,
        code=RefusalCode.REQUEST_INVALID.value,
        detail=f"this door serves {PREFIX}/ only; everything else is behind HTTPS",
    )
    body = problem.body("plain")
    await send({"type": "http.response.start", "status": 404, "headers": problem.all_headers(body)})
    await send({"type": "http.response.body", "body": body})

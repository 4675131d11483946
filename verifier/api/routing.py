"""Routes that cannot exist without an entry in the access table, guarded before they run."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any

from fastapi import Request, Response
from fastapi.routing import APIRoute
from starlette.concurrency import run_in_threadpool
from typing_extensions import override

from verifier.api.access import ACCESS, Caller, Guard
from verifier.ports import Clock

PROBLEMS: dict[int | str, dict[str, Any]] = {
    status: {
        "description": text,
        "content": {
            "application/problem+json": {"schema": {"$ref": "#/components/schemas/ProblemDocument"}}
        },
    }
    for status, text in {
        400: "The request is not understood",
        401: "No credential that is known",
        403: "The credential is not enough, or a proof does not hold",
        404: "No such thing",
        409: "The state has moved on",
        413: "Larger than the cap",
        415: "Wrong media type",
        422: "Well formed, but not supported",
        429: "Too many requests; Retry-After says when",
        500: "The verifier failed; nothing was concluded",
        503: "Store or signer not reachable; Retry-After says when",
    }.items()
}
"""Every route may answer with these."""


class GuardedRoute(APIRoute):
    """A route that is admitted by the guard first.

    Raises:
        LookupError: When it is made, if the access table does not know it.
    """

    @override
    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """Return the route's handler behind the guard."""
        inner = super().get_route_handler()
        demands = {ACCESS[method, self.path_format] for method in self.methods or ()}
        if len(demands) != 1:
            raise LookupError(f"{self.path_format} has methods of different access")
        access = demands.pop()

        async def guarded(request: Request) -> Response:
            guard: Guard = request.app.state.guard
            clock: Clock = request.app.state.clock
            request.state.caller = await run_in_threadpool(
                guard.admit,
                access,
                request.scope,
                clock.now(),
                request.path_params.get("device_id"),
            )
            return await inner(request)

        return guarded


def caller_of(request: Request) -> Caller:
    """Return who was admitted."""
    caller: Caller = request.state.caller
    return caller

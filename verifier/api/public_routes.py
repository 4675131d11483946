"""Routes that anyone may use, and the metrics: keys, health, descriptions of problems."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Final

from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse

from attestation.refusals import RefusalCode
from verifier.api.routing import PROBLEMS, GuardedRoute
from verifier.errors import NotFound
from verifier.services.suite import Services
from verifier.telemetry import Metrics, logger

READY_S: Final = 0.5
"""How long an answer about readiness is repeated."""


def public_router(services: Services, metrics: Metrics) -> APIRouter:
    """Return the routes without a device or reader behind them."""
    router = APIRouter(route_class=GuardedRoute, responses=PROBLEMS)
    _keys(router, services)
    _health(router, services, metrics)

    @router.get("/openapi.json", tags=["about"], summary="This API")
    def openapi(request: Request) -> JSONResponse:
        """Describe every route."""
        return JSONResponse(request.app.openapi())

    @router.get("/problems/{code}", tags=["about"], summary="What a problem's code means")
    def problem(code: str) -> JSONResponse:
        """Point at the explanation of one stable code."""
        if code not in set(RefusalCode):
            raise NotFound(RefusalCode.REQUEST_INVALID, f"{code[:60]!r} is not one of our codes")
        return JSONResponse({"code": code, "explained_in": f"docs/refusals.md#{code}"})

    return router


def _keys(router: APIRouter, services: Services) -> None:
    @router.get("/.well-known/jwks.json", tags=["results"], summary="Keys that sign results")
    def key_set() -> JSONResponse:
        """Give the public keys of every result that may still be believed."""
        return JSONResponse(
            services.key_set(services.clock.now()),
            headers={"cache-control": "public, max-age=60"},
            media_type="application/jwk-set+json",
        )

    @router.get(
        "/.well-known/authzen-configuration",
        tags=["decisions"],
        summary="OpenID AuthZEN metadata",
    )
    def authzen(request: Request) -> JSONResponse:
        """Describe the policy decision point."""
        base = str(request.base_url).rstrip("/")
        return JSONResponse(
            {
                "policy_decision_point": base,
                "access_evaluation_endpoint": f"{base}/access/v1/evaluation",
            }
        )


def _health(router: APIRouter, services: Services, metrics: Metrics) -> None:
    @router.get("/health/live", tags=["health"], summary="Is the process there?")
    def live() -> JSONResponse:
        """Say so."""
        return JSONResponse({"live": True})

    readiness = _Readiness(services.unready)

    @router.get("/health/ready", tags=["health"], summary="Can it serve?")
    def ready() -> JSONResponse:
        """Answer 200 when store and keys can be used, 503 with codes of what is wrong if not."""
        codes = readiness.codes()
        return JSONResponse(
            {"ready": not codes, "reasons": list(codes)}, status_code=503 if codes else 200
        )

    @router.get("/metrics", tags=["health"], summary="Prometheus metrics")
    def prometheus() -> Response:
        """Give the counters."""
        return Response(metrics.render(), media_type="text/plain; version=0.0.4")


class _Readiness:
    """Looks at most once in ``READY_S``: anyone may ask, as often as they like.

    Args:
        look: Returns ``code: words`` of everything that is wrong; costs a query and a signature.
    """

    def __init__(self, look: Callable[[], tuple[str, ...]]) -> None:
        self._look = look
        self._looking = threading.Lock()
        self._seen: tuple[str, ...] | None = None
        self._until = 0.0

    def codes(self) -> tuple[str, ...]:
        """Return the codes of what is wrong; their words are in the log, not for strangers."""
        stale = self._seen is None or time.monotonic() >= self._until
        # Whoever comes while another looks gets the last answer and does not wait.
        if stale and self._looking.acquire(blocking=self._seen is None):
            try:
                self._remember(self._look())
            finally:
                self._looking.release()
        return self._seen or ()

    def _remember(self, reasons: tuple[str, ...]) -> None:
        codes = tuple(reason.partition(":")[0] for reason in reasons)
        if codes != self._seen and reasons:
            logger("api").warning("not_ready", reasons=reasons)
        self._seen, self._until = codes, time.monotonic() + READY_S

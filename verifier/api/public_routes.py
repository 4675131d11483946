"""Routes that anyone may use, and the metrics: keys, health, descriptions of problems."""

from __future__ import annotations

from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse

from attestation.refusals import RefusalCode
from verifier.api.routing import PROBLEMS, GuardedRoute
from verifier.errors import NotFound
from verifier.services.suite import Services
from verifier.telemetry import Metrics


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

    @router.get("/health/ready", tags=["health"], summary="Can it serve?")
    def ready() -> JSONResponse:
        """Answer 200 when store and keys can be used, 503 with the reasons when not."""
        reasons = services.unready()
        return JSONResponse(
            {"ready": not reasons, "reasons": list(reasons)}, status_code=503 if reasons else 200
        )

    @router.get("/metrics", tags=["health"], summary="Prometheus metrics")
    def prometheus() -> Response:
        """Give the counters."""
        return Response(metrics.render(), media_type="text/plain; version=0.0.4")

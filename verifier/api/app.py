"""The application: routes to services, errors to problems, one door in front."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.openapi.utils import get_openapi
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp

from attestation.errors import AttestationError
from attestation.refusals import RefusalCode
from verifier.api.access import ACCESS, Guard
from verifier.api.agent_routes import agents_router
from verifier.api.devices_routes import devices_router
from verifier.api.door import Door
from verifier.api.enrolment_routes import enrolment_router
from verifier.api.est_routes import est_router
from verifier.api.evidence import EvidenceDoor
from verifier.api.pki_routes import pki_router
from verifier.api.problems import Problem, Refusals, internal_problem, wants_text
from verifier.api.public_routes import public_router
from verifier.api.reader_routes import reader_router
from verifier.api.schemas import ProblemDocument
from verifier.errors import ServiceError
from verifier.services.suite import Services
from verifier.settings import LimitSettings
from verifier.telemetry import Metrics, logger

_CODES = {
    404: RefusalCode.REQUEST_INVALID,
    405: RefusalCode.REQUEST_INVALID,
}


def build_app(
    *,
    services: Services,
    guard: Guard,
    limits: LimitSettings,
    metrics: Metrics,
    boot_id: str,
    version: str,
) -> ASGIApp:
    """Return the whole ASGI application.

    Args:
        services: The use cases.
        guard: Who may.
        limits: What one client may cost.
        metrics: Counters.
        boot_id: Part of every request id of this process.
        version: For OpenAPI.
    """
    log = logger("api")
    evidence = EvidenceDoor(services=services, guard=guard, metrics=metrics, log=log)
    routes = build_routes(services, guard, evidence, metrics, version)
    return Door(
        routes,
        evidence=evidence,
        limits=limits,
        boot_id=boot_id,
        metrics=metrics,
        log=log,
        admits_strangers=guard.admits_strangers,
    )


def build_routes(
    services: Services, guard: Guard, evidence: EvidenceDoor, metrics: Metrics, version: str
) -> FastAPI:
    """Return the routes alone, without the door in front of them."""
    app = FastAPI(
        title="device-attestation verifier",
        version=version,
        openapi_url=None,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        strict_content_type=True,
    )
    app.state.guard = guard
    app.state.clock = services.clock
    app.state.refusals = Refusals(metrics, logger("api"))
    for router in (
        enrolment_router(services),
        agents_router(services),
        devices_router(services, evidence),
        reader_router(services),
        public_router(services, metrics),
        est_router(services),
        pki_router(services),
    ):
        app.include_router(router)
    app.add_exception_handler(AttestationError, _refusal)
    app.add_exception_handler(ServiceError, _refusal)
    app.add_exception_handler(HTTPException, _http)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(Exception, _fault)
    app.openapi = lambda: _describe(app)  # type: ignore[method-assign]
    return app


def _answer(request: Request, problem: Problem) -> Response:
    as_text = wants_text(request.scope)
    body = problem.body(request.state.request_id, as_text=as_text)
    headers = problem.all_headers(body, as_text=as_text)
    named = {name.decode(): value.decode() for name, value in headers}
    return Response(body, status_code=problem.status, headers=named)


def _refusal(request: Request, error: Exception) -> Response:
    if not isinstance(error, AttestationError | ServiceError):
        return _fault(request, error)
    refusals: Refusals = request.app.state.refusals
    return _answer(request, refusals.problem(error, request.state.request_id))


def _http(request: Request, error: Exception) -> Response:
    status = error.status_code if isinstance(error, HTTPException) else 500
    detail = str(error.detail) if isinstance(error, HTTPException) else "the request failed"
    code = _CODES.get(status, RefusalCode.REQUEST_INVALID)
    if status == 404:  # noqa: PLR2004 - HTTP
        detail = f"there is nothing at {request.url.path[:120]!r}; /openapi.json lists all routes"
    problem = Problem(status=status, code=code.value, detail=detail)
    return _answer(request, request.app.state.refusals.counted(problem))


def _invalid(request: Request, error: Exception) -> Response:
    words = "the request is not understood"
    if isinstance(error, RequestValidationError) and error.errors():
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"])
        words = f"{place}: {first['msg']}"
    problem = Problem(status=400, code=RefusalCode.REQUEST_INVALID.value, detail=words[:300])
    return _answer(request, request.app.state.refusals.counted(problem))


def _fault(request: Request, _error: Exception) -> Response:
    return _answer(request, internal_problem(request.state.request_id))


def _describe(app: FastAPI) -> dict[str, Any]:
    """Return the OpenAPI document with problems, credentials and the access table in it."""
    if app.openapi_schema:
        return app.openapi_schema
    document = get_openapi(
        title=app.title,
        version=app.version,
        routes=app.routes,
        description="Devices attest with TPM evidence; relying parties read results and decisions.",
    )
    components = document.setdefault("components", {})
    schemas = components.setdefault("schemas", {})
    schemas["ProblemDocument"] = ProblemDocument.model_json_schema()
    components["securitySchemes"] = {
        "clientCertificate": {"type": "mutualTLS", "description": "IDevID or LDevID certificate"},
        "bearerToken": {"type": "http", "scheme": "bearer", "description": "verifier token create"},
    }
    for (method, path), access in ACCESS.items():
        operation = document["paths"][path][method.lower()]
        operation["x-access"] = access.value
        operation["security"] = list(_SECURITY[access.name])
    app.openapi_schema = document
    return document


_CERTIFICATE: dict[str, list[str]] = {"clientCertificate": []}
_TOKEN: dict[str, list[str]] = {"bearerToken": []}
_SECURITY = {
    "PUBLIC": (),
    "LDEVID": (_CERTIFICATE,),
    "ENROLLING": (_CERTIFICATE, {}),
    "ATTESTING": (_CERTIFICATE,),
    "READER": (_TOKEN,),
    "READER_OR_SELF": (_TOKEN, _CERTIFICATE),
}

"""Routes for devices that enrol: challenges, also by endorsement key, and the request."""

from __future__ import annotations

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse
from starlette.concurrency import run_in_threadpool

from attestation.limits import MAX_ENROLMENT_BYTES
from attestation.refusals import RefusalCode
from attestation.wire.media_types import ACTIVATION, ENROLMENT
from verifier.api.evidence import require_media_type
from verifier.api.limits import too_large
from verifier.api.routing import PROBLEMS, GuardedRoute, caller_of
from verifier.api.schemas import ActivationDocument, ChallengeDocument, EnrolmentDocument
from verifier.errors import NotAuthenticated
from verifier.services.suite import Services

_BINARY = {"schema": {"type": "string", "format": "binary"}}


def enrolment_router(services: Services) -> APIRouter:
    """Return the routes that enrolling devices use."""
    router = APIRouter(route_class=GuardedRoute, responses=PROBLEMS)

    @router.post(
        "/enrol/v1/challenges",
        response_model=ChallengeDocument,
        tags=["enrolment"],
        summary="Ask for an enrolment challenge",
    )
    def enrolment_challenge(request: Request) -> JSONResponse:
        """Give a nonce that only the holder of the presented certificate's key can use."""
        presented = _certificate(request)
        return JSONResponse(services.challenges.for_enrolment(presented, services.clock.now()))

    @router.post(
        "/enrol/v1/activations",
        response_model=ActivationDocument,
        tags=["enrolment"],
        summary="Ask to be challenged by the TPM's endorsement key",
        openapi_extra={"requestBody": {"required": True, "content": {ACTIVATION: _BINARY}}},
    )
    async def activation(request: Request) -> JSONResponse:
        """Wrap a secret to an endorsement key and an attestation key; give a nonce with it."""
        require_media_type(request.scope, ACTIVATION)
        message = await request.body()
        answer = await run_in_threadpool(
            services.activations.begin,
            message,
            caller_of(request).certificate,
            services.clock.now(),
        )
        return JSONResponse(answer)

    @router.post(
        "/enrol/v1/requests",
        status_code=201,
        response_model=EnrolmentDocument,
        tags=["enrolment"],
        summary="Enrol: chains, key proofs, fresh evidence and CSR in; LDevID certificate out",
        openapi_extra={"requestBody": {"required": True, "content": {ENROLMENT: _BINARY}}},
    )
    async def enrolment(request: Request) -> JSONResponse:
        """Judge an enrolment request and issue the device's LDevID certificate."""
        require_media_type(request.scope, ENROLMENT)
        message = await request.body()
        if len(message) > MAX_ENROLMENT_BYTES:
            raise too_large(MAX_ENROLMENT_BYTES)
        answer = await run_in_threadpool(
            services.enrol.enrol, message, caller_of(request).certificate, services.clock.now()
        )
        return JSONResponse(answer, status_code=201)

    return router


def _certificate(request: Request) -> bytes:
    certificate = caller_of(request).certificate
    if certificate is None:
        raise NotAuthenticated(
            RefusalCode.CLIENT_CERTIFICATE_REQUIRED,
            "this needs a TLS client certificate; whoever has none gets a challenge from "
            "/enrol/v1/activations",
        )
    return certificate

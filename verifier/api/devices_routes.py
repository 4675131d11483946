"""Routes for devices: enrolment, challenges, evidence."""

from __future__ import annotations

from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse
from starlette.concurrency import run_in_threadpool

from attestation.limits import MAX_ENROLMENT_BYTES
from attestation.refusals import RefusalCode
from attestation.wire.media_types import ACTIVATION, ENROLMENT, EVIDENCE
from verifier.api.evidence import EVIDENCE_PATH, EvidenceDoor, require_media_type
from verifier.api.limits import too_large
from verifier.api.routing import PROBLEMS, GuardedRoute, caller_of
from verifier.api.schemas import (
    ActivationDocument,
    ChallengeDocument,
    EnrolmentDocument,
    EvidenceDocument,
)
from verifier.errors import NotAuthenticated
from verifier.services.suite import Services

_BINARY = {"schema": {"type": "string", "format": "binary"}}


def devices_router(services: Services, evidence: EvidenceDoor) -> APIRouter:
    """Return the routes that devices use."""
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

    @router.post(
        "/attest/v1/challenges",
        response_model=ChallengeDocument,
        tags=["attestation"],
        summary="Ask for an attestation challenge",
    )
    def challenge(request: Request) -> JSONResponse:
        """Give a nonce that only this device can use."""
        device = caller_of(request).device
        if device is None:
            raise _no_certificate()
        return JSONResponse(services.challenges.for_device(device.device, services.clock.now()))

    @router.post(
        EVIDENCE_PATH,
        response_model=EvidenceDocument,
        tags=["attestation"],
        summary="Send evidence; the answer holds the result and the next challenge",
        openapi_extra={"requestBody": {"required": True, "content": {EVIDENCE: _BINARY}}},
    )
    async def send_evidence(request: Request) -> Response:
        """Appraise evidence. The door takes a shorter way to the same code."""
        body = await evidence.respond(request.scope, request.receive)
        return Response(body, media_type="application/json")

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


def _no_certificate() -> NotAuthenticated:
    return NotAuthenticated(
        RefusalCode.CLIENT_CERTIFICATE_REQUIRED, "this needs a TLS client certificate"
    )

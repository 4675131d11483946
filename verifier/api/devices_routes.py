"""Routes for enrolled devices: challenges and evidence."""

from __future__ import annotations

from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse

from attestation.refusals import RefusalCode
from attestation.wire.media_types import EVIDENCE
from verifier.api.evidence import EVIDENCE_PATH, EvidenceDoor
from verifier.api.routing import PROBLEMS, GuardedRoute, caller_of
from verifier.api.schemas import (
    ChallengeDocument,
    EvidenceDocument,
)
from verifier.errors import NotAuthenticated
from verifier.services.suite import Services

_BINARY = {"schema": {"type": "string", "format": "binary"}}


def devices_router(services: Services, evidence: EvidenceDoor) -> APIRouter:
    """Return the routes that enrolled devices use."""
    router = APIRouter(route_class=GuardedRoute, responses=PROBLEMS)

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


def _no_certificate() -> NotAuthenticated:
    return NotAuthenticated(
        RefusalCode.CLIENT_CERTIFICATE_REQUIRED, "this needs a TLS client certificate"
    )

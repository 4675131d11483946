"""Routes for AI agents, which their device asks for over its own certificate; and its own token."""

from __future__ import annotations

from typing import Annotated, Final

from fastapi import APIRouter, Header, Request
from fastapi.responses import JSONResponse
from starlette.concurrency import run_in_threadpool

from attestation.limits import MAX_AGENT_REQUEST_BYTES
from attestation.refusals import RefusalCode
from attestation.wire.media_types import AGENT
from verifier.api.evidence import require_media_type
from verifier.api.limits import too_large
from verifier.api.routing import PROBLEMS, GuardedRoute, caller_of
from verifier.api.schemas import (
    AgentChallengeDocument,
    AgentChallengeQuestion,
    AgentDocument,
    AgentTokenDocument,
    AgentTokenQuestion,
    DeviceTokenDocument,
)
from verifier.errors import NotAuthenticated
from verifier.ports import DeviceRecord
from verifier.services.agent_tokens import TokenQuestion
from verifier.services.suite import Services

AGENTS_PATH: Final = "/enrol/v1/agents"
_BINARY = {"schema": {"type": "string", "format": "binary"}}


def agents_router(services: Services) -> APIRouter:
    """Return the routes that devices use for their agents."""
    router = APIRouter(route_class=GuardedRoute, responses=PROBLEMS, tags=["agents"])

    @router.post(
        f"{AGENTS_PATH}/challenges",
        response_model=AgentChallengeDocument,
        summary="Ask for a challenge for one AI agent, and for one that its owner signs",
    )
    def agent_challenge(request: Request, question: AgentChallengeQuestion) -> JSONResponse:
        """Give nonces that only this agent of this device can use, and what its class wants."""
        at = services.clock.now()
        device, _ = _device(services, request)
        return JSONResponse(services.agents.challenge(device, question.agent, at))

    @router.post(
        AGENTS_PATH,
        status_code=201,
        response_model=AgentDocument,
        summary="Enrol an AI agent, or renew it: proofs in; certificate and token out",
        openapi_extra={"requestBody": {"required": True, "content": {AGENT: _BINARY}}},
    )
    async def agent_enrolment(request: Request) -> JSONResponse:
        """Judge an agent's request and issue its certificate and token."""
        require_media_type(request.scope, AGENT)
        message = await request.body()
        if len(message) > MAX_AGENT_REQUEST_BYTES:
            raise too_large(MAX_AGENT_REQUEST_BYTES)

        def enrolled() -> dict[str, object]:
            device, _ = _device(services, request)
            return services.agents.enrol(device, message, services.clock.now())

        return JSONResponse(await run_in_threadpool(enrolled), status_code=201)

    _add_tokens(router, services)
    return router


def _add_tokens(router: APIRouter, services: Services) -> None:
    @router.post(
        f"{AGENTS_PATH}/{{name}}/tokens",
        response_model=AgentTokenDocument,
        summary="Ask for a fresh workload identity token of an AI agent",
    )
    def agent_token(
        request: Request,
        name: str,
        question: AgentTokenQuestion | None = None,
        dpop: Annotated[list[str] | None, Header(description="RFC 9449")] = None,
    ) -> JSONResponse:
        """Give a token over the key of the agent's newest certificate, or of the one named."""
        device, _ = _device(services, request)
        asked = TokenQuestion(
            name=name,
            key=question.key if question is not None else "",
            proofs=tuple(dpop or ()),
            path=request.url.path,
        )
        return JSONResponse(services.agent_tokens.for_agent(device, asked, services.clock.now()))

    @router.post(
        "/enrol/v1/tokens",
        response_model=DeviceTokenDocument,
        summary="Ask for a fresh workload identity token of the device itself",
    )
    def device_token(request: Request) -> JSONResponse:
        """Give a token over the key of the certificate that this connection was made with."""
        device, presented = _device(services, request)
        at = services.clock.now()
        return JSONResponse(services.agent_tokens.for_device(device, presented, at))


def _device(services: Services, request: Request) -> tuple[DeviceRecord, bytes]:
    """Return the device as the store has it now, and its certificate.

    Raises:
        NotAuthenticated, NotAuthorised: As :meth:`DeviceCache.by_certificate`.
    """
    presented = caller_of(request).certificate
    if presented is None:
        raise NotAuthenticated(
            RefusalCode.CLIENT_CERTIFICATE_REQUIRED, "this needs the device's LDevID certificate"
        )
    at = services.clock.now()
    return services.cache.by_certificate(presented, at, fresh=True), presented

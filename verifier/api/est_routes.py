"""Routes of EST (RFC 7030, RFC 8951), with and without a label; they only change form."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from fastapi import APIRouter, Request, Response
from starlette.concurrency import run_in_threadpool

from attestation.errors import InputError
from attestation.limits import MAX_EST_BODY_BYTES, MAX_NONCE_MESSAGE_BYTES
from attestation.refusals import RefusalCode
from attestation.wire.est import (
    PATH,
    NonceRequest,
    certs_only,
    decode_body,
    decode_nonce_request,
    encode_body,
)
from attestation.wire.media_types import CSR_ATTRIBUTES, EST_NONCE, PKCS7, PKCS10
from verifier.api.client_certificate import TLS_UNIQUE_KEY
from verifier.api.evidence import require_media_type
from verifier.api.limits import too_large
from verifier.api.routing import PROBLEMS, GuardedRoute, caller_of
from verifier.errors import NotAuthenticated, RequestRefused
from verifier.services.enrolled import Enrolled
from verifier.services.suite import Services

CERTS_ONLY: Final = f"{PKCS7}; smime-type=certs-only"

BASE64_SAID: Final = {"Content-Transfer-Encoding": "base64"}
"""RFC 7030, 4, asks for it; RFC 8951, 3.1, has it ignored. Clients of the former need it still."""

_LARGE: Final = ("/simpleenroll", "/simplereenroll")
_TEXT: Final = {"schema": {"type": "string", "format": "byte"}}
_PREFIXES: Final = (PATH, f"{PATH}/{{label}}")


def is_est_enrolment(path: str) -> bool:
    """Say whether a path takes requests as large as evidence is."""
    return path.startswith(f"{PATH}/") and path.endswith(_LARGE)


def est_router(services: Services) -> APIRouter:
    """Return the routes that EST clients use."""
    router = APIRouter(route_class=GuardedRoute, responses=PROBLEMS, tags=["est"])
    for prefix in _PREFIXES:
        _public_routes(router, prefix, services)
        _nonce_routes(router, prefix, services)
        _enrolment_routes(router, prefix, services)
        _refused_routes(router, prefix)
    return router


def _public_routes(router: APIRouter, prefix: str, services: Services) -> None:
    @router.get(f"{prefix}/cacerts", summary="The CA certificates, PKCS#7 in base64")
    def cacerts(request: Request) -> Response:
        """Give the certificates to anchor trust in, and those between (RFC 7030, 4.1)."""
        return _answer(services.est.authorities(_label(request)), CERTS_ONLY)

    @router.get(f"{prefix}/csrattrs", summary="What a request should hold, CsrAttrs in base64")
    def csrattrs(request: Request) -> Response:
        """Tell key, attributes and the proofs that each class wants (RFC 7030, 4.5)."""
        return _answer(services.est.attributes(_label(request)), CSR_ATTRIBUTES)


def _nonce_routes(router: APIRouter, prefix: str, services: Services) -> None:
    def respond(request: Request, asked: NonceRequest) -> Response:
        presented = caller_of(request).certificate
        if presented is None:
            raise NotAuthenticated(
                RefusalCode.CLIENT_CERTIFICATE_REQUIRED,
                "a nonce of EST belongs to a TLS client certificate; without one, the challenge "
                "comes with the credential activation",
            )
        at = services.clock.now()
        content = services.est.nonce(_label(request), presented, asked, at)
        return Response(content, media_type=EST_NONCE)

    @router.get(f"{prefix}/nonce", summary="A nonce for the attestation in a request")
    def nonce(request: Request) -> Response:
        """Give a nonce (draft-ietf-lamps-attestation-freshness, 5.1)."""
        return respond(request, NonceRequest())

    @router.post(
        f"{prefix}/nonce",
        summary="A nonce of a wanted length",
        openapi_extra={"requestBody": {"required": True, "content": {EST_NONCE: {}}}},
    )
    async def wanted_nonce(request: Request) -> Response:
        """Give a nonce (draft-ietf-lamps-attestation-freshness, 5.1); every fault is a 400."""
        try:
            require_media_type(request.scope, EST_NONCE)
            asked = decode_nonce_request(await _body(request, MAX_NONCE_MESSAGE_BYTES))
        except (RequestRefused, InputError) as error:
            raise RequestRefused(RefusalCode.REQUEST_INVALID, error.reason) from error
        return await run_in_threadpool(respond, request, asked)


def _enrolment_routes(router: APIRouter, prefix: str, services: Services) -> None:
    async def enrolled(request: Request, take: Callable[[bytes], Enrolled]) -> Response:
        require_media_type(request.scope, PKCS10)
        body = await _body(request, MAX_EST_BODY_BYTES)
        accepted = await run_in_threadpool(lambda: take(decode_body(body)))
        return _answer(certs_only([accepted.certificate]), CERTS_ONLY)

    body = {"requestBody": {"required": True, "content": {PKCS10: _TEXT}}}

    @router.post(f"{prefix}/simpleenroll", summary="Enrol by CSR", openapi_extra=body)
    async def simpleenroll(request: Request) -> Response:
        """Judge what a CSR attests and issue the LDevID certificate (RFC 7030, 4.2.1)."""
        label, presented = _label(request), caller_of(request).certificate
        return await enrolled(
            request,
            lambda csr: services.est.enrol(
                label, csr, presented, services.clock.now(), tls_unique=_tls_unique(request)
            ),
        )

    @router.post(f"{prefix}/simplereenroll", summary="Renew by CSR", openapi_extra=body)
    async def simplereenroll(request: Request) -> Response:
        """Renew the LDevID certificate of the connection (RFC 7030, 4.2.2)."""
        label, presented = _label(request), caller_of(request).certificate or b""
        return await enrolled(
            request,
            lambda csr: services.est.renew(
                label, csr, presented, services.clock.now(), tls_unique=_tls_unique(request)
            ),
        )


def _refused_routes(router: APIRouter, prefix: str) -> None:
    @router.post(f"{prefix}/serverkeygen", summary="Always refused: keys are made in the TPM")
    def serverkeygen() -> Response:
        """Refuse to make a key for a device (RFC 7030, 4.4)."""
        raise RequestRefused(
            RefusalCode.EST_SERVERKEYGEN_REFUSED,
            "a key that is made here would have been outside the device's TPM; make it there and "
            "use simpleenroll",
        )

    @router.post(f"{prefix}/fullcmc", summary="Always refused: Full CMC is not offered")
    def fullcmc() -> Response:
        """Refuse Full CMC (RFC 7030, 4.3)."""
        raise RequestRefused(
            RefusalCode.EST_FULLCMC_UNSUPPORTED, "Full CMC is not offered; use simpleenroll"
        )


def _label(request: Request) -> str:
    label: str = request.path_params.get("label", "")
    return label


def _tls_unique(request: Request) -> bytes | None:
    found: bytes | None = getattr(request.state, TLS_UNIQUE_KEY, None)
    return found


async def _body(request: Request, limit: int) -> bytes:
    body = await request.body()
    if len(body) > limit:
        raise too_large(limit)
    return body


def _answer(der: bytes, media_type: str) -> Response:
    return Response(encode_body(der), media_type=media_type, headers=BASE64_SAID)

"""What relying parties fetch: revocation lists, OCSP answers, status lists, CA certificates."""

from __future__ import annotations

import base64
import binascii
from datetime import datetime
from email.utils import format_datetime
from hashlib import sha256
from typing import Final
from urllib.parse import unquote_to_bytes

from cryptography.hazmat.primitives.serialization import Encoding
from fastapi import APIRouter, Request, Response
from starlette.concurrency import run_in_threadpool

from attestation.limits import MAX_OCSP_REQUEST_BYTES
from verifier.api.evidence import require_media_type
from verifier.api.routing import PROBLEMS, GuardedRoute
from verifier.issuance import ocsp_answer, status_list
from verifier.issuance.publication import PREFIX
from verifier.services.revocation_lists import find_certificate
from verifier.services.suite import Services

CRL_TYPE: Final = "application/pkix-crl"
CERTIFICATE_TYPE: Final = "application/pkix-cert"

_ASK_AGAIN: Final = "public, no-cache"
"""Keep it, and ask each time whether it is still the newest: the ETag makes that cheap."""

_BINARY = {"schema": {"type": "string", "format": "binary"}}


def pki_router(services: Services) -> APIRouter:
    """Return the routes that anyone may read, over HTTPS and over the plain door."""
    router = APIRouter(route_class=GuardedRoute, responses=PROBLEMS, tags=["pki"])
    _lists(router, services)
    _ocsp(router, services)
    return router


def _lists(router: APIRouter, services: Services) -> None:
    @router.get(
        PREFIX + "/crl/{issuer}.crl",
        summary="A CA's revocation list (RFC 5280), never older than the store",
        responses={200: {"content": {CRL_TYPE: _BINARY}}},
    )
    def crl(issuer: str, request: Request) -> Response:
        """Give the newest list of one issuing CA."""
        found = services.published.lists.current(issuer, services.clock.now())
        return _kept(request, found.der, CRL_TYPE, found.this_update)

    @router.get(
        PREFIX + "/ca/{issuer}.cer",
        summary="An issuing CA's certificate (RFC 5280, 4.2.2.1), DER",
        responses={200: {"content": {CERTIFICATE_TYPE: _BINARY}}},
    )
    def certificate(issuer: str, request: Request) -> Response:
        """Give the certificate of one issuing CA."""
        found = find_certificate(services.published.authority, issuer)
        der = found.public_bytes(Encoding.DER)
        return _kept(request, der, CERTIFICATE_TYPE, found.not_valid_before_utc)

    @router.get(
        PREFIX + "/status/{number}",
        summary="A token status list (draft-ietf-oauth-status-list)",
        responses={200: {"content": {status_list.MEDIA_TYPE: _BINARY}}},
    )
    def status(number: int, request: Request) -> Response:
        """Give the bits of 131 072 certificates and of the tokens that share them."""
        found = services.published.statuses.current(number, services.clock.now())
        return _kept(request, found.token.encode(), status_list.MEDIA_TYPE, found.at)


def _ocsp(router: APIRouter, services: Services) -> None:
    @router.post(
        PREFIX + "/ocsp",
        summary="OCSP (RFC 6960, A.1)",
        openapi_extra={
            "requestBody": {"required": True, "content": {ocsp_answer.REQUEST_TYPE: _BINARY}}
        },
        responses={200: {"content": {ocsp_answer.MEDIA_TYPE: _BINARY}}},
    )
    async def post(request: Request) -> Response:
        """Say what the store knows of certificates at this moment."""
        require_media_type(request.scope, ocsp_answer.REQUEST_TYPE)
        return await answer(await request.body())

    @router.get(
        PREFIX + "/ocsp/{question:path}",
        summary="OCSP by GET: the request in base64",
        responses={200: {"content": {ocsp_answer.MEDIA_TYPE: _BINARY}}},
    )
    async def get(question: str, request: Request) -> Response:
        """Say what the store knows of certificates at this moment."""
        return await answer(_question(question, request))

    async def answer(message: bytes) -> Response:
        body = await run_in_threadpool(
            services.published.ocsp.answer, message, services.clock.now()
        )
        return Response(body, media_type=ocsp_answer.MEDIA_TYPE)


def _question(text: str, request: Request) -> bytes:
    """Return the request in a path; what is no base64 is a malformed request like any other.

    Base64 may hold ``//``, which a router must not tidy away: the path is taken as it came.
    """
    raw: bytes = request.scope.get("raw_path") or text.encode()
    _, found, encoded = raw.partition(b"/ocsp/")
    try:
        octets = unquote_to_bytes(encoded if found else text.encode())
        if len(octets) > 2 * MAX_OCSP_REQUEST_BYTES:
            return b""
        return base64.b64decode(octets, validate=True)
    except (binascii.Error, ValueError):
        return b""


def _kept(request: Request, body: bytes, media_type: str, made: datetime) -> Response:
    """Answer with what may be kept, or with 304 if the asker has it (RFC 9110, 13.1.2)."""
    tag = f'"{sha256(body).hexdigest()[:32]}"'
    headers = {
        "etag": tag,
        "last-modified": format_datetime(made, usegmt=True),
        "cache-control": _ASK_AGAIN,
    }
    asked = request.headers.get("if-none-match", "")
    if tag in {one.strip().removeprefix("W/") for one in asked.split(",")}:
        return Response(status_code=304, headers=headers)
    return Response(body, media_type=media_type, headers=headers)

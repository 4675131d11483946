"""Enrollment over Secure Transport on the wire (RFC 7030, RFC 8951), and its nonces.

Bodies are DER in base64 (RFC 8951, 3.1: always, whatever a Content-Transfer-Encoding says), answers
with certificates are certs-only PKCS#7 (RFC 5652, 5.2). Nonces are draft-ietf-lamps-attestation-
freshness, 5.1, in its JSON form. Nothing here is believed.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, pkcs7

from attestation.base64url import base64url_text
from attestation.certificates import UNREADABLE
from attestation.errors import LimitExceeded, MalformedInput
from attestation.limits import MAX_CHAIN_LENGTH, MAX_EST_BODY_BYTES, MAX_NONCE_MESSAGE_BYTES
from attestation.refusals import RefusalCode
from attestation.wire.strict_json import parse_json

PATH: Final = "/.well-known/est"
LABEL: Final = re.compile(r"[A-Za-z0-9._~-]{1,64}")
"""A label: one path segment of unreserved characters (RFC 7030, 3.2.2; RFC 3986, 2.3)."""

OPERATIONS: Final = frozenset(
    {
        *("cacerts", "simpleenroll", "simplereenroll", "fullcmc", "serverkeygen", "csrattrs"),
        "nonce",
    }
)
"""Last path segments; none of them is a label."""

ARC: Final = "2.25.97902326604244196390911651353718885732.100"
"""Our object identifiers for EST, below the arc of a UUID."""

ENROLMENT_CLASSES: Final = f"{ARC}.1"
"""An attribute in ``csrattrs``: what each class of devices wants shown."""

PCR_SELECTION: Final = f"{ARC}.2"
"""``respTypeInfo`` of a nonce: ``respInfo`` names the PCRs to quote, ``sha256:0,1,…``."""

_BREAKS: Final = b"\r\n"
_NONCE: Final = re.compile(r"[A-Za-z0-9_-]{11,86}")
_NONCE_BYTES: Final = range(8, 65)
_OID: Final = re.compile(r"[0-2](?:\.(?:0|[1-9][0-9]{0,39})){1,32}")
_MOST_SECONDS: Final = 10**9
_MOST_CERTIFICATES: Final = 4 * MAX_CHAIN_LENGTH
_BODY: Final = "EST body"
_MESSAGE: Final = "EST nonce message"


@dataclass(frozen=True, slots=True, kw_only=True)
class NonceRequest:
    """What a client asks of a nonce.

    Attributes:
        length: Bytes; 0 if it does not say.
        type: OBJECT IDENTIFIER of ``reqTypeInfo``, dotted; empty without one.
    """

    length: int = 0
    type: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class NonceResponse:
    """A nonce as it is given.

    Attributes:
        nonce: The nonce.
        expires_in_s: Seconds that it may be answered; 0 if that is not said.
        pcr_selection: The PCRs to quote, ``sha256:0,1,…``; empty if that is not said.
    """

    nonce: bytes = field(repr=False)
    expires_in_s: int = 0
    pcr_selection: str = ""


def encode_body(der: bytes) -> bytes:
    """Return DER in base64 in one line: there are EST clients that stumble over line breaks."""
    return base64.b64encode(der)


def decode_body(body: bytes, *, limit_bytes: int = MAX_EST_BODY_BYTES) -> bytes:
    """Return the DER of a body: base64 (RFC 4648, 4) with or without line breaks, nothing else.

    Raises:
        LimitExceeded: If the body is larger than ``limit_bytes``.
        MalformedInput: ``base64-malformed``.
    """
    if len(body) > limit_bytes:
        raise LimitExceeded(
            RefusalCode.TOO_LARGE,
            f"{len(body)} bytes, at most {limit_bytes} are accepted",
            structure=_BODY,
        )
    text = body.translate(None, _BREAKS)
    if len(text) % 4 or text.endswith(b"==="):
        raise _not_base64()
    try:
        der = binascii.a2b_base64(text, strict_mode=True)
    except binascii.Error as error:
        raise _not_base64() from error
    if not der:
        raise _not_base64()
    return der


def certs_only(certificates: Sequence[x509.Certificate]) -> bytes:
    """Return certificates as certs-only PKCS#7, DER (RFC 5272, 4.1)."""
    return pkcs7.serialize_certificates(list(certificates), Encoding.DER)


def read_certs_only(der: bytes) -> tuple[x509.Certificate, ...]:
    """Return the certificates of a certs-only PKCS#7; their order means nothing.

    Raises:
        MalformedInput: ``certificate-malformed`` if it is none, or holds no certificate.
        LimitExceeded: If it holds more than four chains.
    """
    try:
        found = tuple(pkcs7.load_der_pkcs7_certificates(der))
    except UNREADABLE as error:
        raise MalformedInput(
            RefusalCode.CERTIFICATE_MALFORMED,
            f"not a PKCS#7 message with certificates: {str(error)[:120]}",
            structure="PKCS#7",
        ) from error
    if len(found) > _MOST_CERTIFICATES:
        raise LimitExceeded(
            RefusalCode.TOO_MANY,
            f"{len(found)} certificates, at most {_MOST_CERTIFICATES} are accepted",
            structure="PKCS#7",
        )
    return found


def encode_nonce_response(response: NonceResponse) -> bytes:
    """Return the JSON of a nonce response."""
    document: dict[str, object] = {"nonce": base64url_text(response.nonce)}
    if response.expires_in_s:
        document["expiry"] = response.expires_in_s
    if response.pcr_selection:
        document["respTypeInfo"] = {"type": PCR_SELECTION, "respInfo": response.pcr_selection}
    return json.dumps(document).encode()


def decode_nonce_request(raw: bytes) -> NonceRequest:
    """Read the JSON of a nonce request; ``reqInfo`` is not looked at.

    Raises:
        LimitExceeded: If it is too large.
        MalformedInput: ``request-invalid``.
    """
    document = _object(raw)
    length = _number(document, "len", _NONCE_BYTES.stop - 1)
    if "len" in document and length not in _NONCE_BYTES:
        raise _invalid("'len' is not 8 to 64")
    return NonceRequest(length=length, type=_type(document, "reqTypeInfo"))


def decode_nonce_response(raw: bytes) -> NonceResponse:
    """Read the JSON of a nonce response.

    Raises:
        LimitExceeded: If it is too large.
        MalformedInput: ``request-invalid``.
    """
    document = _object(raw)
    text = document.get("nonce")
    if not isinstance(text, str) or not _NONCE.fullmatch(text):
        raise _invalid("'nonce' is not base64url of 8 to 64 bytes")
    try:
        nonce = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
    except binascii.Error as error:
        raise _invalid("'nonce' is not base64url of 8 to 64 bytes") from error
    selection = ""
    if _type(document, "respTypeInfo") == PCR_SELECTION:
        told = document["respTypeInfo"].get("respInfo")
        selection = told if isinstance(told, str) else ""
    return NonceResponse(
        nonce=nonce,
        expires_in_s=_number(document, "expiry", _MOST_SECONDS),
        pcr_selection=selection,
    )


def _object(raw: bytes) -> dict[str, Any]:
    if len(raw) > MAX_NONCE_MESSAGE_BYTES:
        raise LimitExceeded(
            RefusalCode.TOO_LARGE,
            f"{len(raw)} bytes, at most {MAX_NONCE_MESSAGE_BYTES} are accepted",
            structure=_MESSAGE,
        )
    try:
        document = parse_json(raw)
    except ValueError as error:
        raise _invalid(f"not JSON: {str(error)[:120]}") from error
    if not isinstance(document, dict):
        raise _invalid("not a JSON object")
    return document


def _number(document: dict[str, Any], key: str, most: int) -> int:
    value = document.get(key, 0)
    if type(value) is not int or not 0 <= value <= most:
        raise _invalid(f"{key!r} is not a number of 0 to {most}")
    return value


def _type(document: dict[str, Any], key: str) -> str:
    """Return the OBJECT IDENTIFIER of type-specific information; empty without any."""
    if key not in document:
        return ""
    information = document[key]
    type_ = information.get("type") if isinstance(information, dict) else None
    if not isinstance(type_, str) or not _OID.fullmatch(type_):
        raise _invalid(f"{key!r} has no 'type' that is a dotted OBJECT IDENTIFIER")
    return type_


def _not_base64() -> MalformedInput:
    return MalformedInput(
        RefusalCode.BASE64_MALFORMED,
        "the body is not base64 (RFC 4648, 4) of something, with or without line breaks; wanted "
        "DER in base64, not PEM and not bare DER",
        structure=_BODY,
    )


def _invalid(reason: str) -> MalformedInput:
    return MalformedInput(RefusalCode.REQUEST_INVALID, reason, structure=_MESSAGE)

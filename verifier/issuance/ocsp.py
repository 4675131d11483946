"""OCSP requests (RFC 6960, 4.1): what is asked, out of bounded bytes; nothing is believed.

A request's own signature and the requestor's name are read over: whoever asks may know.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from attestation.der import (
    BOOLEAN,
    INTEGER,
    NULL,
    OCTET_STRING,
    SEQUENCE,
    DerReader,
    Element,
    boolean,
    integer,
    is_minimal,
    oid,
)
from attestation.errors import LimitExceeded, MalformedInput
from attestation.limits import (
    MAX_OCSP_CERTIFICATES,
    MAX_OCSP_NONCE_BYTES,
    MAX_OCSP_REQUEST_BYTES,
)
from attestation.refusals import RefusalCode

NONCE: Final = "1.3.6.1.5.5.7.48.1.2"
"""id-pkix-ocsp-nonce."""

HASHES: Final = {"1.3.14.3.2.26": "sha1", "2.16.840.1.101.3.4.2.1": "sha256"}
"""Hashes by which a certificate may be named (RFC 6960, 4.3; RFC 5019 clients take SHA-1)."""

MAX_ECHOED_NONCE: Final = 32
"""A longer one is answered without nonce (RFC 9654, 2.1)."""

_STRUCTURE: Final = "OCSP request"
_EXPLICIT: Final = tuple(0xA0 + number for number in range(3))
_EXTENSIONS: Final = 16
_MAX_SERIAL_BYTES: Final = 21


@dataclass(frozen=True, slots=True, kw_only=True)
class CertId:
    """One certificate that is asked for (RFC 6960, 4.1.1).

    Attributes:
        raw: As it stands in the request; the answer repeats it.
        hash_name: ``sha1`` or ``sha256``; empty for a hash that we do not take.
        issuer_name_hash: Of the issuer's name.
        issuer_key_hash: Of the issuer's key.
        serial: The serial number.
    """

    raw: bytes
    hash_name: str
    issuer_name_hash: bytes
    issuer_key_hash: bytes
    serial: int


@dataclass(frozen=True, slots=True, kw_only=True)
class OcspRequest:
    """What is asked.

    Attributes:
        certificates: In order; at least one.
        nonce: The nonce extension's value as it is to be repeated; None without one, or if it is
            longer than 32 bytes.
    """

    certificates: tuple[CertId, ...]
    nonce: bytes | None


def parse_ocsp_request(data: bytes) -> OcspRequest:
    """Read a request.

    Raises:
        LimitExceeded: ``too-large``, or ``too-many`` certificates.
        MalformedInput: If it is no DER of a request, asks for nothing, has a nonce of 0 or more
            than 128 bytes, or a critical extension.
    """
    if len(data) > MAX_OCSP_REQUEST_BYTES:
        raise LimitExceeded(
            RefusalCode.TOO_LARGE,
            f"{len(data)} bytes, at most {MAX_OCSP_REQUEST_BYTES} are read",
            structure=_STRUCTURE,
        )
    outer = DerReader(data, _STRUCTURE)
    whole = DerReader(outer.next("OCSPRequest", SEQUENCE).body, _STRUCTURE)
    outer.end()
    inner = DerReader(whole.next("tbsRequest", SEQUENCE).body, _STRUCTURE)
    whole.optional("optionalSignature", _EXPLICIT[0])
    whole.end()
    _require_first_version(inner.optional("version", _EXPLICIT[0]))
    inner.optional("requestorName", _EXPLICIT[1])
    wanted = _certificates(inner.next("requestList", SEQUENCE))
    nonce = _nonce(inner.optional("requestExtensions", _EXPLICIT[2]))
    inner.end()
    return OcspRequest(certificates=wanted, nonce=nonce)


def _require_first_version(element: Element | None) -> None:
    if element is None:
        return
    inner = DerReader(element.body, _STRUCTURE)
    if integer(inner.next("version", INTEGER)) != 0:
        raise _wrong("it is not of version 1")
    inner.end()


def _certificates(element: Element) -> tuple[CertId, ...]:
    reader = DerReader(element.body, _STRUCTURE)
    found: list[CertId] = []
    while reader.more:
        if len(found) >= MAX_OCSP_CERTIFICATES:
            raise LimitExceeded(
                RefusalCode.TOO_MANY,
                f"more than {MAX_OCSP_CERTIFICATES} certificates are asked for",
                structure=_STRUCTURE,
            )
        request = DerReader(reader.next("request", SEQUENCE).body, _STRUCTURE)
        found.append(_cert_id(request.next("reqCert", SEQUENCE)))
        extensions = request.optional("singleRequestExtensions", _EXPLICIT[0])
        if extensions is not None:
            _read_extensions(extensions)
        request.end()
    if not found:
        raise _wrong("it asks for no certificate")
    return tuple(found)


def _cert_id(element: Element) -> CertId:
    reader = DerReader(element.body, _STRUCTURE)
    algorithm = DerReader(reader.next("hashAlgorithm", SEQUENCE).body, _STRUCTURE)
    name = oid(algorithm.next("algorithm"))
    algorithm.optional("parameters", NULL)
    algorithm.end()
    name_hash = reader.next("issuerNameHash", OCTET_STRING).body
    key_hash = reader.next("issuerKeyHash", OCTET_STRING).body
    serial = reader.next("serialNumber", INTEGER)
    reader.end()
    if not 0 < len(serial.body) <= _MAX_SERIAL_BYTES or not is_minimal(serial):
        raise _wrong("a serial number is empty, too long or not in its shortest form")
    return CertId(
        raw=element.raw,
        hash_name=HASHES.get(name, ""),
        issuer_name_hash=name_hash,
        issuer_key_hash=key_hash,
        serial=integer(serial),
    )


def _nonce(element: Element | None) -> bytes | None:
    """Return the nonce extension's value if it is to be repeated."""
    value = None if element is None else _read_extensions(element).get(NONCE)
    if value is None:
        return None
    reader = DerReader(value, "OCSP nonce")
    nonce = reader.next("nonce", OCTET_STRING).body
    reader.end()
    if not 0 < len(nonce) <= MAX_OCSP_NONCE_BYTES:
        raise _wrong(f"its nonce has {len(nonce)} bytes, not 1 to {MAX_OCSP_NONCE_BYTES}")
    return value if len(nonce) <= MAX_ECHOED_NONCE else None


def _read_extensions(element: Element) -> dict[str, bytes]:
    """Return extensions by OID (RFC 5280, 4.1); one that is critical we do not understand."""
    outer = DerReader(element.body, _STRUCTURE)
    reader = DerReader(outer.next("extensions", SEQUENCE).body, _STRUCTURE)
    outer.end()
    found: dict[str, bytes] = {}
    while reader.more:
        inner = DerReader(reader.next("extension", SEQUENCE).body, _STRUCTURE)
        name = oid(inner.next("extnID"))
        critical = inner.optional("critical", BOOLEAN)
        value = inner.next("extnValue", OCTET_STRING).body
        inner.end()
        if critical is not None and boolean(critical) and name != NONCE:
            raise _wrong(f"it has a critical extension {name} that is not known here")
        if name in found or len(found) >= _EXTENSIONS:
            raise _wrong("an extension stands there twice, or there are too many")
        found[name] = value
    return found


def _wrong(reason: str) -> MalformedInput:
    return MalformedInput(RefusalCode.VALUE_OUT_OF_RANGE, reason, structure=_STRUCTURE)

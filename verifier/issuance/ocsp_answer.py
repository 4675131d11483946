"""OCSP answers (RFC 6960, 4.2), signed by a delegated responder of the CA that is asked about.

A responder's key lives in memory, its certificate lasts a day or less and says that it need not be
checked itself (id-pkix-ocsp-nocheck): so a CA key in a token or TPM signs once a day and not for
each stranger's question, and nothing that a stranger can make happen touches that key.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import IntEnum
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from attestation.der import OCTET_STRING, SEQUENCE, DerReader, bit_string, write, write_oid
from verifier.issuance.crl import generalized
from verifier.issuance.ocsp import NONCE, CertId
from verifier.issuance.profiles import BACKDATE, Issuer, authority_key
from verifier.issuance.signing import algorithm_identifier, sign

RESPONDER_LIFETIME: Final = timedelta(hours=24)
"""How long a responder's certificate lasts; it is replaced after half of that."""

ANSWER_LIFETIME: Final = timedelta(seconds=60)
"""How long an answer may be relied on; the next question has an answer of the next moment."""

MEDIA_TYPE: Final = "application/ocsp-response"
REQUEST_TYPE: Final = "application/ocsp-request"

_BASIC: Final = "1.3.6.1.5.5.7.48.1.1"
_ENUMERATED: Final = 0x0A
_EXPLICIT_0: Final = 0xA0
_EXPLICIT_1: Final = 0xA1
_BY_KEY: Final = 0xA2
_GOOD: Final = 0x80
_REVOKED: Final = 0xA1
_UNKNOWN: Final = 0x82
_DIGEST: Final = hashes.SHA256()


class OcspFailure(IntEnum):
    """Answers without a status (OCSPResponseStatus, RFC 6960, 4.2.1)."""

    MALFORMED_REQUEST = 1
    INTERNAL_ERROR = 2
    TRY_LATER = 3
    UNAUTHORIZED = 6


@dataclass(frozen=True, slots=True)
class Revoked:
    """A certificate that was revoked: when, and why (RFC 5280, 5.3.1)."""

    at: datetime
    code: int


@dataclass(frozen=True, slots=True)
class Good:
    """A certificate that we issued and did not revoke."""


Status = Good | Revoked | None
"""None: no certificate of that issuer and serial is known."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Responder:
    """Who signs answers about one issuer's certificates.

    Attributes:
        certificate: Signed by that issuer.
        key: Its key, in memory.
    """

    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey


def responder_certificate(
    issuer: Issuer, key: ec.EllipticCurvePublicKey, *, serial: int, at: datetime
) -> x509.Certificate:
    """Sign the certificate of a delegated responder (RFC 6960, 4.2.2.2).

    Args:
        issuer: The CA that delegates.
        key: The responder's.
        serial: From ``certificate_serial``.
        at: Now (aware).

    Raises:
        Unavailable: If the CA's key cannot be used.
        ValueError: If the CA's certificate is not valid now.
    """
    ca = issuer.certificate
    if not ca.not_valid_before_utc <= at < ca.not_valid_after_utc:
        raise ValueError("the issuer's certificate is not valid at this moment")
    begin = max((at - BACKDATE).replace(microsecond=0), ca.not_valid_before_utc)
    end = min(at + RESPONDER_LIFETIME, ca.not_valid_after_utc).replace(microsecond=0)
    builder = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "OCSP responder")]))
        .issuer_name(ca.subject)
        .public_key(key)
        .serial_number(serial)
        .not_valid_before(begin)
        .not_valid_after(end)
    )
    for extension, critical in (
        (x509.BasicConstraints(ca=False, path_length=None), True),
        (_USAGE, True),
        (x509.ExtendedKeyUsage([ExtendedKeyUsageOID.OCSP_SIGNING]), True),
        (x509.OCSPNoCheck(), False),
        (authority_key(issuer), False),
        (x509.SubjectKeyIdentifier.from_public_key(key), False),
    ):
        builder = builder.add_extension(extension, critical=critical)
    return builder.sign(issuer.key, issuer.digest)


_USAGE: Final = x509.KeyUsage(
    digital_signature=True,
    content_commitment=False,
    key_encipherment=False,
    data_encipherment=False,
    key_agreement=False,
    key_cert_sign=False,
    crl_sign=False,
    encipher_only=False,
    decipher_only=False,
)


def names(certificate: x509.Certificate, cert_id: CertId) -> bool:
    """Say whether a question is about certificates of this CA (RFC 6960, 4.1.1)."""
    if not cert_id.hash_name:
        return False
    name_hash, key_hash = _issuer_hashes(certificate, cert_id.hash_name)
    return name_hash == cert_id.issuer_name_hash and key_hash == cert_id.issuer_key_hash


def _issuer_hashes(certificate: x509.Certificate, hash_name: str) -> tuple[bytes, bytes]:
    name = hashlib.new(hash_name, certificate.subject.public_bytes(), usedforsecurity=False)
    key = hashlib.new(hash_name, _key_bits(certificate), usedforsecurity=False)
    return name.digest(), key.digest()


def _key_bits(certificate: x509.Certificate) -> bytes:
    """Return the BIT STRING of a public key, without tag, length and unused bits."""
    spki = certificate.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    reader = DerReader(DerReader(spki, "key").next("key", SEQUENCE).body, "key")
    reader.next("algorithm", SEQUENCE)
    return bit_string(reader.next("subjectPublicKey"))[1]


def ocsp_failure(why: OcspFailure) -> bytes:
    """Return an answer that is none, DER; these are not signed."""
    return write(SEQUENCE, write(_ENUMERATED, bytes((why,))))


def ocsp_answer(
    responder: Responder,
    asked: Sequence[CertId],
    statuses: Mapping[int, Status],
    *,
    nonce: bytes | None,
    at: datetime,
) -> bytes:
    """Return a signed answer, DER.

    Args:
        responder: Who signs.
        asked: The questions, answered in this order.
        statuses: By the question's place; what is not there is unknown.
        nonce: The nonce extension's value to repeat; None for none.
        at: Now: what the store says at this moment.
    """
    singles = [_single(one, statuses.get(number), at) for number, one in enumerate(asked)]
    key_hash = hashlib.sha1(_key_bits(responder.certificate), usedforsecurity=False).digest()
    body = write(
        SEQUENCE,
        write(_BY_KEY, write(OCTET_STRING, key_hash)),
        generalized(at),
        write(SEQUENCE, *singles),
        b"" if nonce is None else write(_EXPLICIT_1, write(SEQUENCE, _nonce_extension(nonce))),
    )
    basic = write(
        SEQUENCE,
        body,
        algorithm_identifier(responder.key, _DIGEST),
        sign(responder.key, _DIGEST, body),
        write(_EXPLICIT_0, write(SEQUENCE, responder.certificate.public_bytes(Encoding.DER))),
    )
    given = write(SEQUENCE, write_oid(_BASIC), write(OCTET_STRING, basic))
    return write(SEQUENCE, write(_ENUMERATED, b"\x00"), write(_EXPLICIT_0, given))


def _nonce_extension(value: bytes) -> bytes:
    return write(SEQUENCE, write_oid(NONCE), write(OCTET_STRING, value))


def _single(asked: CertId, status: Status, at: datetime) -> bytes:
    return write(
        SEQUENCE,
        asked.raw,
        _status(status),
        generalized(at),
        write(_EXPLICIT_0, generalized(at + ANSWER_LIFETIME)),
    )


def _status(status: Status) -> bytes:
    if status is None:
        return write(_UNKNOWN)
    if isinstance(status, Good):
        return write(_GOOD)
    reason = write(_EXPLICIT_0, write(_ENUMERATED, bytes((status.code,)))) if status.code else b""
    return write(_REVOKED, generalized(status.at), reason)

"""Signed statements about artefacts: DSSE envelopes with in-toto statements.

DSSE v1 (github.com/secure-systems-lab/dsse): the signature is over
``PAE = "DSSEv1" SP len(type) SP type SP len(body) SP body``, so neither body nor its type can be
taken for another. in-toto Attestation Framework, Statement v1: subjects are matched by digest
alone; their names are words.

Keys choose the algorithm, never the envelope: ECDSA P-256 (SHA-256) and P-384 (SHA-384, or SHA-256
as older signers do), DER signatures; Ed25519; RSA of 2048 bits or more, PSS or PKCS #1 v1.5 with
SHA-256. ``keyid`` is a hint and is not believed.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa

from attestation.errors import MalformedInput
from attestation.limits import (
    MAX_DSSE_SIGNATURES,
    MAX_ENDORSEMENT_BYTES,
    MAX_STATEMENT_SUBJECTS,
)
from attestation.refusals import RefusalCode
from attestation.wire.strict_json import parse_json

PAYLOAD_TYPE: Final = "application/vnd.in-toto+json"
"""The one payload type taken (in-toto Attestation Framework, envelope layer)."""

STATEMENT_TYPE: Final = "https://in-toto.io/Statement/v1"

_STRUCTURE: Final = "endorsement"
_MIN_RSA_BITS: Final = 2048
_SHA256_CHARS: Final = 64
_SHOWN: Final = 80

ProviderKey = ec.EllipticCurvePublicKey | ed25519.Ed25519PublicKey | rsa.RSAPublicKey


@dataclass(frozen=True, slots=True, kw_only=True)
class Envelope:
    """A DSSE envelope; nobody has checked a signature yet.

    Attributes:
        payload_type: The type that is signed with the payload.
        payload: The bytes that are signed.
        signatures: Each signature.
        hints: The keyids that came with them: words to explain a refusal with, never believed.
    """

    payload_type: str
    payload: bytes
    signatures: tuple[bytes, ...]
    hints: tuple[str, ...] = ()

    def signed_by(self, key: ProviderKey) -> bool:
        """Say whether one of the signatures is by this key."""
        message = pae(self.payload_type, self.payload)
        return any(_verifies(key, signature, message) for signature in self.signatures)


@dataclass(frozen=True, slots=True, kw_only=True)
class Statement:
    """An in-toto statement.

    Attributes:
        subjects: SHA-256 of every subject that has one.
        predicate_type: What the statement says of them.
        predicate: As given.
        valid_from: Predicate key ``validFrom`` (aware); None without.
        valid_until: Predicate key ``validUntil`` (aware); None without.
    """

    subjects: frozenset[bytes]
    predicate_type: str
    predicate: Mapping[str, Any]
    valid_from: datetime | None = None
    valid_until: datetime | None = None


def pae(payload_type: str, payload: bytes) -> bytes:
    """Return DSSE's pre-authentication encoding: what is signed."""
    kind = payload_type.encode()
    return b"DSSEv1 %d %b %d %b" % (len(kind), kind, len(payload), payload)


def read_envelope(document: object) -> Envelope:
    """Read an envelope from parsed JSON.

    Raises:
        MalformedInput: ``provider-endorsement-malformed``.
    """
    if not isinstance(document, dict):
        raise _malformed("the envelope is not a JSON object")
    kind, signatures = document.get("payloadType"), document.get("signatures")
    if kind != PAYLOAD_TYPE:
        raise _malformed(f"payloadType is {_shown(kind)}, wanted {PAYLOAD_TYPE}")
    if not isinstance(signatures, list) or not 0 < len(signatures) <= MAX_DSSE_SIGNATURES:
        raise _malformed(f"wanted 1 to {MAX_DSSE_SIGNATURES} signatures")
    return Envelope(
        payload_type=PAYLOAD_TYPE,
        payload=_base64(document.get("payload"), "payload"),
        signatures=tuple(
            _base64(one.get("sig") if isinstance(one, dict) else None, "sig") for one in signatures
        ),
        hints=tuple(str(one.get("keyid", ""))[:_SHOWN] for one in signatures),
    )


def read_statement(payload: bytes) -> Statement:
    """Read an in-toto statement.

    Raises:
        MalformedInput: ``provider-endorsement-malformed``.
    """
    try:
        table = parse_json(payload)
    except ValueError as error:
        raise _malformed(f"the payload is not JSON: {str(error)[:_SHOWN]}") from error
    if not isinstance(table, dict) or table.get("_type") != STATEMENT_TYPE:
        raise _malformed(f"the payload is not an in-toto statement ({STATEMENT_TYPE})")
    subjects, kind = table.get("subject"), table.get("predicateType")
    predicate = table.get("predicate", {})
    if not isinstance(subjects, list) or not 0 < len(subjects) <= MAX_STATEMENT_SUBJECTS:
        raise _malformed(f"wanted 1 to {MAX_STATEMENT_SUBJECTS} subjects")
    if not isinstance(kind, str) or not isinstance(predicate, dict):
        raise _malformed("the statement has no predicateType, or its predicate is not an object")
    digests = frozenset(digest for one in subjects for digest in _subject(one))
    if not digests:
        raise _malformed("no subject has a sha256 digest")
    return Statement(
        subjects=digests,
        predicate_type=kind,
        predicate=predicate,
        valid_from=_moment(predicate, "validFrom"),
        valid_until=_moment(predicate, "validUntil"),
    )


def require_usable(key: object) -> ProviderKey:
    """Return the key if statements by it can be verified.

    Raises:
        MalformedInput: ``key-too-weak`` for another kind, curve or size.
    """
    if isinstance(key, ec.EllipticCurvePublicKey) and isinstance(
        key.curve, (ec.SECP256R1, ec.SECP384R1)
    ):
        return key
    if isinstance(key, rsa.RSAPublicKey) and key.key_size >= _MIN_RSA_BITS:
        return key
    if isinstance(key, ed25519.Ed25519PublicKey):
        return key
    raise MalformedInput(
        RefusalCode.KEY_TOO_WEAK,
        "a provider's key must be ECDSA P-256 or P-384, Ed25519, or RSA of 2048 bits or more",
        structure=_STRUCTURE,
    )


def _verifies(key: ProviderKey, signature: bytes, message: bytes) -> bool:
    if isinstance(key, ed25519.Ed25519PublicKey):
        try:
            key.verify(signature, message)
        except InvalidSignature:
            return False
        return True
    if isinstance(key, rsa.RSAPublicKey):
        return any(_rsa_verifies(key, signature, message, pad) for pad in _PADDINGS)
    strong = isinstance(key.curve, ec.SECP384R1)
    choices = (hashes.SHA384(), hashes.SHA256()) if strong else (hashes.SHA256(),)
    return any(_ecdsa_verifies(key, signature, message, chosen) for chosen in choices)


_PADDINGS: Final = (
    padding.PSS(padding.MGF1(hashes.SHA256()), padding.PSS.AUTO),
    padding.PKCS1v15(),
)


def _rsa_verifies(
    key: rsa.RSAPublicKey, signature: bytes, message: bytes, pad: padding.AsymmetricPadding
) -> bool:
    try:
        key.verify(signature, message, pad, hashes.SHA256())
    except InvalidSignature:
        return False
    return True


def _ecdsa_verifies(
    key: ec.EllipticCurvePublicKey, signature: bytes, message: bytes, chosen: hashes.HashAlgorithm
) -> bool:
    try:
        key.verify(signature, message, ec.ECDSA(chosen))
    except InvalidSignature:
        return False
    return True


def _subject(one: object) -> tuple[bytes, ...]:
    digest = one.get("digest") if isinstance(one, dict) else None
    if not isinstance(digest, dict):
        raise _malformed("a subject has no digest")
    text = digest.get("sha256")
    if text is None:
        return ()
    try:
        value = bytes.fromhex(text) if isinstance(text, str) else b""
    except ValueError:
        value = b""
    if len(value) * 2 != _SHA256_CHARS or len(str(text)) != _SHA256_CHARS:
        raise _malformed("a subject's sha256 is not 64 hex digits")
    return (value,)


def _moment(predicate: Mapping[str, Any], key: str) -> datetime | None:
    text = predicate.get(key)
    if text is None:
        return None
    try:
        moment = datetime.fromisoformat(text)
    except (TypeError, ValueError) as error:
        raise _malformed(f"predicate.{key} is not a moment (RFC 3339)") from error
    if moment.tzinfo is None:
        raise _malformed(f"predicate.{key} has no time zone")
    try:
        return moment.astimezone(UTC)
    except OverflowError as error:
        raise _malformed(f"predicate.{key} is out of range") from error


def _base64(text: object, name: str) -> bytes:
    """Decode standard or URL-safe base64, as DSSE asks of readers."""
    if not isinstance(text, str) or len(text) > MAX_ENDORSEMENT_BYTES:
        raise _malformed(f"{name} is not base64 text of a size we take")
    plain = text.translate(str.maketrans("-_", "+/"))
    try:
        return base64.b64decode(plain + "=" * (-len(plain) % 4), validate=True)
    except (binascii.Error, ValueError) as error:
        raise _malformed(f"{name} is not base64") from error


def _shown(value: object) -> str:
    return ascii(str(value)[:_SHOWN])


def _malformed(reason: str) -> MalformedInput:
    return MalformedInput(RefusalCode.PROVIDER_ENDORSEMENT_MALFORMED, reason, structure=_STRUCTURE)

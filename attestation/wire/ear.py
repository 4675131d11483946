"""The door to EAT Attestation Results: write, read, and verify a signed one.

A signed EAR is a JWT with ``typ`` JWT, ``alg`` ES256 and a ``kid`` that names a key of the JWK set
the caller trusts. Keys inside a token are never used, other algorithms never tried. Time is an
argument.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Final

import jwt
from jwt.types import Options

from attestation.errors import LimitExceeded, MalformedInput, NotFresh, SignatureInvalid
from attestation.refusals import RefusalCode
from attestation.wire.ear_claims import (
    REASONS_CLAIM,
    decode_ear,
    encode_ear,
    key_id_text,
    nonce_text,
)
from attestation.wire.ear_values import Ear, EarAppraisal, EarProfile, VerifierIdentity

__all__ = [
    "ALGORITHM",
    "REASONS_CLAIM",
    "TOKEN_TYPE",
    "Ear",
    "EarAppraisal",
    "EarProfile",
    "VerifierIdentity",
    "decode_ear",
    "encode_ear",
    "key_id_text",
    "nonce_text",
    "verify_ear_jwt",
]

ALGORITHM: Final = "ES256"
"""The one signature algorithm of our results (RFC 7518 section 3.4)."""

TOKEN_TYPE: Final = "JWT"  # noqa: S105 - a media type, not a secret
"""The ``typ`` header of an EAR, exactly."""

MAX_TOKEN_CHARS: Final = 64 * 1024
"""One signed EAR; ours have 1 to 4 thousand characters."""

_STRUCTURE: Final = "EAR"
_COMPACT: Final = re.compile(r"[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]*")
_KEYS_IN_HEADER: Final = ("jwk", "jku", "x5u", "x5c", "crit")

# PyJWT would read a clock of its own for exp, iat and nbf: the caller's moment is judged instead.
_OPTIONS: Final[Options] = {
    "verify_exp": False,
    "verify_iat": False,
    "verify_nbf": False,
    "verify_aud": False,
    "verify_iss": False,
    "verify_sub": False,
    "verify_jti": False,
}


def verify_ear_jwt(
    token: str, jwks: Mapping[str, object], *, at: datetime, leeway_s: int = 30
) -> Ear:
    """Check a signed EAR and read it.

    Args:
        token: The JWT in compact form.
        jwks: The verifier's JWK set (RFC 7517), had from a place the caller trusts.
        at: The moment of judgement, aware.
        leeway_s: Seconds by which the two clocks may differ.

    Returns:
        The EAR; ``expires_at`` and ``signed_by`` are never None.

    Raises:
        SignatureInvalid: If no key of the set made the signature (``result-signature-invalid``).
        NotFresh: If it has expired (``result-expired``) or is not yet valid
            (``result-not-yet-valid``).
        MalformedInput: If it is no EAR as a JWT, or has no ``exp`` (``result-malformed``).
        LimitExceeded: If it is larger than ``MAX_TOKEN_CHARS``.
        Unsupported: If its dialect is unknown.
        ValueError: If ``at`` is naive.
    """
    if at.tzinfo is None:
        raise ValueError("the moment of judgement must be aware")
    kid, claims = _verified_claims(token, jwks)
    ear = replace(decode_ear(claims), signed_by=kid)
    leeway = timedelta(seconds=leeway_s)
    if ear.expires_at is None:
        raise _not_an_ear("exp is missing; a result without an end is not accepted")
    if at - leeway >= ear.expires_at:
        raise NotFresh(
            RefusalCode.RESULT_EXPIRED,
            f"expired at {ear.expires_at.isoformat()}, judged at {at.isoformat()}",
            structure=_STRUCTURE,
        )
    if at + leeway < ear.issued_at:
        raise NotFresh(
            RefusalCode.RESULT_NOT_YET_VALID,
            f"issued at {ear.issued_at.isoformat()}, judged at {at.isoformat()}; check both clocks",
            structure=_STRUCTURE,
        )
    return ear


def _verified_claims(token: str, jwks: Mapping[str, object]) -> tuple[str, Mapping[str, object]]:
    """Return ``kid`` and claims of a JWT whose header, key and signature hold; not its time."""
    if len(token) > MAX_TOKEN_CHARS:
        raise LimitExceeded(
            RefusalCode.TOO_LARGE,
            f"{len(token)} characters, at most {MAX_TOKEN_CHARS} are accepted",
            structure=_STRUCTURE,
        )
    if not _COMPACT.fullmatch(token):
        raise _not_an_ear("is not a JWT in compact form")
    try:
        header = jwt.get_unverified_header(token)
    except (jwt.PyJWTError, ValueError) as error:
        raise _not_an_ear("has no JWT header that can be read") from error
    _check_header(header)
    kid, key = _key(jwks, header.get("kid"))
    try:
        claims: Mapping[str, object] = jwt.decode(
            token,
            key,
            algorithms=[ALGORITHM],
            options=_OPTIONS,
        )
    except (jwt.InvalidSignatureError, jwt.InvalidAlgorithmError) as error:
        raise _unproven(f"no {ALGORITHM} signature by the key that kid names") from error
    except (jwt.PyJWTError, ValueError, RecursionError) as error:
        raise _not_an_ear(f"is not an EAR as a JWT: {type(error).__name__}") from error
    return kid, claims


def _check_header(header: Mapping[str, object]) -> None:
    carried = [name for name in _KEYS_IN_HEADER if name in header]
    if carried:
        raise _unproven(f"the header carries {', '.join(carried)}; keys in tokens are not used")
    if header.get("typ") != TOKEN_TYPE:
        raise _not_an_ear(f"typ is not {TOKEN_TYPE!r}")


def _key(jwks: Mapping[str, object], kid: object) -> tuple[str, jwt.PyJWK]:
    """Return the one P-256 key of the set that the token names, after its ``kid``."""
    keys = jwks.get("keys")
    if not isinstance(kid, str) or not isinstance(keys, (list, tuple)):
        raise _unproven("the token names no kid, or the JWK set has no keys")
    named = [key for key in keys if isinstance(key, Mapping) and key.get("kid") == kid]
    if len(named) != 1:
        raise _unproven(f"{len(named)} keys of the JWK set have the token's kid, wanted one")
    key = named[0]
    if (key.get("kty"), key.get("crv"), key.get("use", "sig")) != ("EC", "P-256", "sig"):
        raise _unproven("the key that kid names is not a P-256 signature key")
    try:
        return kid, jwt.PyJWK(dict(key), algorithm=ALGORITHM)
    except jwt.PyJWTError as error:
        raise _unproven("the key that kid names is malformed") from error


def _unproven(reason: str) -> SignatureInvalid:
    return SignatureInvalid(RefusalCode.RESULT_SIGNATURE_INVALID, reason, structure=_STRUCTURE)


def _not_an_ear(reason: str) -> MalformedInput:
    return MalformedInput(RefusalCode.RESULT_MALFORMED, reason, structure=_STRUCTURE)

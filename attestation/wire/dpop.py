"""Proof of possession of a key for one request and one challenge: DPoP (RFC 9449).

A JWT by the key itself, ``typ`` ``dpop+jwt``, with the public key in its header (section 4.2)::

    {"jti": its own name, "htm": "POST", "htu": the URI asked, "iat": now, "nonce": the challenge}

The key in the header proves nothing by itself: it must be the one that the verifier certified. The
nonce is the verifier's challenge, base64url, and must be there. Time is an argument.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from typing import Any, Final

from attestation.base64url import base64url_text
from attestation.errors import (
    IdentityMismatch,
    MalformedInput,
    NotFresh,
    SignatureInvalid,
)
from attestation.limits import MAX_TOKEN_PROOF_CHARS
from attestation.refusals import RefusalCode
from attestation.wire.jwk import PublicKey, algorithm_of, key_of, public_jwk, thumbprint
from attestation.wire.jws import UnverifiedJws, read_jws

TOKEN_TYPE: Final = "dpop+jwt"  # noqa: S105 - a media type, not a secret
METHOD: Final = "POST"
MAX_AGE: Final = timedelta(minutes=5)
"""How far ``iat`` may be from now, either way: clocks differ. That it is new, the nonce says."""

_STRUCTURE: Final = "token proof"
_MAX_TEXT: Final = 2048
_LAST_SECOND: Final = 253_402_300_799

Signer = Callable[[bytes], bytes]
"""Signs a JWS signing input; returns the signature as JWS wants it (RFC 7518, 3.4)."""


def make_proof(key: PublicKey, sign: Signer, *, target: str, nonce: bytes, at: datetime) -> str:
    """Return a proof for one POST request.

    Args:
        key: The public key.
        sign: Signs with the private one.
        target: The URI that is asked, without query and fragment.
        nonce: The verifier's challenge. It is used once, so the proof's ``jti`` follows from it.
        at: Now (aware).

    Raises:
        ValueError: For a key of a kind that tokens cannot name.
    """
    header = {"typ": TOKEN_TYPE, "alg": algorithm_of(key), "jwk": public_jwk(key)}
    claims = {
        "jti": base64url_text(hashlib.sha256(nonce).digest()),
        "htm": METHOD,
        "htu": target,
        "iat": int(at.timestamp()),
        "nonce": base64url_text(nonce),
    }
    parts = (json.dumps(part, separators=(",", ":")).encode() for part in (header, claims))
    signed = ".".join(base64url_text(part) for part in parts)
    return f"{signed}.{base64url_text(sign(signed.encode()))}"


def verify_proof(proof: str, key: PublicKey, *, target: str, at: datetime) -> bytes:
    """Check that a key signed for this request, now; returns the nonce, for its issuer to judge.

    Args:
        proof: Compact form.
        key: The key that was certified.
        target: The URI that was asked, by what the verifier knows of itself.
        at: Now (aware).

    Raises:
        MalformedInput: ``token-proof-malformed``.
        SignatureInvalid: ``token-proof-invalid``: the key in it did not sign.
        IdentityMismatch: ``token-proof-invalid``: another key, method or URI.
        NotFresh: ``token-proof-expired``.
    """
    claimed = read_jws(
        proof,
        kind=TOKEN_TYPE,
        limit=MAX_TOKEN_PROOF_CHARS,
        wrong=_malformed,
        also=frozenset({"jwk"}),
    )
    nonce, issued = _nonce(claimed.claims), _moment(claimed.claims)
    _text(claimed.claims, "jti")
    _require_by(claimed, key)
    asked = _text(claimed.claims, "htm"), _text(claimed.claims, "htu")
    if asked != (METHOD, target):
        raise IdentityMismatch(
            RefusalCode.TOKEN_PROOF_INVALID,
            f"it was made for {asked[0][:16]!a} {asked[1][:200]!a}, wanted {METHOD} {target}",
            structure=_STRUCTURE,
        )
    if abs(at.timestamp() - issued) > MAX_AGE.total_seconds():
        raise NotFresh(
            RefusalCode.TOKEN_PROOF_EXPIRED,
            f"it was made {at.timestamp() - issued:.0f} s ago, at most "
            f"{MAX_AGE.total_seconds():.0f} s either way are taken; look at the clock",
            structure=_STRUCTURE,
        )
    return nonce


def _require_by(claimed: UnverifiedJws, key: PublicKey) -> None:
    jwk = claimed.header.get("jwk")
    if not isinstance(jwk, dict):
        raise _malformed("has no jwk in its header")
    try:
        told = thumbprint(key_of(jwk))
    except ValueError as error:
        raise _malformed(f"jwk: {error}") from error
    if told != thumbprint(key):
        raise IdentityMismatch(
            RefusalCode.TOKEN_PROOF_INVALID,
            "another key than the certified one signed it; sign with the key that the token is for",
            structure=_STRUCTURE,
        )
    if not claimed.signed_by(key):
        raise SignatureInvalid(
            RefusalCode.TOKEN_PROOF_INVALID,
            "the certified key did not make this signature",
            structure=_STRUCTURE,
        )


def _nonce(claims: Mapping[str, Any]) -> bytes:
    text = _text(claims, "nonce")
    try:
        nonce = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
    except (binascii.Error, ValueError) as error:
        raise _malformed("nonce is not base64url") from error
    if base64url_text(nonce) != text:
        raise _malformed("nonce is not base64url without padding")
    return nonce


def _moment(claims: Mapping[str, Any]) -> int:
    issued = claims.get("iat")
    if type(issued) is not int or not 0 < issued <= _LAST_SECOND:
        raise _malformed("iat is missing, or no whole number of seconds since 1970")
    return issued


def _text(claims: Mapping[str, Any], name: str) -> str:
    value = claims.get(name)
    if not isinstance(value, str) or not 0 < len(value) <= _MAX_TEXT:
        raise _malformed(f"{name} is missing, or no text of 1 to {_MAX_TEXT} characters")
    return value


def _malformed(reason: str) -> MalformedInput:
    return MalformedInput(RefusalCode.TOKEN_PROOF_MALFORMED, reason, structure=_STRUCTURE)

"""P-256 public keys as JWK (RFC 7517, RFC 7518 section 6.2) and their thumbprints (RFC 7638)."""

from __future__ import annotations

import hashlib
import json

from cryptography.hazmat.primitives.asymmetric import ec

from attestation.base64url import base64url_text

_COORDINATE_BYTES = 32


def _members(key: ec.EllipticCurvePublicKey) -> dict[str, str]:
    numbers = key.public_numbers()
    return {
        "crv": "P-256",
        "kty": "EC",
        "x": base64url_text(numbers.x.to_bytes(_COORDINATE_BYTES, "big")),
        "y": base64url_text(numbers.y.to_bytes(_COORDINATE_BYTES, "big")),
    }


def thumbprint(key: ec.EllipticCurvePublicKey) -> str:
    """Return the SHA-256 thumbprint, base64url without padding; used as ``kid``."""
    canonical = json.dumps(_members(key), separators=(",", ":"), sort_keys=True)
    return base64url_text(hashlib.sha256(canonical.encode()).digest())


def public_jwk(key: ec.EllipticCurvePublicKey) -> dict[str, str]:
    """Return the public key with its ``kid``."""
    return {**_members(key), "kid": thumbprint(key)}

"""P-256 public keys as JWK (RFC 7517, RFC 7518 section 6.2) and their thumbprints (RFC 7638)."""

from __future__ import annotations

import base64
import hashlib
import json

from cryptography.hazmat.primitives.asymmetric import ec

_COORDINATE_BYTES = 32


def _b64(content: bytes) -> str:
    return base64.urlsafe_b64encode(content).rstrip(b"=").decode()


def _members(key: ec.EllipticCurvePublicKey) -> dict[str, str]:
    numbers = key.public_numbers()
    return {
        "crv": "P-256",
        "kty": "EC",
        "x": _b64(numbers.x.to_bytes(_COORDINATE_BYTES, "big")),
        "y": _b64(numbers.y.to_bytes(_COORDINATE_BYTES, "big")),
    }


def thumbprint(key: ec.EllipticCurvePublicKey) -> str:
    """Return the SHA-256 thumbprint, base64url without padding; used as ``kid``."""
    canonical = json.dumps(_members(key), separators=(",", ":"), sort_keys=True)
    return _b64(hashlib.sha256(canonical.encode()).digest())


def public_jwk(key: ec.EllipticCurvePublicKey) -> dict[str, str]:
    """Return the public key with its ``kid``."""
    return {**_members(key), "kid": thumbprint(key)}

"""Signed EARs, down to the signature."""

from __future__ import annotations

from datetime import UTC, datetime

from attestation.wire.ear import verify_ear_jwt

_AT = datetime(2026, 5, 1, tzinfo=UTC)
_KEYS = {
    "keys": [
        {
            "kty": "EC",
            "crv": "P-256",
            "kid": "one",
            "alg": "ES256",
            "x": "axfR8uEsQkf4vOblY6RA8ncDfYEt6zOg9KE5RdiYwpY",
            "y": "T-NC4v4af5uO5-tKfA-eFivOM1drMV7Oy7ZAaDe_UfU",
        }
    ]
}


def run(data: bytes) -> None:
    """Read hostile bytes."""
    verify_ear_jwt(data.decode("utf-8", "replace"), _KEYS, at=_AT)

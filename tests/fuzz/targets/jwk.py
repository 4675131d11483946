"""JSON web keys."""

from __future__ import annotations

from attestation.wire.jwk import key_of, public_jwk
from attestation.wire.strict_json import parse_json


def run(data: bytes) -> None:
    """Read hostile bytes; what is a key is written as it was read."""
    try:
        jwk = parse_json(data)
        key = key_of(jwk) if isinstance(jwk, dict) else None
    except ValueError:
        return
    if key is not None and not public_jwk(key).items() <= jwk.items():
        raise RuntimeError("a key is written otherwise than it was read")

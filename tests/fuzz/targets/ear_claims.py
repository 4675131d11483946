"""EAR claims, as any issuer may write them."""

from __future__ import annotations

from attestation.wire.ear_claims import decode_ear
from attestation.wire.strict_json import parse_json


def run(data: bytes) -> None:
    """Read hostile bytes."""
    try:
        claims = parse_json(data)
    except ValueError:
        return
    if isinstance(claims, dict):
        decode_ear(claims)

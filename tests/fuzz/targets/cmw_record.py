"""CMW records."""

from __future__ import annotations

from attestation.wire.cmw import decode_record


def run(data: bytes) -> None:
    """Read hostile bytes."""
    decode_record(data, limit_bytes=65536)

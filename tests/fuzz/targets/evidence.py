"""Evidence messages (CMW collections)."""

from __future__ import annotations

from attestation.wire.evidence_codec import decode_evidence


def run(data: bytes) -> None:
    """Read hostile bytes."""
    decode_evidence(data)

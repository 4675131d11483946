"""Enrolment requests."""

from __future__ import annotations

from attestation.wire.enrolment_codec import decode_enrolment


def run(data: bytes) -> None:
    """Read hostile bytes."""
    decode_enrolment(data)

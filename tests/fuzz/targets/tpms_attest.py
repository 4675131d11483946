"""TPMS_ATTEST."""

from __future__ import annotations

from attestation.tpm.attest import parse_attest


def run(data: bytes) -> None:
    """Read hostile bytes."""
    parse_attest(data)

"""TPMT_SIGNATURE."""

from __future__ import annotations

from attestation.tpm.signature import parse_signature


def run(data: bytes) -> None:
    """Read hostile bytes."""
    parse_signature(data)

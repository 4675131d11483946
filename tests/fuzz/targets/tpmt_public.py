"""TPMT_PUBLIC and TPM2B_PUBLIC, and what their keys may do."""

from __future__ import annotations

from attestation.tpm.public import parse_public_any, require_attestation_key


def run(data: bytes) -> None:
    """Read hostile bytes."""
    require_attestation_key(parse_public_any(data))

"""TCG-CSR-IDEVID, its keys proven."""

from __future__ import annotations

from attestation.tpm.csr_idevid import parse, prove_device_keys


def run(data: bytes) -> None:
    """Read hostile bytes."""
    prove_device_keys(parse(data))

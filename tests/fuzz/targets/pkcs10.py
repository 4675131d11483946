"""PKCS#10 requests."""

from __future__ import annotations

from attestation.tpm.public import parse_public
from device_agent.ports import KeyRole
from tests.conformance.generate.device import FixedTpm
from verifier.issuance.csr import require_csr_by

_KEY = parse_public(FixedTpm().public_area(KeyRole.LDEVID))


def run(data: bytes) -> None:
    """Read hostile bytes."""
    require_csr_by(data, _KEY)

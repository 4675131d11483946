"""PKCS#10 requests with an enrolment inside, and the names that they ask for."""

from __future__ import annotations

from attestation.wire.attested_csr import names_asked, read_attested_csr
from attestation.wire.csr_attestation import attribute_types


def run(data: bytes) -> None:
    """Read hostile bytes."""
    read_attested_csr(data)
    attribute_types(data)
    names_asked(data)

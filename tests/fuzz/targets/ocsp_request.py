"""An OCSP request, and whether it is about a CA of ours."""

from __future__ import annotations

from typing import Final

from cryptography import x509

from tests.conformance.generate.device import NOW, private_key
from tests.simulators.soft_ca import soft_ca
from verifier.issuance.ocsp import parse_ocsp_request
from verifier.issuance.ocsp_answer import names

CA: Final[x509.Certificate] = soft_ca(NOW, private_key("ocsp-ca")).certificate


def run(data: bytes) -> None:
    """Read hostile bytes."""
    for one in parse_ocsp_request(data).certificates:
        names(CA, one)

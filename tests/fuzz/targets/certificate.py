"""Device certificates and their profiles."""

from __future__ import annotations

from attestation.certificates import (
    check_iak_profile,
    check_idevid_profile,
    parse_certificate,
    spki_der,
)
from attestation.errors import AttestationError


def run(data: bytes) -> None:
    """Read hostile bytes."""
    certificate = parse_certificate(data)
    spki_der(certificate)
    for check in (check_idevid_profile, check_iak_profile):
        try:
            check(certificate)
        except AttestationError:
            continue

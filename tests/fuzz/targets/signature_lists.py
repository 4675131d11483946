"""EFI_SIGNATURE_LIST rows, and the subjects of their certificates."""

from __future__ import annotations

from attestation.uefi.signatures import certificate_subject, parse_signature_lists


def run(data: bytes) -> None:
    """Read hostile bytes."""
    for der in parse_signature_lists(data).certificates:
        certificate_subject(der)

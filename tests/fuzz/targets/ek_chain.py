"""What the NV chain indices hold, and PEM texts."""

from __future__ import annotations

from attestation.ek.certificate import parse_maker_certificate
from attestation.ek.forms import split_chain, split_pem


def run(data: bytes) -> None:
    """Read hostile bytes."""
    for der in split_pem(data) if data[:5] == b"-----" else split_chain(data):
        parse_maker_certificate(der)

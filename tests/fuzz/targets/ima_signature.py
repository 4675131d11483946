"""File signatures of the kernel's ``security.ima``."""

from __future__ import annotations

from attestation.logs.ima.signature import parse_file_signature


def run(data: bytes) -> None:
    """Read hostile bytes."""
    parse_file_signature(data)

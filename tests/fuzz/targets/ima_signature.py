"""File signatures of the kernel's ``security.ima``."""

from __future__ import annotations

from attestation.logs.ima.signature import parse_file_signature, signed_digest
from attestation.logs.ima.template import ImaFile


def run(data: bytes) -> None:
    """Read hostile bytes."""
    made = parse_file_signature(data)
    signed_digest(made, ImaFile(b"verity:sha256:\0" + bytes(32), b"/x"))

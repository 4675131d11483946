"""In-toto statements."""

from __future__ import annotations

from attestation.wire.dsse import read_statement


def run(data: bytes) -> None:
    """Read hostile bytes."""
    read_statement(data)

"""DSSE envelopes with in-toto statements."""

from __future__ import annotations

from attestation.wire.dsse import read_envelope, read_statement
from attestation.wire.strict_json import parse_json


def run(data: bytes) -> None:
    """Read hostile bytes."""
    try:
        document = parse_json(data)
    except ValueError:
        return
    read_statement(read_envelope(document).payload)

"""Requests for, and answers with, a nonce of EST."""

from __future__ import annotations

from attestation.errors import InputError
from attestation.wire.est import decode_nonce_request, decode_nonce_response


def run(data: bytes) -> None:
    """Read hostile bytes."""
    try:
        decode_nonce_request(data)
    except InputError:
        decode_nonce_response(data)

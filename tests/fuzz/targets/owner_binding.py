"""Owners' bindings, and the requests that they sign."""

from __future__ import annotations

from attestation.wire.owner_binding import read_binding_request, read_owner


def run(data: bytes) -> None:
    """Read hostile bytes as either."""
    if data.lstrip()[:1] == b"{":
        read_binding_request(data)
    else:
        read_owner(data.decode("latin-1"))

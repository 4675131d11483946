"""Bodies of EST: base64 around a request or certificates."""

from __future__ import annotations

from attestation.wire.attested_csr import requested_key
from attestation.wire.est import decode_body, read_certs_only


def run(data: bytes) -> None:
    """Read hostile bytes."""
    der = decode_body(data)
    if der[:1] == b"\x30" and b"\x01\x07\x02" in der[:32]:
        read_certs_only(der)
    else:
        requested_key(der)

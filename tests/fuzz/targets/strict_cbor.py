"""The one CBOR door; what it takes, it writes back the same."""

from __future__ import annotations

from attestation.wire import strict_cbor


def run(data: bytes) -> None:
    """Read hostile bytes."""
    value = strict_cbor.decode(data, limit_bytes=65536, structure="fuzz", integer_keys=True)
    if (
        strict_cbor.decode(
            strict_cbor.encode(value), limit_bytes=1 << 20, structure="fuzz", integer_keys=True
        )
        != value
    ):
        raise AssertionError("another value came back")

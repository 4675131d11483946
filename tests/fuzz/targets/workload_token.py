"""Workload identity tokens: everything but the signature, which no fuzzer makes."""

from __future__ import annotations

from datetime import UTC, datetime

from attestation.wire.wit import verify_wit


def run(data: bytes) -> None:
    """Read hostile bytes as a token, signed by nobody."""
    verify_wit(
        data.decode("latin-1"),
        {"keys": []},
        trust_domain="fleet.example",
        at=datetime(2026, 1, 1, tzinfo=UTC),
    )

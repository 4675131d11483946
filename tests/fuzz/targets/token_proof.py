"""Proofs of possession: everything but the signature, which no fuzzer makes."""

from __future__ import annotations

from datetime import UTC, datetime

from attestation.wire.dpop import verify_proof
from tests.conformance.generate.device import private_key

_KEY = private_key("an agent").public_key()


def run(data: bytes) -> None:
    """Read hostile bytes as a proof by a key that never signed them."""
    verify_proof(
        data.decode("latin-1"),
        _KEY,
        target="https://verifier.example/enrol/v1/agents/planner/tokens",
        at=datetime(2026, 1, 1, tzinfo=UTC),
    )

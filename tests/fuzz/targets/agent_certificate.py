"""What certificates of AI agents say."""

from __future__ import annotations

from attestation.agent_certificate import read_agent_claims
from attestation.certificates import parse_certificate


def run(data: bytes) -> None:
    """Read hostile bytes."""
    read_agent_claims(parse_certificate(data))

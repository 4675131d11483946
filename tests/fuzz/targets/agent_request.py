"""Requests of AI agents."""

from __future__ import annotations

from attestation.wire.agent_codec import decode_agent


def run(data: bytes) -> None:
    """Read hostile bytes."""
    decode_agent(data)
